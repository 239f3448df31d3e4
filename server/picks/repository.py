"""Reads and writes of candidate lists and of the mirror. Owns their queries; hands out plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, delete, update
from sqlmodel import Session, col, func, select

from server.picks.tables import CandidateListRow, PickPeriod, PickRow


@dataclass(frozen=True, slots=True)
class StoredList:
    """A published list as it is served."""

    slot_group: str
    epoch: int
    digest: str
    jws: str


@dataclass(frozen=True, slots=True)
class StoredPick:
    """One draw of one device."""

    device: bytes
    slot_group: str
    epoch: int
    answer: bytes
    period: int
    epsilon: float


def find_list(session: Session, slot_group: str, epoch: int) -> StoredList | None:
    """The list of a slot group and epoch."""
    row = session.get(CandidateListRow, (slot_group, epoch))
    return None if row is None else StoredList(row.slot_group, row.epoch, row.digest, row.jws)


def add_list(session: Session, made: StoredList, *, now: int) -> None:
    """Store a list."""
    session.add(
        CandidateListRow(
            slot_group=made.slot_group, epoch=made.epoch, digest=made.digest, jws=made.jws, published_at=now
        )
    )
    session.flush()


def period_key(session: Session, period: int) -> bytes | None:
    """The key of a period, if anybody was charged in it."""
    return session.exec(select(PickPeriod.key).where(PickPeriod.period == period)).first()


def add_period(session: Session, period: int, key: bytes) -> None:
    """Store the key of a period."""
    session.add(PickPeriod(period=period, key=key))
    session.flush()


def drop_before(session: Session, period: int) -> int:
    """Destroy keys and rows of earlier periods; how many rows."""
    session.execute(delete(PickPeriod).where(col(PickPeriod.period) < period))
    return _count(session.execute(delete(PickRow).where(col(PickRow.period) < period)))


def picks_of(session: Session, devices: Iterable[bytes]) -> dict[bytes, list[StoredPick]]:
    """Every draw of these devices in the period of their digests."""
    found: dict[bytes, list[StoredPick]] = {}
    for row in session.exec(select(PickRow).where(col(PickRow.device).in_(list(devices)))):
        found.setdefault(row.device, []).append(
            StoredPick(row.device, row.slot_group, row.epoch, row.answer, row.period, row.epsilon)
        )
    return found


def add_picks(session: Session, fresh: Sequence[StoredPick]) -> None:
    """Store draws."""
    session.add_all(
        PickRow(
            device=one.device,
            slot_group=one.slot_group,
            epoch=one.epoch,
            answer=one.answer,
            period=one.period,
            epsilon=one.epsilon,
        )
        for one in fresh
    )
    session.flush()


def blank(session: Session, device: bytes, answer: bytes, *, epoch: int | None = None) -> int:
    """Put other bytes in the place of a device's answers, of all epochs or of one; how many there were."""
    which = [col(PickRow.device) == device, *([] if epoch is None else [col(PickRow.epoch) == epoch])]
    return _count(session.execute(update(PickRow).where(*which).values(answer=answer)))


def spends(session: Session, period: int) -> list[tuple[float, int]]:
    """Every different total ε of a period, and how many devices have it."""
    totals = (
        select(func.sum(PickRow.epsilon).label("total"))
        .where(PickRow.period == period)
        .group_by(col(PickRow.device))
        .subquery()
    )
    rows = session.exec(select(totals.c.total, func.count()).group_by(totals.c.total).order_by(totals.c.total))
    return [(float(total), int(count)) for total, count in rows]


def charged(session: Session, period: int) -> dict[tuple[str, int], int]:
    """How many devices were charged in a period, by slot group and epoch."""
    keys = (col(PickRow.slot_group), col(PickRow.epoch))
    rows = session.exec(select(*keys, func.count()).where(PickRow.period == period).group_by(*keys))
    return {(slot_group, int(epoch)): int(count) for slot_group, epoch, count in rows}


def lists_from(session: Session, epoch: int) -> list[StoredList]:
    """Every list that was published for an epoch from this one on, by slot group, newest first."""
    place = (col(CandidateListRow.slot_group), col(CandidateListRow.epoch).desc())
    query = select(CandidateListRow).where(col(CandidateListRow.epoch) >= epoch).order_by(*place)
    return [StoredList(row.slot_group, row.epoch, row.digest, row.jws) for row in session.exec(query)]


def _count(result: object) -> int:
    return int(cast("CursorResult[Any]", result).rowcount)
