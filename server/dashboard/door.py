"""Who may open which page. Owns the desk's table of roles, its form tokens and the refusal of foreign forms.

Default deny: a page that is not in the table opens for nobody. Auditors read; admins see nothing about subjects.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from common.errors import NotAllowed
from common.taxonomy import Role
from server.api.deps import ServicesDep
from server.api.security import ACCESS
from server.dashboard.sessions import Visitor

COOKIE: Final = "reticent_desk"
DOOR_COOKIE: Final = "reticent_desk_door"
TOKEN_FIELD: Final = "form_token"  # noqa: S105 - a field's name

_OPEN: Final[frozenset[Role]] = frozenset()
_OFFICER: Final = frozenset({Role.PRIVACY_OFFICER})
_READERS: Final = frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR})
_ALL: Final = frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR, Role.ADMIN})


def _as_api(method: str, endpoint: str) -> frozenset[Role]:
    """Who at the desk may do what this endpoint of the API does: its rule, not a second one."""
    return ACCESS[(method, endpoint)] & _ALL


PAGES: Final[Mapping[tuple[str, str], frozenset[Role]]] = {
    ("GET", "/static/{name}"): _OPEN,
    ("GET", "/language"): _OPEN,
    ("GET", "/sign-in"): _OPEN,
    ("POST", "/sign-in"): _OPEN,
    ("POST", "/sign-out"): _ALL,
    ("GET", "/"): _ALL,
    ("GET", "/budgets"): _READERS,
    ("GET", "/releases"): _ALL,
    ("GET", "/releases/{version}"): _ALL,
    ("GET", "/consent"): _READERS,
    ("GET", "/search"): _READERS,
    ("GET", "/requests"): _READERS,
    ("GET", "/requests/{request_id}"): _READERS,
    ("POST", "/requests/{request_id}"): _OFFICER,
    ("GET", "/caps"): _READERS,
    ("POST", "/caps"): _OFFICER,
    ("POST", "/caps/{change_id}"): _OFFICER,
    ("GET", "/controls"): _READERS,
    ("POST", "/controls"): _OFFICER,
    ("POST", "/controls/release"): _OFFICER,
    ("GET", "/review"): _as_api("GET", "/v1/creatives"),
    ("GET", "/review/{plan_id}"): _as_api("GET", "/v1/creatives/{creative_id}"),
    ("GET", "/review/{plan_id}/preview"): _as_api("GET", "/v1/creatives/{creative_id}/preview"),
    ("POST", "/review/{plan_id}"): _as_api("POST", "/v1/creatives/{creative_id}/review"),
    ("POST", "/review/{plan_id}/moves"): _as_api("POST", "/v1/creatives/{creative_id}/moves"),
    ("GET", "/placements"): _as_api("GET", "/v1/placements"),
    ("POST", "/placements/{slot_id}/removal"): _as_api("DELETE", "/v1/placements/{slot_id}"),
    ("GET", "/experiments"): _as_api("GET", "/v1/experiments/{experiment_id}/report"),
    ("POST", "/experiments/{experiment_id}/stop"): _as_api("POST", "/v1/experiments/{experiment_id}/stop"),
    ("POST", "/changes/{number}"): _as_api("POST", "/v1/changes/{number}/approve"),
    ("GET", "/picks"): _as_api("GET", "/v1/ledger"),
    ("GET", "/log"): _ALL,
    ("POST", "/log/verify"): _ALL,
    ("GET", "/exports"): _READERS,
    ("GET", "/exports/{name}"): _READERS,
    ("GET", "/reports/{name}"): _READERS,
}


class SignInNeeded(Exception):
    """Nobody is signed in; ``wanted`` is the page to go on to."""

    def __init__(self, wanted: str) -> None:
        super().__init__("sign in")
        self.wanted = wanted


class FormRefused(NotAllowed):
    """A form that was not made for this session, or that another site sent."""


async def admit(request: Request, services: ServicesDep) -> Visitor | None:
    """The signed-in visitor, if the table lets them open this page; None where anybody may.

    Raises:
        SignInNeeded: nobody is signed in.
        NotAllowed: the role may not, or the page is not in the table.
        FormRefused: a POST without this session's token, or from another site.
    """
    allowed = PAGES.get((request.method, request.scope["route"].path))
    if allowed is None:
        raise NotAllowed("this page is open to nobody")
    if request.method == "POST":
        refuse_foreign(request)
    if allowed is _OPEN:
        return None
    cookie = request.cookies.get(COOKIE, "")
    visitor = await run_in_threadpool(services.desk.visitor, cookie)
    if visitor is None:
        raise SignInNeeded(request.url.path if request.method == "GET" else "")
    if visitor.role not in allowed:
        raise NotAllowed("this role may not open this page")
    if request.method == "POST":
        token = (await request.form()).get(TOKEN_FIELD)
        if not isinstance(token, str) or not services.desk.form_token_is(cookie, token):
            raise FormRefused("the form was not made for this session; load the page again")
    return visitor


def refuse_foreign(request: Request) -> None:
    """A form must come from our own pages, as the browser says in its headers.

    Raises:
        FormRefused: the browser names another site.
    """
    site, origin = request.headers.get("sec-fetch-site", "same-origin"), request.headers.get("origin")
    if site not in {"same-origin", "none"} or (origin and urlsplit(origin).netloc != request.headers.get("host")):
        raise FormRefused("the form came from another site")


def signed_in(visitor: Annotated[Visitor | None, Depends(admit)]) -> Visitor:
    """The visitor of a page that is not open to everybody."""
    if visitor is None:
        raise NotAllowed("this page needs a session")
    return visitor


def check_complete(pages: AbstractSet[tuple[str, str]]) -> None:
    """Raise unless the table and the pages are the same."""
    if pages != set(PAGES):
        raise RuntimeError(f"pages without roles or roles without pages: {sorted(pages ^ set(PAGES))}")
