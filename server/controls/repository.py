"""Reads and writes of kill switches. Owns their queries; hands out plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlmodel import Session, col, select

from common.taxonomy import ControlScope, Purpose
from server.controls.tables import Control


@dataclass(frozen=True, slots=True)
class Stopped:
    """One thing that is stopped now."""

    scope: ControlScope
    target: str
    stopped_at: int
    stopped_by: str
    note: str


def stopped(session: Session) -> list[Stopped]:
    """Everything that is stopped, by scope and target."""
    rows = session.exec(select(Control).order_by(col(Control.scope), col(Control.target)))
    return [Stopped(ControlScope(row.scope), row.target, row.stopped_at, row.stopped_by, row.note) for row in rows]


def stop(session: Session, wanted: Stopped) -> bool:
    """Stop something; False if it was stopped already."""
    if session.get(Control, (wanted.scope.value, wanted.target)) is not None:
        return False
    session.add(
        Control(
            scope=wanted.scope.value,
            target=wanted.target,
            stopped_at=wanted.stopped_at,
            stopped_by=wanted.stopped_by,
            note=wanted.note,
        )
    )
    session.flush()
    return True


def release(session: Session, scope: ControlScope, target: str) -> bool:
    """Let something run again; False if it was not stopped."""
    row = session.get(Control, (scope.value, target))
    if row is None:
        return False
    session.delete(row)
    session.flush()
    return True


def stopped_purposes(session: Session) -> Callable[[str | None], frozenset[Purpose]]:
    """Purposes that are stopped, by jurisdiction: named ones, or all where the place is stopped.

    None asks what is stopped for everybody.
    """
    held = stopped(session)
    places = {one.target for one in held if one.scope is ControlScope.JURISDICTION}
    named = frozenset(Purpose(one.target) for one in held if one.scope is ControlScope.PURPOSE)

    def of(jurisdiction: str | None) -> frozenset[Purpose]:
        if jurisdiction is not None and places & {jurisdiction, jurisdiction.partition("-")[0]}:
            return frozenset(Purpose)
        return named

    return of


def stopped_campaigns(session: Session) -> frozenset[str]:
    """Campaigns that are stopped."""
    query = select(Control.target).where(Control.scope == ControlScope.CAMPAIGN.value)
    return frozenset(session.exec(query))
