"""Charges against the transparency log: dropped, edited, back-dated and slipped-in rows come to light."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from common.crypto.signing import SigningKey
from server import migrations
from server.ledger.logged import compare
from server.ledger.packing import pack_members
from server.ledger.service import ServerLedger
from server.storage import Database, open_database
from server.transparency.service import TransparencyLog
from tests.ledger.worlds import NOW, POLICY, ROUND

INSERTION = (
    "INSERT INTO ledger_charge (cause, run_id, period, day, members, devices, unnamed, barred) "
    "VALUES ('x', 'run', 1, 1, :members, 1, 0, 0)"
)
DEVICES = [bytes([number]) * 32 for number in range(1, 5)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path}/l.db")
    migrations.migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def ledger(database: Database) -> ServerLedger:
    """One charge from before there was a log, then five with it."""
    ServerLedger(database, POLICY, now=lambda: NOW).reserve("old", "before", ROUND, DEVICES)
    found = ServerLedger(database, POLICY, now=lambda: NOW, log=TransparencyLog(database, SigningKey.generate()))
    for number in range(5):
        found.reserve("run", f"s{number}", ROUND, DEVICES[: 2 + number % 3])
    found.reserve("run", "s1", ROUND, DEVICES)
    found.settle("s2", DEVICES[:2])
    return found


def do(database: Database, statement: str, **values: object) -> None:
    with database.write() as session:
        session.execute(text(statement), values)


def test_an_honest_ledger_fits_its_log(ledger: ServerLedger) -> None:
    assert compare(ledger) == ()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE ledger_charge SET day = day - 1 WHERE id = 3", "row 3 is not what entry"),
        ("UPDATE ledger_charge SET period = period - 1 WHERE id = 4", "row 4 is not what entry"),
        ("UPDATE ledger_charge SET run_id = 'other' WHERE id = 2", "row 2 is not what entry"),
        ("UPDATE ledger_charge SET settled = NULL WHERE id = 4", "row 4 is not what entry"),
        ("UPDATE ledger_charge SET members = :members WHERE id = 5", "row 5 is not what entry"),
        ("UPDATE ledger_release SET epsilon = epsilon / 2 WHERE charge_id = 6", "row 6 is not what entry"),
        ("UPDATE ledger_use SET description = :description", "row 2 is not what entry"),
        ("DELETE FROM ledger_release WHERE charge_id = 3 AND position = 1", "row 3 is not what entry"),
        ("DELETE FROM ledger_charge WHERE id = 6", "row 6 is in the log (entry 4) and not in the ledger"),
        (INSERTION, "row 7 is in the ledger and not in the log"),
        ("UPDATE log_record SET record = replace(record, 'run', 'ran')", "log: entry 0 does not open"),
    ],
)
def test_what_was_changed_afterwards_is_named(
    ledger: ServerLedger, database: Database, statement: str, said: str
) -> None:
    with database.read() as session:
        use = json.loads(session.execute(text("SELECT description FROM ledger_use")).scalars().first() or "")
    description = json.dumps(use | {"noise_multiplier": 99.0})
    if "ledger_charge WHERE id = 6" in statement:
        do(database, "DELETE FROM ledger_release WHERE charge_id = 6")
    values = {name: value for name, value in {"members": pack_members([1]), "description": description}.items()
              if f":{name}" in statement}  # fmt: skip
    do(database, statement, **values)
    fresh = ServerLedger(database, POLICY, now=lambda: NOW)
    assert any(said in problem for problem in compare(fresh)), compare(fresh)
