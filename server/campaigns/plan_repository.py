"""Reads and writes of campaigns and creatives under review. Owns their queries; hands out plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import tuple_
from sqlmodel import Session, col, func, select

from common.taxonomy import PlanKind, RejectionReason, ReviewState
from server.campaigns.tables import PlanRow
from server.campaigns.terms import CampaignTerms, CreativeTerms


@dataclass(frozen=True, slots=True)
class Plan:
    """A campaign or a creative as it is stored; see ``PlanRow`` for the fields."""

    plan_id: str
    kind: PlanKind
    campaign_id: str
    advertiser: str
    state: ReviewState
    revision: int
    terms: CampaignTerms | CreativeTerms
    author: str
    created_at: int
    changed_at: int
    reason: RejectionReason | None = None
    note: str = ""

    @property
    def campaign(self) -> CampaignTerms:
        """The terms of a campaign."""
        return cast("CampaignTerms", self.terms)

    @property
    def creative(self) -> CreativeTerms:
        """The terms of a creative."""
        return cast("CreativeTerms", self.terms)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which plans a list shows; None: whichever."""

    kind: PlanKind
    advertiser: str | None = None
    campaign_id: str | None = None
    state: ReviewState | None = None


def insert(session: Session, plan: Plan) -> None:
    """Store a new plan."""
    session.add(PlanRow(**_columns(plan)))
    session.flush()


def update(session: Session, plan: Plan) -> None:
    """Store a plan that was changed."""
    row = session.get_one(PlanRow, plan.plan_id)
    for name, value in _columns(plan).items():
        setattr(row, name, value)
    session.add(row)
    session.flush()


def delete(session: Session, plan_id: str) -> None:
    """Remove a plan."""
    session.delete(session.get_one(PlanRow, plan_id))
    session.flush()


def plan(session: Session, kind: PlanKind, plan_id: str) -> Plan | None:
    """The campaign or creative of this id."""
    row = session.get(PlanRow, plan_id)
    return None if row is None or row.kind != kind.value else _plan(row)


def listed(session: Session, wanted: Wanted, *, after: tuple[int, str] | None, rows: int) -> Sequence[Plan]:
    """Plans, oldest first, from behind a place on."""
    query = select(PlanRow).where(PlanRow.kind == wanted.kind.value)
    for name in ("advertiser", "campaign_id", "state"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(getattr(PlanRow, name) == value)
    place = (col(PlanRow.created_at), col(PlanRow.plan_id))
    if after is not None:
        query = query.where(tuple_(*place) > after)
    return [_plan(row) for row in session.exec(query.order_by(*place).limit(rows))]


def counts(session: Session) -> dict[tuple[PlanKind, ReviewState], int]:
    """How many campaigns and creatives stand where; what there is none of is left out."""
    query = select(PlanRow.kind, PlanRow.state, func.count()).group_by(col(PlanRow.kind), col(PlanRow.state))
    return {(PlanKind(kind), ReviewState(state)): int(number) for kind, state, number in session.exec(query)}


def approved(session: Session, kind: PlanKind) -> Sequence[Plan]:
    """Every approved campaign or creative, by id."""
    query = select(PlanRow).where(PlanRow.kind == kind.value, PlanRow.state == ReviewState.APPROVED.value)
    return [_plan(row) for row in session.exec(query.order_by(col(PlanRow.plan_id)))]


def creative_ids(session: Session) -> frozenset[str]:
    """The ids of all creatives that belong to campaigns, in whatever state."""
    return frozenset(session.exec(select(PlanRow.plan_id).where(PlanRow.kind == PlanKind.CREATIVE.value)))


def has_creatives(session: Session, campaign_id: str) -> bool:
    """Whether a campaign has any."""
    query = select(PlanRow.plan_id).where(PlanRow.campaign_id == campaign_id, PlanRow.kind == PlanKind.CREATIVE.value)
    return session.exec(query.limit(1)).first() is not None


def _columns(plan: Plan) -> dict[str, Any]:
    values = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    return values | {
        "kind": plan.kind.value,
        "state": plan.state.value,
        "terms": plan.terms.model_dump_json(),
        "reason": None if plan.reason is None else plan.reason.value,
    }


def _plan(row: PlanRow) -> Plan:
    kind = PlanKind(row.kind)
    form: type[CampaignTerms | CreativeTerms] = CampaignTerms if kind is PlanKind.CAMPAIGN else CreativeTerms
    return Plan(
        plan_id=row.plan_id,
        kind=kind,
        campaign_id=row.campaign_id,
        advertiser=row.advertiser,
        state=ReviewState(row.state),
        revision=row.revision,
        terms=form.model_validate_json(row.terms),
        author=row.author,
        created_at=row.created_at,
        changed_at=row.changed_at,
        reason=None if row.reason is None else RejectionReason(row.reason),
        note=row.note,
    )
