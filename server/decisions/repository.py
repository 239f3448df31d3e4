"""Reads and writes of decisions and follow-ups. Owns their queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from common.taxonomy import DecisionMode, FollowUp, RefusalReason
from server.decisions.tables import DecidedPosition, FollowUpRow


@dataclass(frozen=True, slots=True)
class Decided:
    """What was answered for one position; the creative only where the service chose it."""

    slot_id: str
    position: int
    mode: DecisionMode
    reason: RefusalReason | None
    outcome: str
    creative_id: str | None


@dataclass(frozen=True, slots=True)
class Basis:
    """What a decision was made with."""

    catalogue_version: int | None
    model_version: int | None
    policy_digest: str


@dataclass(frozen=True, slots=True)
class PositionKey:
    """One position of one decision."""

    decision_id: str
    slot_id: str
    position: int


def insert(session: Session, decision_id: str, decided: Sequence[Decided], basis: Basis, *, now: int) -> None:
    """Record a decision."""
    session.add_all(
        DecidedPosition(
            decision_id=decision_id,
            slot_id=line.slot_id,
            position=line.position,
            mode=line.mode.value,
            reason=None if line.reason is None else line.reason.value,
            outcome=line.outcome,
            creative_id=line.creative_id,
            catalogue_version=basis.catalogue_version,
            model_version=basis.model_version,
            policy_digest=basis.policy_digest,
            decided_at=now,
        )
        for line in decided
    )


def lock_position(session: Session, key: PositionKey) -> bool:
    """Whether this position was decided here; other transactions over it wait."""
    query = select(DecidedPosition).where(
        DecidedPosition.decision_id == key.decision_id,
        DecidedPosition.slot_id == key.slot_id,
        DecidedPosition.position == key.position,
    )
    return session.exec(query.with_for_update()).first() is not None


def follow_ups(session: Session, key: PositionKey) -> dict[FollowUp, int]:
    """When each follow-up of a position was confirmed."""
    query = select(FollowUpRow).where(
        FollowUpRow.decision_id == key.decision_id,
        FollowUpRow.slot_id == key.slot_id,
        FollowUpRow.position == key.position,
    )
    return {FollowUp(row.follow_up): row.confirmed_at for row in session.exec(query)}


def add_follow_up(session: Session, key: PositionKey, follow_up: FollowUp, *, now: int) -> None:
    """Record one follow-up."""
    session.add(
        FollowUpRow(
            decision_id=key.decision_id,
            slot_id=key.slot_id,
            position=key.position,
            follow_up=follow_up.value,
            confirmed_at=now,
        )
    )


def tally(session: Session) -> Counter[tuple[str, str]]:
    """Positions by mode and reason (``permitted`` where there is none)."""
    query = select(DecidedPosition.mode, DecidedPosition.reason, func.count()).group_by(
        DecidedPosition.mode, col(DecidedPosition.reason)
    )
    return Counter({(mode, reason or "permitted"): count for mode, reason, count in session.exec(query)})


def tally_follow_ups(session: Session) -> Counter[str]:
    """Confirmed follow-ups by kind."""
    query = select(FollowUpRow.follow_up, func.count()).group_by(FollowUpRow.follow_up)
    return Counter(dict(session.exec(query).all()))
