"""Erased identities in the server's ledger: no name, the same spend, until the period ends. SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from server import migrations
from server.ledger.check import verify
from server.ledger.repository import pseudonym
from server.ledger.service import ServerLedger
from server.storage import Database, open_database
from tests.ledger.worlds import DAY, NOW, POLICY, ROUND

FITS = 20
ANNA, BEN, CLEO = (bytes([number]) * 32 for number in (1, 2, 3))


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(database: Database, clock: Clock) -> ServerLedger:
    return ServerLedger(database, POLICY, now=clock)


def bury(ledger: ServerLedger, database: Database, *identities: bytes) -> int:
    with database.write() as session:
        return ledger.bury(session, identities)


def names(database: Database) -> set[bytes]:
    with database.read() as session:
        return {bytes(name) for name in session.execute(text("SELECT pseudonym FROM ledger_subject")).scalars()}


def test_a_buried_identity_keeps_its_spend_and_loses_its_name(ledger: ServerLedger, database: Database) -> None:
    for number in range(FITS - 1):
        ledger.reserve("run", f"s{number}", ROUND, [ANNA, BEN])
    ledger.reserve("run", "open", ROUND, [ANNA])
    spent, entries = ledger.epsilon(ANNA), ledger.entries(ANNA)
    assert bury(ledger, database, ANNA, CLEO) == 1, "Cleo was never charged"
    assert pseudonym(ANNA) not in names(database)
    assert pseudonym(BEN) in names(database)
    assert (ledger.epsilon(ANNA), ledger.entries(ANNA)) == (spent, entries)
    ledger.settle("open", [ANNA])
    assert ledger.entries(ANNA)[-1].settled
    assert ledger.barred(ROUND, [ANNA, BEN]) == {ANNA}
    assert ledger.reserve("run", "more", ROUND, [ANNA, BEN, CLEO]) == {ANNA}
    assert bury(ledger, database, ANNA) == 0, "nothing is left to be buried"
    assert verify(ledger).problems == ()


def test_control_without_tombstones_the_budget_is_refilled(
    ledger: ServerLedger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deliberately broken erasure, that only takes the name away, is what the test above would catch."""
    for number in range(FITS):
        ledger.reserve("run", f"s{number}", ROUND, [ANNA])
    monkeypatch.setattr("server.ledger.tombstones._stone", lambda _key, _name: uuid4().bytes)
    bury(ledger, database, ANNA)
    assert ledger.epsilon(ANNA) == 0
    assert ledger.reserve("run", "more", ROUND, [ANNA]) == frozenset()


def test_keys_differ_by_period_and_go_with_it(ledger: ServerLedger, database: Database, clock: Clock) -> None:
    ledger.reserve("run", "s", ROUND, [ANNA, BEN])
    bury(ledger, database, ANNA)
    with database.read() as session:
        first = session.execute(text("SELECT period, key FROM ledger_epoch")).one()
    clock.now += POLICY.budget_period_days * DAY
    ledger.reserve("run", "t", ROUND, [ANNA, CLEO])
    with database.read() as session:
        assert session.execute(text("SELECT count(*) FROM ledger_epoch")).scalar_one() == 0, "charging destroys it"
    bury(ledger, database, ANNA, BEN)
    with database.read() as session:
        second = session.execute(text("SELECT period, key FROM ledger_epoch")).one()
    assert second.period == first.period + 1
    assert second.key != first.key
    assert len(names(database)) == 4
    assert names(database) & {pseudonym(ANNA), pseudonym(BEN)} == set()
    assert verify(ledger).problems == ()


def test_who_has_spent_nothing_in_the_period_becomes_nobody_at_once(
    ledger: ServerLedger, database: Database, clock: Clock
) -> None:
    ledger.reserve("run", "s", ROUND, [ANNA])
    clock.now += POLICY.budget_period_days * DAY
    ledger.reserve("run", "t", ROUND, [BEN])
    bury(ledger, database, ANNA)
    with database.read() as session:
        assert session.execute(text("SELECT count(*) FROM ledger_epoch")).scalar_one() == 0
    assert ledger.entries(ANNA) == []


def test_a_copy_of_the_tombstone_without_the_key_tells_nothing(ledger: ServerLedger, database: Database) -> None:
    """Two installations, or two periods, give one identity two tombstones; neither is a function of the identity."""
    ledger.reserve("run", "s", ROUND, [ANNA])
    bury(ledger, database, ANNA)
    (stone,) = names(database)
    assert stone != pseudonym(ANNA)
    assert len(stone) == 16


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(st.tuples(st.sampled_from("cbp"), st.integers(0, 3)), min_size=1, max_size=25))
def test_no_order_of_charges_burials_and_periods_gives_more_than_the_budget(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """c: charge, b: bury, p: the next period begins. A ledger of plain counts, that never forgets, is the oracle."""
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('h')}/l.db")
    migrations.migrate(database)
    clock = Clock()
    ledger = ServerLedger(database, POLICY, now=clock)
    counts = [0] * 4
    for number, (what, who) in enumerate(steps * 6):
        identity = bytes([who + 1]) * 32
        if what == "c":
            barred = ledger.reserve("run", f"s{number}", ROUND, [identity])
            assert bool(barred) is (counts[who] >= FITS)
            counts[who] += not barred
        elif what == "b":
            bury(ledger, database, identity)
        elif number % 3 == 0:
            clock.now += POLICY.budget_period_days * DAY
            counts = [0] * 4
    assert verify(ledger).problems == ()
    database.close()


def test_burials_beside_charges_lose_nothing(ledger: ServerLedger, database: Database, clock: Clock) -> None:
    """One thread charges in many sessions, another erases the same identities meanwhile."""
    identities = [bytes([number]) * 32 for number in range(1, 9)]

    def charge() -> None:
        other = ServerLedger(database, POLICY, now=clock)
        for number in range(12):
            assert other.reserve("run", f"c{number}", ROUND, identities) == frozenset()

    def erase() -> None:
        for identity in identities * 2:
            bury(ledger, database, identity)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(charge), pool.submit(erase)]:
            done.result(timeout=120)
    assert {len(ledger.entries(identity)) for identity in identities} == {12 * len(ROUND)}
    assert verify(ledger).problems == ()
