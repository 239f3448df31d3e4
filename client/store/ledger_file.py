"""The file of the privacy ledger. Owns how it is opened, and how format 1 is brought forward without losing spend.

Format 1 held one row per device and release, of one line, without chain or anchor.
"""

from __future__ import annotations

import itertools
import secrets
import sqlite3
from pathlib import Path
from typing import Any, Final

from client.store import ledger_table as table
from client.store.database import connect
from client.store.keys import DeviceId
from client.store.ledger_chain import MODULUS, Anchor, Chain
from client.store.ledger_schema import ASKED, FORMAT, SCHEMA
from client.store.ledger_table import Charge, LedgerRefusal, ReleaseRow, Uses
from common.errors import StoreError
from common.privacy import accountant
from common.privacy.parameters import MechanismUse
from common.taxonomy import PrivacyUnit, Purpose, ReleaseKind

WHAT: Final = "the privacy ledger"
_OLD: Final = 1
_OLD_USE: Final = "mechanism, noise_multiplier, sampling_rate, uses, unit, relation, trust"
_OLD_HEAD: Final = "cause, period, day, randomness, epsilon, delta"
_OLD_FIELDS: Final = ("mechanism", "noise_multiplier", "sampling_rate", "count", "unit", "relation", "trust")


def open_ledger(path: Path, anchor: Anchor) -> sqlite3.Connection:
    """Open the ledger; make an absent one, bring one of format 1 forward.

    Raises:
        VaultCorrupt: damaged, or of a format that this program does not read.
        StoreError: busy, unreadable or unwritable.
    """

    def upgrade(connection: sqlite3.Connection) -> None:
        _bring_forward(connection, anchor)

    connection = connect(path, SCHEMA, version=FORMAT, what=WHAT, upgrades={_OLD: upgrade})
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(ASKED)
    return connection


def set_aside(path: Path) -> Path:
    """Move a file that cannot be read out of the way, with what SQLite keeps beside it; returns where it is now.

    Raises:
        StoreError: it cannot be moved.
    """
    ending = f".damaged-{secrets.token_hex(4)}"
    try:
        for part in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
            if part.exists():
                part.rename(part.with_name(part.name + ending))
    except OSError as error:
        raise StoreError(f"{path.name} cannot be moved away ({error.strerror})") from None
    return path.with_name(path.name + ending)


def _bring_forward(connection: sqlite3.Connection, anchor: Anchor) -> None:
    """Format 1 to 2, inside one transaction. The same file gives the same ledger: a copy of it is recognised later."""
    for name in ("entries", "refusals"):
        connection.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    connection.execute("DROP TRIGGER a_charge_is_never_changed")
    for statement in split(SCHEMA):
        connection.execute(statement)
    connection.execute(ASKED)
    if anchor.read() is None:
        anchor.create()
    changes = [*_carry_entries(connection, anchor.key)]
    _carry_refusals(connection)
    for name in ("entries", "refusals"):
        connection.execute(f"DROP TABLE old_{name}")
    connection.execute("DROP TABLE temp.asked")
    if changes:
        (period,) = connection.execute("SELECT MAX(period) FROM charges").fetchone()
        Chain(connection, anchor).extend("format 1", sum(changes) % MODULUS, period=period)


def _carry_entries(connection: sqlite3.Connection, key: bytes) -> list[int]:
    """Old entries as charges, one for each cause, day and use; returns the changes of the digest."""
    uses = Uses(connection)
    kind = ReleaseKind.TRAINING_UPDATE  # the only thing that was ever released under format 1
    rows = connection.execute(
        f"SELECT device, state, {_OLD_HEAD}, {_OLD_USE} FROM old_entries ORDER BY {_OLD_HEAD}, {_OLD_USE}, id"  # noqa: S608 - constants
    ).fetchall()
    changes = []
    for number, (head, group) in enumerate(itertools.groupby(rows, key=lambda row: row[2:])):
        cause, period, day, randomness, epsilon, delta, *described = head
        use = MechanismUse.model_validate(dict(zip(_OLD_FIELDS, described, strict=True)))
        members = list(group)
        release = ReleaseRow(uses.number(kind, use), 1, epsilon, accountant.rho([use]), delta)
        # One cause may have had several uses, which are several charges now: their causes must differ.
        twice = connection.execute("SELECT 1 FROM charges WHERE cause = ?", (cause,)).fetchone()
        draft = Charge(0, f"{cause}#{number}" if twice else cause, period, day, randomness, (release,))
        changes.append(_carry_charge(connection, draft, members, key=key, uses=uses))
    return changes


def _carry_charge(connection: sqlite3.Connection, draft: Charge, members: list[Any], *, key: bytes, uses: Uses) -> int:
    charge = table.open_charge(connection, draft)
    names = [DeviceId(row[0]) for row in members]
    table.ask(connection, names)
    table.charge_asked(connection, charge)
    table.settle(connection, charge.id, charge.cause, [DeviceId(row[0]) for row in members if row[1] == "settled"])
    closed = Charge(
        id=charge.id,
        cause=charge.cause,
        period=charge.period,
        day=charge.day,
        randomness=charge.randomness,
        releases=charge.releases,
        devices=len(names),
        members=table.member(key, charge.id, names),
    )
    return table.close_charge(connection, closed, key=key, uses=uses)


def _carry_refusals(connection: sqlite3.Connection) -> None:
    columns = "device, cause, purpose, day, epsilon_would_be, epsilon_cap"
    rows = connection.execute(f"SELECT {columns} FROM old_refusals ORDER BY id").fetchall()  # noqa: S608 - constants
    for device, cause, purpose, day, would_be, cap in rows:
        (number,) = table.ask(connection, [DeviceId(device)])
        refusal = LedgerRefusal(
            device=DeviceId(device),
            cause=cause,
            purpose=Purpose(purpose),
            day=day,
            unit=PrivacyUnit.RECORD,
            bound="cap",
            epsilon_would_be=would_be,
            epsilon_max=cap,
        )
        table.deny_asked(connection, refusal, [number])


def split(schema: str) -> list[str]:
    """The statements of a schema, one by one: a script would end the transaction it runs in."""
    statements, pending = [], ""
    for part in schema.split(";"):
        pending += part
        if sqlite3.complete_statement(pending + ";"):
            statements.append(pending)
            pending = ""
        else:
            pending += ";"
    return [*statements, pending] if pending.strip() else statements
