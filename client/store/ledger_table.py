"""Rows of the privacy ledger. Owns the table's columns and how a row becomes a typed line; decides nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from client.store.keys import DeviceId
from common.privacy.accountant import Line
from common.privacy.parameters import MechanismUse
from common.taxonomy import Purpose, RefusalReason

FORMAT: Final = 1
SCHEMA: Final = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, cause TEXT NOT NULL, purpose TEXT NOT NULL,
    period INTEGER NOT NULL, day INTEGER NOT NULL, state TEXT NOT NULL CHECK (state IN ('reserved', 'settled')),
    mechanism TEXT NOT NULL, noise_multiplier REAL NOT NULL, sampling_rate REAL NOT NULL, uses INTEGER NOT NULL,
    unit TEXT NOT NULL, relation TEXT NOT NULL, trust TEXT NOT NULL, randomness TEXT NOT NULL,
    epsilon REAL NOT NULL, epsilon_total REAL NOT NULL, delta REAL NOT NULL, UNIQUE (device, cause)) STRICT;
CREATE INDEX entries_by_period ON entries (period, device);
CREATE TABLE refusals (
    id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, cause TEXT NOT NULL, purpose TEXT NOT NULL,
    day INTEGER NOT NULL, reason TEXT NOT NULL, epsilon_would_be REAL NOT NULL,
    epsilon_cap REAL NOT NULL) STRICT;
CREATE TRIGGER a_charge_is_never_changed
BEFORE UPDATE OF device, period, mechanism, noise_multiplier, sampling_rate, uses, epsilon, epsilon_total ON entries
BEGIN SELECT RAISE(ABORT, 'a charge is never changed'); END
"""
_USE: Final = "mechanism, noise_multiplier, sampling_rate, uses, unit, relation, trust"
_HEAD: Final = "device, cause, purpose, period, day, state"
_COLUMNS: Final = f"id, {_HEAD}, {_USE}, randomness, epsilon, epsilon_total, delta"


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One line of the ledger. ``day`` counts days since the epoch; no finer time is kept."""

    entry: int
    device: DeviceId
    cause: str
    purpose: Purpose
    period: int
    day: int
    state: Literal["reserved", "settled"]
    use: MechanismUse
    randomness: str
    epsilon: float
    epsilon_total: float
    delta: float


@dataclass(frozen=True, slots=True)
class LedgerRefusal:
    """One release that the ledger did not allow, kept so that its owner is told."""

    device: DeviceId
    cause: str
    purpose: Purpose
    day: int
    reason: RefusalReason
    epsilon_would_be: float
    epsilon_cap: float


def read_entries(
    connection: sqlite3.Connection, *, device: DeviceId | None = None, cause: str | None = None
) -> list[LedgerEntry]:
    """Lines of one device or one cause, or all; oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM entries WHERE (?1 IS NULL OR device = ?1) AND (?2 IS NULL OR cause = ?2) ORDER BY id",  # noqa: S608 - constants
        (device, cause),
    )
    return [_entry(row) for row in rows]


def insert_entry(connection: sqlite3.Connection, entry: LedgerEntry) -> int:
    """Write a new line, whose own ``entry`` number is ignored; return the number it got."""
    use = entry.use
    cursor = connection.execute(
        f"INSERT INTO entries ({_COLUMNS}) VALUES (NULL, ?,?,?,?,?,?, ?,?,?,?,?,?,?, ?,?,?,?) RETURNING id",  # noqa: S608 - constants
        (
            *(entry.device, entry.cause, entry.purpose.value, entry.period, entry.day, entry.state),
            *(use.mechanism.value, use.noise_multiplier, use.sampling_rate, use.count),
            *(use.unit.value, use.relation.value, use.trust.value),
            *(entry.randomness, entry.epsilon, entry.epsilon_total, entry.delta),
        ),
    )
    return int(cursor.fetchone()[0])


def read_spent(
    connection: sqlite3.Connection, period: int, line: Line, device: DeviceId | None = None
) -> dict[DeviceId, list[MechanismUse]]:
    """What each device was charged for on one line in a period, equal uses merged; devices without are absent."""
    rows = connection.execute(
        "SELECT device, mechanism, noise_multiplier, sampling_rate, SUM(uses), unit, relation, trust FROM entries "
        "WHERE period = ?1 AND unit = ?2 AND relation = ?3 AND trust = ?4 AND (?5 IS NULL OR device = ?5) "
        "GROUP BY device, mechanism, noise_multiplier, sampling_rate, unit, relation, trust",
        (period, line.unit.value, line.relation.value, line.trust.value, device),
    ).fetchall()
    spent: dict[DeviceId, list[MechanismUse]] = {}
    known: dict[tuple[Any, ...], MechanismUse] = {}
    for name, *columns in rows:
        key = tuple(columns)
        if key not in known:
            known[key] = _use(key)
        spent.setdefault(DeviceId(name), []).append(known[key])
    return spent


def insert_refusal(connection: sqlite3.Connection, refusal: LedgerRefusal) -> None:
    """Write down a release that was not allowed."""
    connection.execute(
        "INSERT INTO refusals (device, cause, purpose, day, reason, epsilon_would_be, epsilon_cap) "
        "VALUES (?,?,?,?,?,?,?)",
        (
            *(refusal.device, refusal.cause, refusal.purpose.value, refusal.day),
            *(refusal.reason.value, refusal.epsilon_would_be, refusal.epsilon_cap),
        ),
    )


def read_refusals(connection: sqlite3.Connection, device: DeviceId | None) -> list[LedgerRefusal]:
    """Releases of one device, or of all, that were not allowed; oldest first."""
    rows = connection.execute(
        "SELECT device, cause, purpose, day, reason, epsilon_would_be, epsilon_cap FROM refusals "
        "WHERE ?1 IS NULL OR device = ?1 ORDER BY id",
        (device,),
    )
    return [
        LedgerRefusal(DeviceId(name), cause, Purpose(purpose), day, RefusalReason(reason), would_be, cap)
        for name, cause, purpose, day, reason, would_be, cap in rows
    ]


def _use(columns: Sequence[Any]) -> MechanismUse:
    names = ("mechanism", "noise_multiplier", "sampling_rate", "count", "unit", "relation", "trust")
    return MechanismUse.model_validate(dict(zip(names, columns, strict=True)))


def _entry(row: Sequence[Any]) -> LedgerEntry:
    number, device, cause, purpose, period, day, state = row[:7]
    randomness, epsilon, epsilon_total, delta = row[14:]
    return LedgerEntry(
        entry=number,
        device=DeviceId(device),
        cause=cause,
        purpose=Purpose(purpose),
        period=period,
        day=day,
        state=state,
        use=_use(row[7:14]),
        randomness=randomness,
        epsilon=epsilon,
        epsilon_total=epsilon_total,
        delta=delta,
    )
