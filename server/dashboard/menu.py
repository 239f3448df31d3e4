"""The desk's table of contents. Owns its order and which role sees what of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.taxonomy import Role
from server.dashboard.door import PAGES


@dataclass(frozen=True, slots=True)
class Item:
    """One page."""

    path: str
    name: str
    current: bool


_MENU: Final = (
    (
        "Today",
        (
            ("/", "Overview"),
            ("/requests", "Requests"),
            ("/review", "Review of ads"),
            ("/experiments", "Experiments"),
            ("/caps", "Cap changes"),
            ("/controls", "Stops"),
        ),
    ),
    (
        "Evidence",
        (
            ("/budgets", "Privacy budgets"),
            ("/picks", "Private picks"),
            ("/releases", "Releases"),
            ("/consent", "Consent"),
            ("/placements", "Placements"),
            ("/log", "Log"),
        ),
    ),
    (
        "Papers",
        (
            ("/exports", "Exports"),
            ("/reports/ropa", "Record of processing"),
            ("/reports/dpia", "DPIA"),
            ("/reports/pipia", "PIPIA"),
            ("/reports/consent", "Consent report"),
        ),
    ),
)


def menu(role: Role, path: str) -> list[tuple[str, list[Item]]]:
    """Groups of pages that this role may open; the one that is open is marked."""
    found = []
    for group, pages in _MENU:
        items = [Item(f"/desk{to}", name, _current(to, path)) for to, name in pages if _may(role, to)]
        if items:
            found.append((group, items))
    return found


def _may(role: Role, page: str) -> bool:
    template = "/reports/{name}" if page.startswith("/reports/") else page
    return role in PAGES[("GET", template)]


def _current(page: str, path: str) -> bool:
    here = path.removeprefix("/desk") or "/"
    return here == page or (page != "/" and not page.startswith("/reports/") and here.startswith(page + "/"))
