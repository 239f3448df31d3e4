"""Rows of the privacy ledger. Owns every statement that reads or writes one, and how rows become typed lines.

What the tables are is ``client.store.ledger_schema``. Decides nothing.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from client.store.keys import DeviceId
from client.store.ledger_chain import MODULUS, as_bytes, as_number, seal, sum_of_seals
from common.privacy.parameters import MechanismUse
from common.taxonomy import PrivacyUnit, Purpose, RefusalReason, ReleaseKind

SpendKey = tuple[tuple[int, int], ...]
"""What one device has spent: (use, times) in ascending order of uses. Devices with equal keys have equal budgets."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One release of one device, complete in itself. ``day`` counts days since the epoch; no finer time is kept.

    Attributes:
        charge: number of the reservation it belongs to.
        period: number of the budget period (the epoch of its budget).
        use: mechanism, parameters, unit, neighbouring relation, trust model.
        times: how many such releases this line stands for; above 1 on the tombstone of an erased device alone.
        epsilon: ε at ``delta`` of this line alone, without amplification by who else took part.
        rho: zero-concentrated ρ of this line; None where the accountant composes privacy loss distributions only.
    """

    charge: int
    device: DeviceId
    cause: str
    kind: ReleaseKind
    period: int
    day: int
    state: Literal["reserved", "settled"]
    use: MechanismUse
    times: int
    randomness: str
    epsilon: float
    rho: float | None
    delta: float

    @property
    def purpose(self) -> Purpose:
        """What for."""
        return self.kind.purpose

    @property
    def whole_use(self) -> MechanismUse:
        """The use with everything this line stands for counted."""
        return times_over(self.use, self.times)


@dataclass(frozen=True, slots=True)
class LedgerRefusal:
    """Releases that the ledger did not allow, kept so that the owner is told.

    Attributes:
        unit: of the line that would have passed its bound.
        bound: ``cap``, or the purpose whose quota it was.
    """

    device: DeviceId
    cause: str
    purpose: Purpose
    day: int
    unit: PrivacyUnit
    bound: str
    epsilon_would_be: float
    epsilon_max: float

    @property
    def reason(self) -> RefusalReason:
        """The closed reason that goes with every refusal of a ledger."""
        return RefusalReason.BUDGET_EXHAUSTED


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One release of a charge, as stored."""

    use: int
    times: int
    epsilon: float
    rho: float | None
    delta: float


@dataclass(frozen=True, slots=True)
class Charge:
    """One charge, as stored: what it is for and a digest of who was charged."""

    id: int
    cause: str
    period: int
    day: int
    randomness: str
    releases: tuple[ReleaseRow, ...]
    devices: int = 0
    members: int = 0

    def sealed(self, key: bytes, uses: Mapping[int, bytes]) -> int:
        """Keyed digest of the whole charge; ``uses`` are the descriptions by number."""
        head = (self.id, self.cause, self.period, self.day, self.randomness, self.devices)
        lines = [
            part
            for row in self.releases
            for part in (uses[row.use], repr((row.times, row.epsilon, row.rho, row.delta)).encode())
        ]
        return as_number(seal(key, b"charge", repr(head).encode(), as_bytes(self.members), *lines))


