"""Reads and writes of decisions and follow-ups. Owns their queries."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlmodel import Session, col, func, select

from common.taxonomy import FollowUp
from server.decisions.cursor import Cursor
from server.decisions.tables import DecidedPosition, FollowUpRow

Row = tuple[
    str,
    str,
    int,
    str,
    str | None,
    str,
    str | None,
    float | None,
    int | None,
    int | None,
    str,
    str | None,
    str | None,
    int,
]
"""One decided position: the values of ``COLUMNS``; the creative only where the service chose it."""

COLUMNS: Final = (
    "decision_id",
    "slot_id",
    "position",
    "mode",
    "reason",
    "outcome",
    "creative_id",
    "propensity",
    "catalogue_version",
    "model_version",
    "policy_digest",
    "experiment",
    "arm",
    "decided_at",
)
_ROWS_PER_STATEMENT: Final = 64


class PositionKey(NamedTuple):
    """One position of one decision."""

    decision_id: str
    slot_id: str
    position: int


def insert_many(cursor: Cursor, rows: Sequence[Row], *, lite: bool) -> None:
    """Record decided positions, on a bare cursor; SQLite takes many in one statement, which costs one step."""
    if not lite:
        cursor.executemany(_statement(1, "%s"), rows)
        return
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        part = rows[start : start + _ROWS_PER_STATEMENT]
        cursor.execute(_statement(len(part), "?"), list(itertools.chain.from_iterable(part)))


@functools.cache
def _statement(rows: int, mark: str) -> str:
    row = f"({', '.join([mark] * len(COLUMNS))})"
    return f"INSERT INTO decision ({', '.join(COLUMNS)}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - our names


@dataclass(frozen=True, slots=True)
class DecidedCreative:
    """What the service chose for a position; empty where it chose nothing, or left it to the device.

    Attributes:
        catalogue_version: where the creative is described as it was shown.
    """

    creative_id: str
    catalogue_version: int | None


def lock_position(session: Session, key: PositionKey) -> DecidedCreative | None:
    """What was decided here for this position; None if nothing was. Other transactions over it wait."""
    query = select(DecidedPosition).where(
        DecidedPosition.decision_id == key.decision_id,
        DecidedPosition.slot_id == key.slot_id,
        DecidedPosition.position == key.position,
    )
    row = session.exec(query.with_for_update()).first()
    return None if row is None else DecidedCreative(row.creative_id or "", row.catalogue_version)


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


@dataclass(frozen=True, slots=True)
class ArmTally:
    """What the decisions of one arm led to; one decision may have several views."""

    decisions: int
    views: int
    rewards: dict[FollowUp, int]


def arm_tallies(session: Session, experiment: str) -> dict[str, ArmTally]:
    """Decisions and follow-ups of an experiment by its digest, where the service drew the arm."""
    drawn = col(DecidedPosition.arm).is_not(None), DecidedPosition.experiment == experiment
    sizes = select(DecidedPosition.arm, func.count(func.distinct(DecidedPosition.decision_id))).where(*drawn)
    followed = (
        select(DecidedPosition.arm, FollowUpRow.follow_up, func.count())
        .join(
            FollowUpRow,
            (col(FollowUpRow.decision_id) == DecidedPosition.decision_id)
            & (col(FollowUpRow.slot_id) == DecidedPosition.slot_id)
            & (col(FollowUpRow.position) == DecidedPosition.position),
        )
        .where(*drawn)
        .group_by(col(DecidedPosition.arm), FollowUpRow.follow_up)
    )
    counted = {(arm, FollowUp(kind)): count for arm, kind, count in session.exec(followed)}
    return {
        arm: ArmTally(
            decisions, counted.get((arm, FollowUp.IMPRESSION), 0), {k: counted.get((arm, k), 0) for k in FollowUp}
        )
        for arm, decisions in session.exec(sizes.group_by(col(DecidedPosition.arm)))
        if arm is not None
    }
