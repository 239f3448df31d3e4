"""The server's ledger on SQLite and PostgreSQL: the same filter, by hashed identity."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from common.errors import ContractError, PolicyError, StorageUnavailable, StoreError
from common.privacy import accountant
from common.privacy.recompute import recompute_epsilon
from common.taxonomy import ReleaseKind, TrustModel
from policies.budget import PlannedRelease
from server.ledger import repository
from server.ledger.check import verify
from server.ledger.packing import pack_members, pack_spend, unpack_members, unpack_spend
from server.ledger.service import ServerLedger
from server.storage import Database, open_database
from tests.ledger.worlds import (
    CALIBRATION,
    DAY,
    DELTA,
    GAUSSIAN,
    HISTOGRAM,
    NOW,
    POLICY,
    RECORD_LINE,
    RECORD_ROUND,
    ROUND,
    USER_LINE,
    USER_ROUND,
)

FITS = 20
ANNA, BEN, CLEO = (bytes([number]) * 32 for number in (1, 2, 3))


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(database: Database, clock: Clock) -> ServerLedger:
    return ServerLedger(database, POLICY, now=clock)


def test_identities_are_charged_refused_and_settled(ledger: ServerLedger) -> None:
    for number in range(FITS):
        who = [ANNA, BEN] if number else [ANNA, BEN, CLEO]
        assert ledger.reserve("run", f"session/{number}", ROUND, who) == frozenset()
    ledger.settle("session/0", [ANNA, CLEO])
    assert ledger.barred(ROUND, [ANNA, BEN, CLEO]) == {ANNA, BEN}
    assert ledger.reserve("run", "session/last", ROUND, [ANNA, CLEO]) == {ANNA}
    for line, release in ((USER_LINE, USER_ROUND), (RECORD_LINE, RECORD_ROUND)):
        for identity, times in ((ANNA, FITS), (BEN, FITS), (CLEO, 2)):
            expected = recompute_epsilon([release.use] * times, DELTA)
            assert ledger.epsilon(identity, line) == pytest.approx(expected, rel=0.01)
            assert ledger.remaining(identity, line) == pytest.approx(5 - expected, rel=0.01)
    assert ledger.epsilon(b"a stranger") == 0
    assert [entry.settled for entry in ledger.entries(CLEO)] == [True, True, False, False]
    assert [entry.settled for entry in ledger.entries(BEN)][:2] == [False, False]
    entry = ledger.entries(ANNA)[0]
    assert (entry.use, entry.kind, entry.delta) == (USER_ROUND.use, ReleaseKind.TRAINING_UPDATE, DELTA)
    assert entry.epsilon == accountant.epsilon([USER_ROUND.use], DELTA)
    last = ledger.charges("run")[-1]
    assert (last.devices, last.barred, last.cause) == (1, 1, "session/last")
    assert verify(ledger).problems == ()


def test_a_device_that_lost_its_own_ledger_is_still_refused(ledger: ServerLedger) -> None:
    """Defence in depth: nothing here comes from the device but its identity."""
    for number in range(FITS):
        ledger.reserve("one training", f"a/{number}", ROUND, [ANNA])
    assert ledger.reserve("another training", "b/0", ROUND, [ANNA, BEN]) == {ANNA}
    assert ledger.entries(ANNA)[-1].run_id == "one training"


def test_the_same_cause_is_charged_once(ledger: ServerLedger) -> None:
    ledger.reserve("run", "s", ROUND, [ANNA])
    before = ledger.epsilon(ANNA)
    assert ledger.reserve("run", "s", ROUND, [ANNA, BEN]) == frozenset()
    assert (ledger.epsilon(ANNA), ledger.epsilon(BEN)) == (before, before)
    (charge,) = ledger.charges()
    assert charge.devices == 2
    with pytest.raises(ContractError, match="another mechanism"):
        ledger.reserve("run", "s", [USER_ROUND], [ANNA])
    assert verify(ledger).problems == ()


def test_what_cannot_be_charged_or_settled_is_named(ledger: ServerLedger) -> None:
    central = PlannedRelease(ReleaseKind.TRAINING_UPDATE, GAUSSIAN.model_copy(update={"trust": TrustModel.CENTRAL}))
    for wrong, error in (([central], PolicyError), ([], ContractError)):
        for call in (lambda w=wrong: ledger.reserve("r", "c", w, [ANNA]), lambda w=wrong: ledger.barred(w, [ANNA])):
            with pytest.raises(error):
                call()
    ledger.reserve("run", "s", ROUND, [ANNA])
    for cause, who in (("nothing", [ANNA]), ("s", [BEN]), ("s", [ANNA, BEN])):
        with pytest.raises(StoreError, match="never charged"):
            ledger.settle(cause, who)
    assert ledger.charges()[0].settled is None


def test_rounds_of_unknown_devices_are_charged_by_number(ledger: ServerLedger) -> None:
    ledger.charge_unnamed("run", "round/1", [RECORD_ROUND])
    assert [(one.devices, len(one.releases)) for one in ledger.charges()] == [(0, 1)]  # before anybody is asked
    for answered in (40, 40, 7):  # and no fewer later
        ledger.charge_unnamed("run", "round/1", [RECORD_ROUND], answered)
        (charge,) = ledger.charges()
        assert (charge.devices, charge.unnamed, charge.numbers) == (40, 40, [])
    assert verify(ledger).problems == ()
    with pytest.raises(ContractError, match="another mechanism"):
        ledger.charge_unnamed("run", "round/1", ROUND, 40)


def test_periods_run_on_and_a_clock_that_goes_back_refills_nothing(ledger: ServerLedger, clock: Clock) -> None:
    for number in range(FITS):
        ledger.reserve("run", f"a/{number}", ROUND, [ANNA])
    clock.now += 100 * DAY
    assert ledger.epsilon(ANNA) == 0
    ledger.reserve("run", "b/0", ROUND, [ANNA])
    once = ledger.epsilon(ANNA)
    clock.now -= 300 * DAY
    assert ledger.epsilon(ANNA) == once
    ledger.reserve("run", "b/1", ROUND, [ANNA])
    assert ledger.epsilon(ANNA) > once
    assert len(ledger.entries(ANNA)) == 2 * (FITS + 2)
    assert verify(ledger).problems == ()


def test_trainings_at_once_share_one_cap(database: Database, clock: Clock) -> None:
    start = threading.Barrier(4)

    def train(name: int) -> int:
        ledger = ServerLedger(database, POLICY, now=clock)
        start.wait()
        return sum(not ledger.reserve(f"run-{name}", f"{name}/{number}", ROUND, [ANNA, BEN]) for number in range(10))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(train, range(4))) == FITS
    ledger = ServerLedger(database, POLICY, now=clock)
    assert ledger.epsilon(ANNA, RECORD_LINE) <= 5
    assert verify(ledger).problems == ()


def test_a_failed_charge_leaves_nothing(ledger: ServerLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = repository.add_charge

    def failing(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(repository, "add_charge", failing)
    with pytest.raises(MemoryError):
        ledger.reserve("run", "s", ROUND, [ANNA])
    monkeypatch.setattr(repository, "add_charge", genuine)
    assert (ledger.charges(), ledger.epsilon(ANNA), ledger.subjects()) == ([], 0, [])
    ledger.reserve("run", "s", [CALIBRATION, HISTOGRAM], [ANNA])  # numbers of uses may be given again
    assert [entry.use for entry in ledger.entries(ANNA)] == [CALIBRATION.use, HISTOGRAM.use]


def test_a_large_cohort_is_charged_in_one_go(ledger: ServerLedger) -> None:
    cohort = [number.to_bytes(32, "big") for number in range(12_000)]
    assert ledger.reserve("run", "s/0", ROUND, cohort) == frozenset()
    assert ledger.reserve("run", "s/1", ROUND, cohort[::3]) == frozenset()
    ledger.settle("s/1", cohort[::6])
    assert sorted(count for _, count in ledger.spends()) == [4_000, 8_000]
    assert [charge.devices for charge in ledger.charges()] == [12_000, 4_000]
    assert verify(ledger).problems == ()


TAMPERING = {
    "UPDATE ledger_charge SET members = (SELECT members FROM ledger_charge WHERE cause = 's/2') WHERE cause = 's/0'":
        "charges: row 1 does not hold",
    "UPDATE ledger_subject SET spend = (SELECT spend FROM ledger_subject WHERE number = 3) WHERE number = 1":
        "subjects: the spend of row 1 is not the sum",
    "UPDATE ledger_charge SET devices = 7 WHERE cause = 's/2'": "charges: row 3 does not hold",
}  # fmt: skip


@pytest.mark.parametrize("statement", TAMPERING)
def test_verify_names_the_first_bad_row(ledger: ServerLedger, database: Database, statement: str) -> None:
    ledger.reserve("run", "s/0", ROUND, [ANNA, BEN])
    ledger.reserve("run", "s/1", ROUND, [ANNA, BEN])
    ledger.reserve("run", "s/2", ROUND, [CLEO])
    with database.engine.begin() as connection:
        connection.execute(text(statement))
    assert verify(ledger).problems[0].startswith(TAMPERING[statement])


def test_damaged_rows_are_named_and_charge_nobody(ledger: ServerLedger, database: Database) -> None:
    ledger.reserve("run", "s/0", ROUND, [ANNA])
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE ledger_subject SET spend = :bytes"), {"bytes": b"\xff"})
        connection.execute(text("UPDATE ledger_charge SET members = :bytes"), {"bytes": b"no members"})
    for call in (
        lambda: ledger.epsilon(ANNA),
        lambda: ledger.reserve("run", "s/0", ROUND, [ANNA]),
        lambda: ledger.reserve("run", "s/1", ROUND, [ANNA]),
        lambda: ledger.settle("s/0", [ANNA]),
    ):
        with pytest.raises(StoreError, match="damaged"):
            call()
    assert len(verify(ledger).problems) >= 2


def test_no_identity_is_stored(ledger: ServerLedger, tmp_path: Path) -> None:
    ledger.reserve("run", "s/0", ROUND, [b"an identity key of 32 bytes long"])
    for file in tmp_path.glob("server.db*"):
        assert b"an identity key" not in file.read_bytes()
    assert {len(repository.pseudonym(identity)) for identity in (ANNA, BEN)} == {16}


def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    ledger = ServerLedger(open_database(f"sqlite:///{tmp_path}/empty.db"), POLICY, now=lambda: NOW)
    with pytest.raises(StorageUnavailable):
        ledger.reserve("run", "s", ROUND, [ANNA])


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(1, 2**40), max_size=60))
def test_members_survive_packing(numbers: set[int]) -> None:
    assert unpack_members(pack_members(numbers)).tolist() == sorted(numbers)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.integers(1, 300), st.integers(1, 2**40), max_size=8))
def test_spend_survives_packing(spend: dict[int, int]) -> None:
    pairs = tuple(sorted(spend.items()))
    assert unpack_spend(pack_spend(pairs)) == pairs
    added = repository.added(pairs, {1: 2, 400: 1})
    assert dict(added) == {**spend, 1: spend.get(1, 0) + 2, 400: 1}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40))
def test_bytes_of_others_are_named(data: bytes) -> None:
    for read in (unpack_members, unpack_spend):
        with contextlib.suppress(StoreError):
            read(data)


def test_packing_is_compact() -> None:
    rng = np.random.default_rng(0)
    half = np.flatnonzero(rng.random(1_000_000) < 0.5) + 1
    assert len(pack_members(half)) < 0.35 * len(half)
    assert len(pack_members(range(1, 1_000_001))) < 2_000
    assert len(pack_spend(((1, 20), (2, 20), (3, 2)))) == 6