class Uses:
    """Kinds and uses by number, read once: they are never changed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Read them from an opened ledger as they are asked for."""
        self._connection = connection
        self._known: dict[int, tuple[ReleaseKind, MechanismUse]] = {}
        self._text: dict[int, bytes] = {}

    def number(self, kind: ReleaseKind, use: MechanismUse) -> int:
        """The number of a use; a new one is written."""
        text = use.model_dump_json(exclude_none=True)
        query = "SELECT id FROM uses WHERE kind = ? AND description = ?"
        row = self._connection.execute(query, (kind.value, text)).fetchone()
        if row is None:
            insert = "INSERT INTO uses (kind, description) VALUES (?, ?) RETURNING id"
            row = self._connection.execute(insert, (kind.value, text)).fetchone()
        return int(row[0])

    def __getitem__(self, number: int) -> tuple[ReleaseKind, MechanismUse]:
        """Kind and use of a number."""
        if number not in self._known:
            query = "SELECT kind, description FROM uses WHERE id = ?"
            kind, text = self._connection.execute(query, (number,)).fetchone()
            self._known[number] = (ReleaseKind(kind), MechanismUse.model_validate_json(text))
            self._text[number] = f"{kind} {text}".encode()
        return self._known[number]

    def texts(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Descriptions by number, as they are sealed."""
        return {number: self._text_of(number) for number in numbers}

    def _text_of(self, number: int) -> bytes:
        self[number]
        return self._text[number]

    def spent(self, key: SpendKey) -> list[tuple[Purpose, MechanismUse]]:
        """What a spend key stands for, in the words of the budget filter."""
        return [(self[use][0].purpose, times_over(self[use][1], times)) for use, times in key]


def times_over(use: MechanismUse, times: int) -> MechanismUse:
    """``times`` such uses as one."""
    return use if times == 1 else use.model_copy(update={"count": use.count * times})


# ── devices that are asked about ─────────────────────────────────────────────────────────────────────────────────────


def ask(connection: sqlite3.Connection, names: Sequence[DeviceId], *, create: bool = True) -> dict[int, DeviceId]:
    """Make these devices the ones that the next queries are about; devices by number. ``create`` numbers new ones."""
    connection.execute("DELETE FROM temp.asked")
    rows = [(name,) for name in names]
    if create:
        connection.executemany("INSERT INTO devices (name) VALUES (?) ON CONFLICT (name) DO NOTHING", rows)
    connection.executemany("INSERT OR IGNORE INTO temp.asked SELECT id FROM devices WHERE name = ?", rows)
    found = connection.execute("SELECT id, name FROM temp.asked CROSS JOIN devices ON id = device")
    return {number: DeviceId(name) for number, name in found}


def leave_out(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Ask about these devices no longer."""
    connection.executemany("DELETE FROM temp.asked WHERE device = ?", ((number,) for number in numbers))


def asked_in(connection: sqlite3.Connection, charge: int) -> list[int]:
    """Devices asked about that have an entry of this charge."""
    query = "SELECT e.device FROM temp.asked a CROSS JOIN entries e ON e.charge = ? AND e.device = a.device"
    return [number for (number,) in connection.execute(query, (charge,))]


def asked_spend(connection: sqlite3.Connection, period: int) -> dict[int, SpendKey]:
    """What each device asked about has spent in a period; devices without spend are absent."""
    query = (
        "SELECT s.device, s.use, s.times FROM temp.asked a "
        "CROSS JOIN spend s ON s.device = a.device AND s.period = ? ORDER BY s.device, s.use"
    )
    found: dict[int, list[tuple[int, int]]] = {}
    for device, use, times in connection.execute(query, (period,)):
        found.setdefault(device, []).append((use, times))
    return {device: tuple(pairs) for device, pairs in found.items()}


def charge_asked(connection: sqlite3.Connection, charge: Charge) -> None:
    """Write an entry of ``charge`` for every device asked about, and count it into their spend."""
    connection.execute("INSERT INTO entries (charge, device) SELECT ?, device FROM temp.asked", (charge.id,))
    counted: Counter[int] = Counter()
    for row in charge.releases:
        counted[row.use] += row.times
    for use, times in counted.items():
        connection.execute(
            "INSERT INTO spend (device, period, use, times) SELECT device, ?, ?, ? FROM temp.asked WHERE TRUE "
            "ON CONFLICT (device, period, use) DO UPDATE SET times = times + excluded.times",
            (charge.period, use, times),
        )


def spend_of(connection: sqlite3.Connection, device: DeviceId, period: int) -> SpendKey:
    """What one device has spent in a period: one indexed read."""
    query = (
        "SELECT s.use, s.times FROM devices d CROSS JOIN spend s ON s.device = d.id AND s.period = ? "
        "WHERE d.name = ? ORDER BY s.use"
    )
    return tuple(connection.execute(query, (period, device)).fetchall())


def spends(connection: sqlite3.Connection, period: int) -> list[tuple[SpendKey, int]]:
    """Every different spend of a period, and how many devices have it."""
    rows = connection.execute(
        "SELECT uses, COUNT(*) FROM (SELECT group_concat(use || ' ' || times) AS uses FROM "
        "(SELECT device, use, times FROM spend WHERE period = ? ORDER BY device, use) GROUP BY device) GROUP BY uses",
        (period,),
    ).fetchall()
    pairs = [([part.split() for part in text.split(",")], count) for text, count in rows]
    return [(tuple((int(use), int(times)) for use, times in key), count) for key, count in pairs]


# ── charges ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def charges(connection: sqlite3.Connection, *, cause: str | None = None) -> Iterator[Charge]:
    """Charges, or those of one cause, in order."""
    query = (
        "SELECT id, cause, period, day, randomness, devices, members FROM charges "
        "WHERE (?1 IS NULL OR cause = ?1) ORDER BY id"
    )
    for number, text, period, day, randomness, devices, members in connection.execute(query, (cause,)).fetchall():
        rows = releases(connection, number)
        yield Charge(number, text, period, day, randomness, rows, devices, as_number(members))


def releases(connection: sqlite3.Connection, charge: int) -> tuple[ReleaseRow, ...]:
    """The releases of one charge, in order."""
    query = "SELECT use, times, epsilon, rho, delta FROM releases WHERE charge = ? ORDER BY position"
    return tuple(ReleaseRow(*row) for row in connection.execute(query, (charge,)))


def open_charge(connection: sqlite3.Connection, draft: Charge) -> Charge:
    """Write a new charge that has no devices yet; ``draft.id`` is ignored."""
    (number,) = connection.execute(
        "INSERT INTO charges (cause, period, day, randomness, devices, members, seal) VALUES (?,?,?,?,0,x'',x'') "
        "RETURNING id",
        (draft.cause, draft.period, draft.day, draft.randomness),
    ).fetchone()
    connection.executemany(
        "INSERT INTO releases (charge, position, use, times, epsilon, rho, delta) VALUES (?,?,?,?,?,?,?)",
        [
            (number, position, row.use, row.times, row.epsilon, row.rho, row.delta)
            for position, row in enumerate(draft.releases)
        ],
    )
    return Charge(number, draft.cause, draft.period, draft.day, draft.randomness, draft.releases)


def close_charge(connection: sqlite3.Connection, charge: Charge, *, key: bytes, uses: Uses) -> int:
    """Store who is in a charge by now, or drop a charge that nobody is in; returns by how much the digest changes."""
    (before,) = connection.execute("SELECT seal FROM charges WHERE id = ?", (charge.id,)).fetchone()
    old = as_number(before) if before else 0
    if charge.devices == 0:
        connection.execute("DELETE FROM charges WHERE id = ?", (charge.id,))
        return -old
    new = charge.sealed(key, uses.texts(row.use for row in charge.releases))
    connection.execute(
        "UPDATE charges SET devices = ?, members = ?, seal = ? WHERE id = ?",
        (charge.devices, as_bytes(charge.members), as_bytes(new), charge.id),
    )
    return new - old


def member(key: bytes, charge: int, names: Iterable[DeviceId]) -> int:
    """Digest of devices as members of a charge."""
    return sum_of_seals(key, b"member %d" % charge, names)


def reseal(connection: sqlite3.Connection, uses: Uses, key: bytes) -> int:
    """Seal everything that stands with this key; returns the digest of it all."""
    for charge in list(charges(connection)):
        closed = replace(charge, members=member(key, charge.id, names_in(connection, charge.id)))
        close_charge(connection, closed, key=key, uses=uses)
    seals = connection.execute("SELECT seal FROM charges").fetchall()
    return (sum(as_number(value) for (value,) in seals) + exhaustion(connection, key)) % MODULUS


def exhaustion(connection: sqlite3.Connection, key: bytes) -> int:
    """Digest of the marks that periods count as spent."""
    marks = connection.execute("SELECT period, day FROM exhausted").fetchall()
    return sum(as_number(seal(key, b"exhausted", b"%d %d" % mark)) for mark in marks)


def names_in(connection: sqlite3.Connection, charge: int) -> Iterator[DeviceId]:
    """Devices with an entry of a charge."""
    query = "SELECT d.name FROM entries e CROSS JOIN devices d ON d.id = e.device WHERE e.charge = ?"
    return (DeviceId(name) for (name,) in connection.execute(query, (charge,)))


def settle(connection: sqlite3.Connection, charge: int, cause: str, names: Sequence[DeviceId]) -> bool:
    """Mark entries as released; False unless every one of them stands."""
    if connection.execute("SELECT 1 FROM charges WHERE id = ? AND cause = ?", (charge, cause)).fetchone() is None:
        return False
    cursor = connection.executemany(
        "UPDATE entries SET settled = 1 WHERE charge = ? AND device = (SELECT id FROM devices WHERE name = ?)",
        ((charge, name) for name in names),
    )
    return cursor.rowcount == len(names)


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────────


def entries(connection: sqlite3.Connection, uses: Uses, device: DeviceId | None = None) -> Iterator[LedgerEntry]:
    """Lines of one device, or of all; oldest first."""
    number = None if device is None else _number(connection, device)
    if device is not None and number is None:
        return
    one = "" if number is None else "AND e.device = ?"
    query = (
        "SELECT c.id, d.name, c.cause, c.period, c.day, c.randomness, e.settled, r.use, r.times, r.epsilon, r.rho, "  # noqa: S608 - constants
        f"r.delta FROM charges c CROSS JOIN entries e ON e.charge = c.id {one} CROSS JOIN devices d ON d.id = e.device "
        "CROSS JOIN releases r ON r.charge = c.id ORDER BY c.id, e.device, r.position"
    )
    for row in connection.execute(query, () if number is None else (number,)):
        charge, name, cause, period, day, randomness, settled, use, times, epsilon, rho, delta = row
        kind, described = uses[use]
        yield LedgerEntry(
            charge=charge,
            device=DeviceId(name),
            cause=cause,
            kind=kind,
            period=period,
            day=day,
            state="settled" if settled else "reserved",
            use=described,
            times=times,
            randomness=randomness,
            epsilon=epsilon,
            rho=rho,
            delta=delta,
        )


def deny_asked(connection: sqlite3.Connection, refusal: LedgerRefusal, numbers: Iterable[int]) -> None:
    """Write down releases that were not allowed, for these devices; ``refusal.device`` is ignored."""
    row = (
        *(refusal.cause, refusal.purpose.value, refusal.day, refusal.unit.value, refusal.bound),
        *(refusal.epsilon_would_be, refusal.epsilon_max),
    )
    columns = "cause, purpose, day, unit, bound, epsilon_would_be, epsilon_max"
    connection.execute(
        f"INSERT INTO denials ({columns}) VALUES (?,?,?,?,?,?,?) ON CONFLICT ({columns}) DO NOTHING",  # noqa: S608 - constants
        row,
    )
    (denial,) = connection.execute(
        "SELECT id FROM denials WHERE cause = ? AND purpose = ? AND day = ? AND unit = ? AND bound = ? "
        "AND epsilon_would_be = ? AND epsilon_max = ?",
        row,
    ).fetchone()
    connection.executemany(
        "INSERT OR IGNORE INTO refused (denial, device) VALUES (?, ?)", ((denial, number) for number in numbers)
    )


def refusals(connection: sqlite3.Connection, device: DeviceId | None) -> list[LedgerRefusal]:
    """Releases of one device, or of all, that were not allowed; oldest first."""
    rows = connection.execute(
        "SELECT d.name, n.cause, n.purpose, n.day, n.unit, n.bound, n.epsilon_would_be, n.epsilon_max FROM denials n "
        "CROSS JOIN refused r ON r.denial = n.id CROSS JOIN devices d ON d.id = r.device "
        "WHERE ?1 IS NULL OR d.name = ?1 ORDER BY n.id, r.device",
        (device,),
    )
    return [
        LedgerRefusal(DeviceId(name), cause, Purpose(purpose), day, PrivacyUnit(unit), bound, would_be, most)
        for name, cause, purpose, day, unit, bound, would_be, most in rows
    ]


def _number(connection: sqlite3.Connection, device: DeviceId) -> int | None:
    row: tuple[int] | None = connection.execute("SELECT id FROM devices WHERE name = ?", (device,)).fetchone()
    return row[0] if row else None
