"""Placements that apps offer: what each takes and refuses."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form, Path, Query, Response

from server.campaigns.surface_repository import SLOT_ID
from server.dashboard.desk import DeskDep
from server.dashboard.door import PAGES

router = APIRouter()
PAGE: Final = 100


@router.get("/placements")
def placements(desk: DeskDep, after: Annotated[str | None, Query(pattern=SLOT_ID, max_length=64)] = None) -> Response:
    """All of them, by slot."""
    rows = desk.services.surfaces.listed(after=after, rows=PAGE + 1)
    return desk.page(
        "placements.html",
        rows=rows[:PAGE],
        more=rows[PAGE - 1].slot_id if len(rows) > PAGE else "",
        may_remove=desk.visitor.role in PAGES[("POST", "/placements/{slot_id}/removal")],
    )


@router.post("/placements/{slot_id}/removal")
def remove(
    desk: DeskDep,
    slot_id: Annotated[str, Path(pattern=SLOT_ID)],
    revision: Annotated[int, Form(ge=1, le=999_999_999)],
) -> Response:
    """Offer the very revision that was looked at no more."""
    desk.services.surfaces.remove(slot_id, desk.visitor.principal, revision=revision)
    return desk.back("/placements", "placement-removed")
