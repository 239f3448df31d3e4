"""Creatives over HTTP: written one by one or filled from a template, previewed as they will look, reviewed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from common.native import native_assets
from common.rendering import fragment
from common.taxonomy import PlanKind, ReviewState
from policies.notices import Locale
from server.api.deps import ServicesDep
from server.api.paging import Page, PageDep, cut, link
from server.api.security import Caller
from server.campaigns.filling import filled
from server.campaigns.plan_answers import (
    CreativeList,
    CreativeOrder,
    CreativeState,
    IfMatch,
    IfMatchMaybe,
    MadeCreatives,
    MoveOrder,
    PlanId,
    ReviewOrder,
    TemplateOrder,
    creative_state,
    revision,
    revision_maybe,
    tagged,
)
from server.campaigns.plan_repository import Plan, Wanted
from server.campaigns.terms import CreativeTerms

router = APIRouter(prefix="/v1/creatives", tags=["campaigns"])
_KIND = PlanKind.CREATIVE
_LIST = "creatives"


class Preview(BaseModel):
    """A creative as it will look."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    html: str = Field(description="Escaped, self-contained, loads nothing.")
    native: dict[str, Any] = Field(description="OpenRTB Native 1.2 response.")


@router.post("", status_code=201)
def create(
    order: Annotated[CreativeOrder, Body()], services: ServicesDep, caller: Caller, response: Response
) -> CreativeState:
    """Write a creative, as a draft."""
    (plan,) = services.plans.create_creatives(order.campaign_id, [order.terms()], caller)
    return _answer(response, plan)


@router.post("/from-template", status_code=201)
def fill(order: Annotated[TemplateOrder, Body()], services: ServicesDep, caller: Caller) -> MadeCreatives:
    """One draft per product: placeholders filled in every language of the template. All of them, or none."""
    made = services.plans.create_creatives(order.campaign_id, filled(order.template, order.products), caller)
    return MadeCreatives(items=tuple(map(creative_state, made)))


@router.get("")
def listed(
    *,
    wanted: PageDep,
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: Caller,
    campaign_id: Annotated[PlanId | None, Query()] = None,
    state: Annotated[ReviewState | None, Query()] = None,
) -> CreativeList:
    """The creatives that the caller may see."""
    place = wanted.after(_LIST, (int, str))
    after = None if place is None else (int(place[0]), str(place[1]))
    asked = Wanted(_KIND, campaign_id=campaign_id, state=state)
    rows = services.plans.listed(asked, caller, after=after, rows=wanted.rows)
    page: Page[Plan] = cut(rows, wanted, _LIST, lambda plan: (plan.created_at, plan.plan_id))
    link(request, response, page)
    return CreativeList(items=page.map(creative_state).items, next_cursor=page.next_cursor)


@router.get("/{creative_id}")
def one(creative_id: str, services: ServicesDep, caller: Caller, response: Response) -> CreativeState:
    """One creative, with its ETag."""
    return _answer(response, services.plans.get(_KIND, creative_id, caller))


@router.get("/{creative_id}/preview")
def preview(creative_id: str, services: ServicesDep, caller: Caller, locale: Locale = "en") -> Preview:
    """How it will look: as HTML, and as the assets of a native ad."""
    creative = services.plans.as_shown(creative_id, caller)
    return Preview(html=fragment(creative, locale), native=native_assets(creative, locale))


@router.put("/{creative_id}")
def change(
    *,
    creative_id: str,
    terms: Annotated[CreativeTerms, Body()],
    services: ServicesDep,
    caller: Caller,
    response: Response,
    if_match: IfMatch,
) -> CreativeState:
    """Other terms: it is a draft again, and in no catalogue until somebody approves it."""
    return _answer(response, services.plans.change(_KIND, creative_id, terms, caller, revision=revision(if_match)))


@router.delete("/{creative_id}", status_code=204)
def remove(creative_id: str, services: ServicesDep, caller: Caller, if_match: IfMatch) -> None:
    """Remove a draft that nobody has reviewed; archive anything else."""
    services.plans.delete(_KIND, creative_id, caller, revision=revision(if_match))


@router.post("/{creative_id}/moves")
def move(
    *,
    creative_id: str,
    order: Annotated[MoveOrder, Body()],
    services: ServicesDep,
    caller: Caller,
    response: Response,
    if_match: IfMatchMaybe = None,
) -> CreativeState:
    """Submit, pause, resume or archive."""
    seen = revision_maybe(if_match)
    return _answer(response, services.plans.move(_KIND, creative_id, order.move, caller, revision=seen))


@router.post("/{creative_id}/review")
def review(
    *,
    creative_id: str,
    order: Annotated[ReviewOrder, Body()],
    services: ServicesDep,
    caller: Caller,
    response: Response,
    if_match: IfMatchMaybe = None,
) -> CreativeState:
    """Approve or reject; nobody approves what they wrote. To reject what is shown takes it down at once."""
    seen = revision_maybe(if_match)
    return _answer(response, services.plans.review(_KIND, creative_id, order.of(), caller, revision=seen))


def _answer(response: Response, plan: Plan) -> CreativeState:
    tagged(response, plan)
    return creative_state(plan)
