"""Reads and writes of privacy officers' caps. Owns their queries; hands out plain values, never rows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, desc, select

from common.taxonomy import CapState, PrivacyUnit
from server.ledger.tables import LedgerCap


@dataclass(frozen=True, slots=True)
class Cap:
    """One bound that was proposed; see ``LedgerCap``."""

    id: int
    unit: PrivacyUnit
    bound: str
    epsilon_max: float
    state: CapState
    reason: str
    proposed_by: str
    proposed_at: int
    expires_at: int
    decided_by: str | None = None
    decided_at: int | None = None
    log_seq: int | None = None


def add(session: Session, cap: Cap) -> int:
    """Write a new one; ``cap.id`` is ignored. Its number."""
    row = LedgerCap(
        unit=cap.unit.value,
        bound=cap.bound,
        epsilon_max=cap.epsilon_max,
        state=cap.state.value,
        reason=cap.reason,
        proposed_by=cap.proposed_by,
        proposed_at=cap.proposed_at,
        expires_at=cap.expires_at,
        decided_by=cap.decided_by,
        decided_at=cap.decided_at,
    )
    session.add(row)
    session.flush()
    return row.id or 0


def get(session: Session, number: int) -> Cap | None:
    """One of them."""
    row = session.get(LedgerCap, number)
    return None if row is None else _cap(row)


def newest_first(session: Session, *, before: int | None, limit: int) -> list[Cap]:
    """A page, newest first."""
    query = select(LedgerCap).order_by(desc(col(LedgerCap.id))).limit(limit)
    if before is not None:
        query = query.where(col(LedgerCap.id) < before)
    return [_cap(row) for row in session.exec(query)]


def in_state(session: Session, state: CapState) -> list[Cap]:
    """All in one state, oldest first."""
    query = select(LedgerCap).where(LedgerCap.state == state.value).order_by(col(LedgerCap.id))
    return [_cap(row) for row in session.exec(query)]


def decide(session: Session, number: int, state: CapState, *, by: str, now: int) -> None:
    """Store what became of one, and who decided it."""
    row = session.get_one(LedgerCap, number)
    row.state, row.decided_by, row.decided_at = state.value, by, now
    session.add(row)
    session.flush()


def set_state(session: Session, number: int, state: CapState) -> None:
    """Store a state that nobody decided: replaced or expired."""
    row = session.get_one(LedgerCap, number)
    row.state = state.value
    session.add(row)
    session.flush()


def set_log_seq(session: Session, number: int, seq: int) -> None:
    """Store where the transparency log speaks of it."""
    row = session.get_one(LedgerCap, number)
    row.log_seq = seq
    session.add(row)
    session.flush()


def _cap(row: LedgerCap) -> Cap:
    return Cap(
        id=row.id or 0,
        unit=PrivacyUnit(row.unit),
        bound=row.bound,
        epsilon_max=row.epsilon_max,
        state=CapState(row.state),
        reason=row.reason,
        proposed_by=row.proposed_by,
        proposed_at=row.proposed_at,
        expires_at=row.expires_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        log_seq=row.log_seq,
    )
