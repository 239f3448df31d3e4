"""Review of campaigns and creatives: the queue, each with its preview, and the verdict. The API's services decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Form, Path, Query, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from common.errors import MalformedInput
from common.rendering import fragment, text_in
from common.taxonomy import PlanKind, PlanMove, RejectionReason, ReviewState
from policies.notices import LOCALES, Locale
from server.campaigns.compiling import in_date
from server.campaigns.plan_answers import PLAN_ID, ReviewOrder
from server.campaigns.plan_repository import Plan, Wanted
from server.dashboard.desk import HEADERS, Desk, DeskDep
from server.dashboard.door import PAGES

router = APIRouter()
PAGE: Final = 50
PlanId = Annotated[str, Path(pattern=PLAN_ID)]
Revision = Annotated[int, Form(ge=1, le=999_999_999)]
_PREVIEW_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'; "
    "sandbox"
)
_PREVIEW_HEADERS: Final = HEADERS | {"content-security-policy": _PREVIEW_POLICY, "x-frame-options": "SAMEORIGIN"}
_FRAMING: Final = {"content-security-policy": f"{HEADERS['content-security-policy']}; frame-src 'self'"}
_MOVED: Final = {PlanMove.PAUSE: "plan-paused", PlanMove.RESUME: "plan-resumed"}


@dataclass(frozen=True, slots=True)
class Row:
    """A campaign or creative in a list, by a name that people know it by."""

    plan: Plan
    name: str


@router.get("/review")
def queue(
    desk: DeskDep,
    kind: Annotated[PlanKind, Query()] = PlanKind.CREATIVE,
    state: Annotated[ReviewState | None, Query()] = None,
    after: Annotated[str, Query(pattern=r"^([0-9]{1,12}~c(mp|rv)_[0-9a-f]{20})?$")] = "",
) -> Response:
    """What waits for a reviewer, what waited longest first; then everything, by kind and state."""
    counts = desk.services.plans.counts()
    rows = _listed(desk, Wanted(kind, state=state), after=after, rows=PAGE + 1)
    return desk.page(
        "review.html",
        waiting=[row for one in PlanKind for row in _listed(desk, Wanted(one, state=ReviewState.SUBMITTED))],
        waiting_count=sum(number for (_, at), number in counts.items() if at is ReviewState.SUBMITTED),
        counts={(one, at): counts.get((one, at), 0) for one in PlanKind for at in ReviewState},
        kinds=tuple(PlanKind),
        states=tuple(ReviewState),
        kind=kind,
        state=state,
        rows=rows[:PAGE],
        more=_place(rows[PAGE - 1].plan) if len(rows) > PAGE else "",
        may=_may(desk),
    )


@router.get("/review/{plan_id}")
def plan(desk: DeskDep, plan_id: PlanId) -> Response:
    """One campaign or creative: what it says, how it will look, and what this visitor may decide."""
    caller, kind = desk.visitor.principal, _kind(plan_id)
    found = desk.services.plans.get(kind, plan_id, caller)
    campaign = desk.services.plans.get(PlanKind.CAMPAIGN, found.campaign_id, caller)
    opened = desk.services.catalogues.opened()
    creatives = Wanted(PlanKind.CREATIVE, campaign_id=plan_id)
    answer = desk.page(
        "plan.html",
        plan=found,
        name=_name(found, desk.say.locale),
        campaign=campaign,
        in_date=in_date(campaign.campaign, int(desk.now)),
        languages=_languages(found),
        shown=opened is not None and plan_id in {one.creative_id for one in opened.creatives},
        creatives=_listed(desk, creatives, rows=1000) if kind is PlanKind.CAMPAIGN else [],
        reasons=tuple(RejectionReason),
        may=_may(desk),
    )
    answer.headers.update(_FRAMING)
    return answer


@router.get("/review/{plan_id}/preview")
def preview(desk: DeskDep, plan_id: PlanId, locale: Annotated[str, Query(max_length=16)] = "en") -> Response:
    """The creative as people would see it, alone in a page that runs, loads and submits nothing."""
    html = fragment(desk.services.plans.as_shown(plan_id, desk.visitor.principal), locale)
    language = escape(locale, quote=True)
    head = f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{language}</title></head>'
    return HTMLResponse(f"{head}<body>{html}</body></html>", 200, _PREVIEW_HEADERS)


@router.post("/review/{plan_id}")
def decide(
    *,
    desk: DeskDep,
    plan_id: PlanId,
    revision: Revision,
    verdict: Annotated[Literal[PlanMove.APPROVE, PlanMove.REJECT], Form()],
    reason: Annotated[RejectionReason | None, Form()] = None,
    note: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Approve or reject the very revision that was looked at."""
    try:
        order = ReviewOrder(verdict=verdict, reason=reason, note=note.strip())
    except ValidationError:
        raise MalformedInput("a rejection has a reason, an approval has none") from None
    desk.services.plans.review(_kind(plan_id), plan_id, order.of(), desk.visitor.principal, revision=revision)
    return desk.back(f"/review/{plan_id}", "plan-approved" if verdict is PlanMove.APPROVE else "plan-rejected")


@router.post("/review/{plan_id}/moves")
def move(
    desk: DeskDep,
    plan_id: PlanId,
    revision: Revision,
    move: Annotated[Literal[PlanMove.PAUSE, PlanMove.RESUME], Form()],
) -> Response:
    """Pause or resume, as the API lets this role."""
    desk.services.plans.move(_kind(plan_id), plan_id, move, desk.visitor.principal, revision=revision)
    return desk.back(f"/review/{plan_id}", _MOVED[move])


def _may(desk: Desk) -> dict[str, bool]:
    """What the table of pages lets this visitor do with a plan."""
    role = desk.visitor.role
    return {
        "review": role in PAGES[("POST", "/review/{plan_id}")],
        "move": role in PAGES[("POST", "/review/{plan_id}/moves")],
    }


def _listed(desk: Desk, wanted: Wanted, *, after: str = "", rows: int = 100) -> Sequence[Row]:
    moment, _, plan_id = after.partition("~")
    place = (int(moment), plan_id) if after else None
    found = desk.services.plans.listed(wanted, desk.visitor.principal, after=place, rows=rows)
    return [Row(one, _name(one, desk.say.locale)) for one in found]


def _place(plan: Plan) -> str:
    return f"{plan.created_at}~{plan.plan_id}"


def _kind(plan_id: str) -> PlanKind:
    return PlanKind.CAMPAIGN if plan_id.startswith("cmp_") else PlanKind.CREATIVE


def _name(plan: Plan, locale: Locale) -> str:
    if plan.kind is PlanKind.CAMPAIGN:
        return plan.campaign.name
    return text_in({tongue: text.title for tongue, text in plan.creative.texts.items()}, locale)


def _languages(plan: Plan) -> tuple[str, ...]:
    """Languages that the preview is shown in: ours, and what else the creative speaks."""
    return () if plan.kind is PlanKind.CAMPAIGN else tuple(dict.fromkeys((*LOCALES, *plan.creative.texts)))
