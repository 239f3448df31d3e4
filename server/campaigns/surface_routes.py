"""Placements over HTTP: offered by the operator, read by whoever plans campaigns or asks for decisions."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from server.api.deps import ServicesDep
from server.api.paging import Page, PageDep, cut, link
from server.api.security import Caller
from server.campaigns.plan_answers import IfMatch, revision
from server.campaigns.surface_repository import SLOT_ID, StoredSurface, SurfaceTerms

router = APIRouter(prefix="/v1/placements", tags=["campaigns"])
_LIST: Final = "placements"


class SurfaceOrder(SurfaceTerms):
    """A new placement."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"slot_id": "home.top", "name": "Top of the home page", "blocked_categories": ["alcohol"]}]
        }
    )
    slot_id: str = Field(pattern=SLOT_ID, description="As decision requests name it.")

    def terms(self) -> SurfaceTerms:
        """The terms alone."""
        return SurfaceTerms.model_validate(self.model_dump(exclude={"slot_id"}))


class SurfaceState(BaseModel):
    """A placement."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    slot_id: str
    revision: int
    changed_at: int
    terms: SurfaceTerms

    @classmethod
    def of(cls, stored: StoredSurface) -> SurfaceState:
        """For the answer."""
        return cls(slot_id=stored.slot_id, revision=stored.revision, changed_at=stored.changed_at, terms=stored.terms)


class SurfaceList(BaseModel):
    """A page of placements, by slot."""

    items: tuple[SurfaceState, ...]
    next_cursor: str | None


@router.post("", status_code=201)
def create(
    order: Annotated[SurfaceOrder, Body()], services: ServicesDep, caller: Caller, response: Response
) -> SurfaceState:
    """Offer a placement; its rules are in the signed catalogue from now on."""
    return _answer(response, services.surfaces.create(order.slot_id, order.terms(), caller))


@router.get("")
def listed(
    wanted: PageDep, request: Request, response: Response, services: ServicesDep, _caller: Caller
) -> SurfaceList:
    """Every placement that is offered."""
    place = wanted.after(_LIST, (str,))
    rows = services.surfaces.listed(after=None if place is None else str(place[0]), rows=wanted.rows)
    page: Page[StoredSurface] = cut(rows, wanted, _LIST, lambda surface: (surface.slot_id,))
    link(request, response, page)
    return SurfaceList(items=page.map(SurfaceState.of).items, next_cursor=page.next_cursor)


@router.get("/{slot_id}")
def one(slot_id: str, services: ServicesDep, _caller: Caller, response: Response) -> SurfaceState:
    """One placement, with its ETag."""
    return _answer(response, services.surfaces.get(slot_id))


@router.put("/{slot_id}")
def change(
    *,
    slot_id: str,
    terms: Annotated[SurfaceTerms, Body()],
    services: ServicesDep,
    caller: Caller,
    response: Response,
    if_match: IfMatch,
) -> SurfaceState:
    """Other terms."""
    return _answer(response, services.surfaces.change(slot_id, terms, caller, revision=revision(if_match)))


@router.delete("/{slot_id}", status_code=204)
def remove(slot_id: str, services: ServicesDep, caller: Caller, if_match: IfMatch) -> None:
    """Offer it no more."""
    services.surfaces.remove(slot_id, caller, revision=revision(if_match))


def _answer(response: Response, stored: StoredSurface) -> SurfaceState:
    response.headers["etag"] = f'"{stored.revision}"'
    return SurfaceState.of(stored)
