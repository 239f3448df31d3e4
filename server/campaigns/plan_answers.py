"""What is asked and answered about campaigns and creatives. Owns the forms; ETag and If-Match hold the revision."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from fastapi import Header, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.errors import PreconditionFailed
from common.taxonomy import PlanMove, RejectionReason, ReviewState
from server.access.service import HOLDER
from server.campaigns.plan_repository import Plan
from server.campaigns.plans import Verdict
from server.campaigns.templates import CreativeTemplate
from server.campaigns.terms import CampaignTerms, CreativeTerms, Name

_FROZEN: Final = ConfigDict(frozen=True, extra="forbid")
_NOTE: Final = r"^[^\x00]*$"
IfMatch = Annotated[str, Header(max_length=200, description='ETag of what was read, as "3".', examples=['"1"'])]
IfMatchMaybe = Annotated[
    str | None,
    Header(
        max_length=200,
        description='ETag of what was looked at, as "3"; another revision is refused then. Absent: whatever it is.',
        examples=['"3"'],
    ),
]
_TAG: Final = re.compile(r'"([1-9][0-9]{0,8})"')
PLAN_ID: Final = r"^c(mp|rv)_[0-9a-f]{20}$"
PlanId = Annotated[str, Field(pattern=PLAN_ID)]


class CampaignOrder(CampaignTerms):
    """A new campaign."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Autumn",
                    "payer": "Demo Grocer Ltd.",
                    "landing_url": "https://shop.example/autumn",
                    "starts_at": 1_800_000_000,
                    "ends_at": 1_802_592_000,
                    "budget_micros": 500_000_000,
                    "bid_micros": 250_000,
                }
            ]
        }
    )
    advertiser: Annotated[str, Field(pattern=HOLDER)] | None = Field(
        default=None, description="For whom an admin plans; an advertiser plans for themself."
    )

    def terms(self) -> CampaignTerms:
        """The terms alone."""
        return CampaignTerms.model_validate(self.model_dump(exclude={"advertiser"}))


class CreativeOrder(CreativeTerms):
    """A new creative."""

    campaign_id: PlanId

    def terms(self) -> CreativeTerms:
        """The terms alone."""
        return CreativeTerms.model_validate(self.model_dump(exclude={"campaign_id"}))


class Product(BaseModel):
    """Public facts about one product."""

    model_config = _FROZEN
    item_id: Name
    category: Name
    attributes: dict[str, str] = Field(default_factory=dict, max_length=30)
    numbers: dict[str, float] = Field(default_factory=dict, max_length=30)


class TemplateOrder(BaseModel):
    """A template and the products that fill it: one creative each."""

    model_config = _FROZEN
    campaign_id: PlanId
    template: CreativeTemplate
    products: tuple[Product, ...] = Field(min_length=1, max_length=100)


class MoveOrder(BaseModel):
    """What its owner does with a campaign or creative."""

    model_config = _FROZEN
    move: Literal[PlanMove.SUBMIT, PlanMove.PAUSE, PlanMove.RESUME, PlanMove.ARCHIVE]


class ReviewOrder(BaseModel):
    """A reviewer's verdict. A rejection has a reason; an approval has none."""

    model_config = _FROZEN
    verdict: Literal[PlanMove.APPROVE, PlanMove.REJECT]
    reason: RejectionReason | None = None
    note: str = Field(
        default="", max_length=500, pattern=_NOTE, description="For the advertiser; it goes into the log."
    )

    @model_validator(mode="after")
    def _reasoned(self) -> Self:
        if (self.verdict is PlanMove.REJECT) is not (self.reason is not None):
            raise ValueError("a rejection has a reason, an approval has none")
        return self

    def of(self) -> Verdict:
        """In the service's words."""
        return Verdict(self.verdict, self.reason, self.note)


class PlanState(BaseModel):
    """Where something stands."""

    model_config = _FROZEN
    campaign_id: str
    advertiser: str
    state: ReviewState
    revision: int
    created_at: int
    changed_at: int
    reason: RejectionReason | None = Field(description="Of the last rejection.")
    note: str


class CampaignState(PlanState):
    """A campaign."""

    terms: CampaignTerms


class CreativeState(PlanState):
    """A creative."""

    creative_id: str
    terms: CreativeTerms


class CampaignList(BaseModel):
    """A page of campaigns, oldest first."""

    items: tuple[CampaignState, ...]
    next_cursor: str | None


class CreativeList(BaseModel):
    """A page of creatives, oldest first."""

    items: tuple[CreativeState, ...]
    next_cursor: str | None


class MadeCreatives(BaseModel):
    """Creatives that a template made, in the order of the products."""

    items: tuple[CreativeState, ...]


def campaign_state(plan: Plan) -> CampaignState:
    """For the answer."""
    return CampaignState(**_common(plan), terms=plan.campaign)


def creative_state(plan: Plan) -> CreativeState:
    """For the answer."""
    return CreativeState(**_common(plan), creative_id=plan.plan_id, terms=plan.creative)


def tagged(response: Response, plan: Plan) -> None:
    """Say which revision this is."""
    response.headers["etag"] = f'"{plan.revision}"'


def revision(if_match: str) -> int:
    """The revision that the caller has seen.

    Raises:
        PreconditionFailed: the header holds no entity tag of ours.
    """
    found = _TAG.fullmatch(if_match.strip())
    if found is None:
        raise PreconditionFailed("If-Match takes the ETag of what was read")
    return int(found[1])


def revision_maybe(if_match: str | None) -> int | None:
    """The revision that the caller has looked at, where it says one.

    Raises:
        PreconditionFailed: the header is there and holds no entity tag of ours.
    """
    return None if if_match is None else revision(if_match)


def _common(plan: Plan) -> dict[str, Any]:
    names = ("campaign_id", "advertiser", "state", "revision", "created_at", "changed_at", "reason", "note")
    return {name: getattr(plan, name) for name in names}
