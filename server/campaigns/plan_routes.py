"""Campaigns over HTTP: an advertiser's own, reviewed by somebody else."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response

from common.taxonomy import PlanKind, ReviewState
from server.api.deps import ServicesDep
from server.api.paging import Page, PageDep, cut, link
from server.api.security import Caller
from server.campaigns.plan_answers import (
    CampaignList,
    CampaignOrder,
    CampaignState,
    IfMatch,
    IfMatchMaybe,
    MoveOrder,
    ReviewOrder,
    campaign_state,
    revision,
    revision_maybe,
    tagged,
)
from server.campaigns.plan_repository import Plan, Wanted
from server.campaigns.terms import CampaignTerms

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])
_KIND = PlanKind.CAMPAIGN
_LIST = "campaigns"


@router.post("", status_code=201)
def create(
    order: Annotated[CampaignOrder, Body()], services: ServicesDep, caller: Caller, response: Response
) -> CampaignState:
    """Plan a campaign, as a draft."""
    return _answer(response, services.plans.create_campaign(order.terms(), caller, order.advertiser))


@router.get("")
def listed(
    *,
    wanted: PageDep,
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: Caller,
    state: Annotated[ReviewState | None, Query()] = None,
) -> CampaignList:
    """The campaigns that the caller may see: an advertiser's own, all for those who review."""
    place = wanted.after(_LIST, (int, str))
    after = None if place is None else (int(place[0]), str(place[1]))
    rows = services.plans.listed(Wanted(_KIND, state=state), caller, after=after, rows=wanted.rows)
    page: Page[Plan] = cut(rows, wanted, _LIST, lambda plan: (plan.created_at, plan.plan_id))
    link(request, response, page)
    return CampaignList(items=page.map(campaign_state).items, next_cursor=page.next_cursor)


@router.get("/{campaign_id}")
def one(campaign_id: str, services: ServicesDep, caller: Caller, response: Response) -> CampaignState:
    """One campaign, with its ETag."""
    return _answer(response, services.plans.get(_KIND, campaign_id, caller))


@router.put("/{campaign_id}")
def change(
    *,
    campaign_id: str,
    terms: Annotated[CampaignTerms, Body()],
    services: ServicesDep,
    caller: Caller,
    response: Response,
    if_match: IfMatch,
) -> CampaignState:
    """Other terms. Dates, money and caps change at once; whatever a reviewer looked at makes it a draft again."""
    return _answer(response, services.plans.change(_KIND, campaign_id, terms, caller, revision=revision(if_match)))


@router.delete("/{campaign_id}", status_code=204)
def remove(campaign_id: str, services: ServicesDep, caller: Caller, if_match: IfMatch) -> None:
    """Remove a draft without creatives that nobody has reviewed; archive anything else."""
    services.plans.delete(_KIND, campaign_id, caller, revision=revision(if_match))


@router.post("/{campaign_id}/moves")
def move(
    *,
    campaign_id: str,
    order: Annotated[MoveOrder, Body()],
    services: ServicesDep,
    caller: Caller,
    response: Response,
    if_match: IfMatchMaybe = None,
) -> CampaignState:
    """Submit, pause, resume or archive. What is paused is in no catalogue from now on."""
    seen = revision_maybe(if_match)
    return _answer(response, services.plans.move(_KIND, campaign_id, order.move, caller, revision=seen))


@router.post("/{campaign_id}/review")
def review(
    *,
    campaign_id: str,
    order: Annotated[ReviewOrder, Body()],
    services: ServicesDep,
    caller: Caller,
    response: Response,
    if_match: IfMatchMaybe = None,
) -> CampaignState:
    """Approve or reject; nobody approves what they wrote. To reject what runs takes it down at once."""
    seen = revision_maybe(if_match)
    return _answer(response, services.plans.review(_KIND, campaign_id, order.of(), caller, revision=seen))


def _answer(response: Response, plan: Plan) -> CampaignState:
    tagged(response, plan)
    return campaign_state(plan)
