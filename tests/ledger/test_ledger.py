"""Spend before send: what the device's ledger charges, refuses, remembers and says."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from client.budget import Ledger, PlannedRelease, Reservation
from client.store.keys import DeviceId
from common.errors import BudgetExhausted, ContractError, PolicyError, StoreError
from common.privacy.recompute import recompute_epsilon
from common.taxonomy import Mechanism, Purpose, RefusalReason, ReleaseKind, TrustModel
from tests.ledger.worlds import (
    CALIBRATION,
    DAY,
    DELTA,
    GAUSSIAN,
    HISTOGRAM,
    NOISELESS,
    NOW,
    POLICY,
    RECORD_LINE,
    RECORD_ROUND,
    ROUND,
    USER_LINE,
    USER_ROUND,
    policy,
)

ANNA, BEN = DeviceId("anna"), DeviceId("ben")
FITS = 20  # layered rounds that fit under the record line's cap of 5 (4.983) and the user line's quota of 4 (3.849)


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db", POLICY, now=clock)
    yield opened
    opened.close()


def charge(
    ledger: Ledger, device: DeviceId, cause: str, planned: Sequence[PlannedRelease] = ROUND
) -> Reservation | BudgetExhausted:
    return ledger.reserve([device], planned, cause=cause)[device]


def test_every_round_is_charged_on_both_lines_and_composed(ledger: Ledger) -> None:
    for number in range(1, 8):
        answer = charge(ledger, ANNA, f"run/{number}")
        assert isinstance(answer, Reservation)
        for line, release in ((USER_LINE, USER_ROUND), (RECORD_LINE, RECORD_ROUND)):
            expected = recompute_epsilon([release.use] * number, DELTA)
            assert ledger.epsilon(ANNA, line) == pytest.approx(expected, rel=0.01)
            assert ledger.remaining(ANNA, line) == pytest.approx(5 - expected, rel=0.01)
        assert answer.epsilon == pytest.approx(recompute_epsilon([USER_ROUND.use], DELTA), rel=0.01)
        assert answer.releases == ROUND
    assert ledger.epsilon(ANNA) == ledger.epsilon(ANNA, USER_LINE)  # the headline
    assert ledger.epsilon(BEN) == 0


def test_an_entry_is_complete_in_itself(ledger: Ledger) -> None:
    charge(ledger, ANNA, "run/1")
    first, second = ledger.entries(ANNA)
    assert (first.use, second.use) == (USER_ROUND.use, GAUSSIAN)
    assert (first.device, first.cause, first.purpose, first.state) == (
        ANNA, "run/1", Purpose.TRAIN_CONTRIBUTE, "reserved",
    )  # fmt: skip
    assert first.kind is ReleaseKind.TRAINING_UPDATE
    assert (first.delta, first.day, first.period) == (DELTA, NOW // DAY, NOW // DAY // 100)
    assert (first.use.trust, second.use.trust) == (TrustModel.DISTRIBUTED, TrustModel.LOCAL)
    assert (first.use.levels, first.use.dimension) == (1024, 400)
    assert second.rho == pytest.approx(1 / 32)
    assert first.rho == pytest.approx(1 / 50, rel=1e-3)
    assert second.epsilon == pytest.approx(recompute_epsilon([GAUSSIAN], DELTA), rel=0.01)
    assert "CSPRNG" in first.randomness


def test_the_cap_refuses_and_the_owner_is_told(ledger: Ledger) -> None:
    answers = [charge(ledger, ANNA, f"run/{number}") for number in range(FITS + 1)]
    assert all(isinstance(answer, Reservation) for answer in answers[:FITS])
    answer = answers[FITS]
    assert isinstance(answer, BudgetExhausted)
    assert answer.reason is RefusalReason.BUDGET_EXHAUSTED
    (refusal,) = ledger.refusals(ANNA)
    assert (refusal.cause, refusal.unit.value, refusal.bound, refusal.epsilon_max) == ("run/20", "record", "cap", 5.0)
    assert refusal.epsilon_would_be == pytest.approx(recompute_epsilon([GAUSSIAN] * 21, DELTA), rel=0.01)
    assert len(ledger.entries(ANNA)) == 2 * FITS
    assert isinstance(charge(ledger, BEN, "run/20"), Reservation)  # somebody else's budget is his own


def test_a_reservation_is_charged_whole_or_not_at_all(ledger: Ledger) -> None:
    for number in range(FITS):
        charge(ledger, ANNA, f"record/{number}", [RECORD_ROUND])
    assert isinstance(charge(ledger, ANNA, "both", ROUND), BudgetExhausted)  # the record line is full
    assert ledger.epsilon(ANNA, USER_LINE) == 0
    assert isinstance(charge(ledger, ANNA, "user", [USER_ROUND]), Reservation)


def test_a_quota_refuses_its_purpose_and_leaves_the_others(ledger: Ledger) -> None:
    for number in range(40):
        answer = charge(ledger, ANNA, f"run/{number}", [USER_ROUND])
    assert isinstance(answer, BudgetExhausted)
    assert ledger.refusals(ANNA)[0].bound == "train.contribute"
    assert isinstance(charge(ledger, ANNA, "histogram", [HISTOGRAM]), Reservation)
    while isinstance(charge(ledger, ANNA, f"histogram/{len(ledger.entries(ANNA))}", [HISTOGRAM]), Reservation):
        pass
    assert ledger.refusals(ANNA)[-1].bound == "cap"
    assert ledger.epsilon(ANNA) <= USER_LINE.epsilon_cap


def test_reserved_but_never_released_counts(tmp_path: Path, ledger: Ledger, clock: Clock) -> None:
    first = charge(ledger, ANNA, "run/1")
    assert isinstance(first, Reservation)
    ledger.settle([first])
    charge(ledger, ANNA, "run/2")
    again = Ledger.open(tmp_path / "ledger.db", POLICY, now=clock)
    assert [entry.state for entry in again.entries(ANNA)] == ["settled", "settled", "reserved", "reserved"]
    assert again.epsilon(ANNA) == ledger.epsilon(ANNA) > first.epsilon
    again.close()


def test_one_cause_is_one_charge(ledger: Ledger) -> None:
    first, again, other = (charge(ledger, ANNA, cause) for cause in ("run/1/a", "run/1/a", "run/1/b"))
    assert isinstance(first, Reservation)
    assert isinstance(again, Reservation)
    assert isinstance(other, Reservation)
    assert (again.charge, again.epsilon, again.repeated) == (first.charge, first.epsilon, True)
    assert not first.repeated
    assert other.charge != first.charge
    finer = [
        release.__class__(release.kind, GAUSSIAN.model_copy(update={"noise_multiplier": 40.0})) for release in ROUND
    ]
    for changed in (finer, ROUND[:1], (*ROUND, CALIBRATION), tuple(reversed(ROUND))):
        with pytest.raises(ContractError, match="another mechanism"):
            charge(ledger, ANNA, "run/1/a", changed)
    assert len(ledger.entries(ANNA)) == 4
    later = charge(ledger, BEN, "run/1/a")  # somebody who was not in it is charged for it
    assert isinstance(later, Reservation)
    assert not later.repeated
    assert ledger.verify().problems == ()


def test_a_cause_repeated_on_a_full_budget_or_another_day_is_still_one_charge(ledger: Ledger, clock: Clock) -> None:
    for number in range(FITS):
        charge(ledger, ANNA, f"run/{number}")
    clock.now += 3 * DAY
    again = charge(ledger, ANNA, "run/7")
    assert isinstance(again, Reservation)
    assert again.repeated
    assert isinstance(charge(ledger, BEN, "run/7"), Reservation)
    assert [entry.day for entry in ledger.entries(BEN)] == [NOW // DAY + 3] * 2
    clock.now += 100 * DAY
    again = charge(ledger, ANNA, "run/7")
    assert isinstance(again, Reservation)
    assert again.repeated
    assert ledger.epsilon(ANNA) == 0  # of the new period


def test_a_charge_that_does_not_stand_cannot_be_settled(ledger: Ledger) -> None:
    real = charge(ledger, ANNA, "run/1")
    assert isinstance(real, Reservation)
    for number, device, cause in ((99, ANNA, "run/1"), (real.charge, BEN, "run/1"), (real.charge, ANNA, "run/2")):
        with pytest.raises(StoreError, match="does not stand"):
            ledger.settle([real, Reservation(number, device, cause, ROUND, 0.0)])
        assert ledger.entries(ANNA)[0].state == "reserved"
    ledger.settle([real])
    assert ledger.entries(ANNA)[0].state == "settled"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE uses SET description = '{}'",
        "UPDATE charges SET period = period - 1",
        "UPDATE charges SET cause = 'x'",
        "UPDATE releases SET epsilon = 0",
        "DELETE FROM releases",
        "UPDATE entries SET settled = 2",
        "UPDATE entries SET device = 2",
        "UPDATE spend SET times = times - 1",
        "UPDATE spend SET period = period - 1",
        "DELETE FROM spend",
        "UPDATE chain SET root = x''",
        "DELETE FROM chain",
    ],
)
def test_spend_cannot_be_lowered_behind_the_ledger_s_back(ledger: Ledger, tmp_path: Path, statement: str) -> None:
    charge(ledger, ANNA, "run/1")
    charge(ledger, BEN, "run/2")
    with sqlite3.connect(tmp_path / "ledger.db") as other, pytest.raises(sqlite3.IntegrityError, match="never"):
        other.execute(statement)


def test_a_new_period_begins_afresh_and_a_clock_that_goes_back_refills_nothing(ledger: Ledger, clock: Clock) -> None:
    for number in range(3):
        charge(ledger, ANNA, f"old/{number}")
    clock.now = NOW + 100 * DAY
    assert ledger.epsilon(ANNA) == 0
    charge(ledger, ANNA, "new/0")
    assert ledger.epsilon(ANNA) == pytest.approx(recompute_epsilon([USER_ROUND.use], DELTA), rel=0.01)
    ever = recompute_epsilon([USER_ROUND.use] * 4, DELTA)
    assert ledger.statement(ANNA, lifetime=True).epsilon == pytest.approx(ever, rel=0.01)
    clock.now = NOW - 1000 * DAY
    charge(ledger, ANNA, "new/1")
    assert ledger.epsilon(ANNA) == pytest.approx(recompute_epsilon([USER_ROUND.use] * 2, DELTA), rel=0.01)
    assert ledger.verify().problems == ()


def test_erasure_keeps_the_spend_of_the_period_as_a_tombstone(ledger: Ledger, clock: Clock, tmp_path: Path) -> None:
    charge(ledger, ANNA, "secret-campaign/0")
    clock.now = NOW + 100 * DAY
    for number in range(FITS):
        clock.now += DAY
        charge(ledger, ANNA, f"secret-campaign/now-{number}")
        charge(ledger, BEN, f"secret-campaign/now-{number}")
    charge(ledger, ANNA, "secret-campaign/refused")
    before = [ledger.epsilon(ANNA, line) for line in POLICY.lines]
    ledger.forget(ANNA)
    assert [ledger.epsilon(ANNA, line) for line in POLICY.lines] == before
    assert isinstance(charge(ledger, ANNA, "again/1"), BudgetExhausted)
    entries = ledger.entries(ANNA)
    assert [(entry.times, entry.day) for entry in entries] == [(FITS, (NOW // DAY // 100 + 1) * 100)] * 2
    assert not [entry for entry in entries if "secret" in entry.cause]
    assert [refusal.cause for refusal in ledger.refusals(ANNA)] == ["again/1"]
    assert len(ledger.entries(BEN)) == 2 * FITS
    assert ledger.verify().problems == ()
    ledger.forget(ANNA)  # an erasure that was interrupted can be repeated
    assert [ledger.epsilon(ANNA, line) for line in POLICY.lines] == before
    ledger.forget(BEN)
    assert b"secret-campaign" not in (tmp_path / "ledger.db").read_bytes()
    ledger.forget(DeviceId("nobody"))
    assert ledger.verify().problems == ()


def test_the_only_device_of_the_newest_period_is_erased(ledger: Ledger, clock: Clock) -> None:
    charge(ledger, ANNA, "old")
    charge(ledger, BEN, "old")
    clock.now += 101 * DAY
    charge(ledger, ANNA, "new")
    before = ledger.epsilon(ANNA)
    ledger.forget(ANNA)
    assert (ledger.epsilon(ANNA), [entry.period for entry in ledger.entries(ANNA)]) == (before, [ledger.period] * 2)
    assert ledger.verify().problems == ()


def test_a_clock_put_forward_erases_nothing_that_a_clock_put_back_would_refill(ledger: Ledger, clock: Clock) -> None:
    for number in range(FITS):
        charge(ledger, ANNA, f"run/{number}")
    before = ledger.epsilon(ANNA)
    clock.now += 1000 * DAY
    ledger.forget(ANNA)
    clock.now = NOW
    assert ledger.epsilon(ANNA) == before


def test_another_line_than_the_document_s_is_refused(ledger: Ledger) -> None:
    central = PlannedRelease(ReleaseKind.TRAINING_UPDATE, GAUSSIAN.model_copy(update={"trust": TrustModel.CENTRAL}))
    with pytest.raises(PolicyError, match="no line"):
        charge(ledger, ANNA, "run/1", [USER_ROUND, central])
    with pytest.raises(ContractError, match="at least one"):
        charge(ledger, ANNA, "run/1", [])
    assert ledger.entries() == []
    assert ledger.devices() == []


def test_no_noise_is_refused_on_a_real_device_and_shows_infinity_in_a_simulation(tmp_path: Path, clock: Clock) -> None:
    silent = [PlannedRelease(ReleaseKind.TRAINING_UPDATE, NOISELESS)]
    real = Ledger.open(tmp_path / "real.db", POLICY, now=clock)
    assert isinstance(charge(real, ANNA, "run/1", silent), BudgetExhausted)
    assert real.refusals(ANNA)[0].epsilon_would_be == math.inf
    assert isinstance(charge(real, ANNA, "run/2"), Reservation)
    real.close()
    anchor = tmp_path / "k" / "a"
    book = Ledger.open(tmp_path / "s.db", POLICY, now=clock, anchor=anchor, simulation=True, randomness="seeded")
    for number in range(3):
        assert isinstance(charge(book, ANNA, f"run/{number}", silent if number else ROUND), Reservation)
    assert book.epsilon(ANNA, RECORD_LINE) == math.inf
    assert book.remaining(ANNA, RECORD_LINE) == 0
    said = book.statement(ANNA, RECORD_LINE).sentence()
    assert "∞ (no privacy)" in said
    assert "seeded" in said
    for number in range(25):  # the cap holds in simulations too, as long as there is privacy at all
        answer = charge(book, BEN, f"ben/{number}")
    assert isinstance(answer, BudgetExhausted)
    assert book.verify().problems == ()
    book.close()


def test_many_devices_are_charged_at_once_and_quickly(ledger: Ledger) -> None:
    devices = [DeviceId(f"device-{number}") for number in range(5000)]
    ledger.reserve(devices[:2500], ROUND, cause="early")
    start = time.process_time()
    for number in range(5):
        answers = ledger.reserve(devices, ROUND, cause=f"run/{number}")
        ledger.settle([answer for answer in answers.values() if isinstance(answer, Reservation)])
    assert time.process_time() - start < 25  # a millisecond each
    assert list(answers) == devices
    assert {count for _, count in ledger.spends()} == {2500}
    totals = {ledger.epsilon(device) for device in devices[::500]}
    expected = [recompute_epsilon([USER_ROUND.use] * k, DELTA) for k in (5, 6)]
    assert sorted(totals) == pytest.approx(expected, rel=0.01)
    assert ledger.verify().problems == ()


def test_a_full_budget_among_many_is_refused_alone(ledger: Ledger) -> None:
    for number in range(FITS):
        charge(ledger, ANNA, f"run/{number}")
    answers = ledger.reserve([BEN, ANNA, DeviceId("c"), BEN], ROUND, cause="all")
    assert {name: type(answer) for name, answer in answers.items()} == {
        BEN: Reservation, ANNA: BudgetExhausted, DeviceId("c"): Reservation,
    }  # fmt: skip


def test_statements_say_everything(ledger: Ledger) -> None:
    empty = ledger.statement(ANNA)
    assert (empty.epsilon, empty.composition.split(";")[0]) == (0.0, "no release")
    charge(ledger, ANNA, "a")
    charge(ledger, ANNA, "b", [CALIBRATION])
    said = ledger.statement(ANNA, RECORD_LINE)
    assert said.epsilon == ledger.epsilon(ANNA, RECORD_LINE)
    assert said.composition == "1 × gaussian(z=4); one device in one budget period of 100 days"
    user = ledger.statement(ANNA)
    assert user.epsilon == ledger.epsilon(ANNA)
    for part in ("1 × skellam(z=5", "1 × skellam(z=10", "one user", "unamplified", "CSPRNG"):
        assert part in user.sentence()


def test_a_failure_in_the_middle_charges_nobody(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    from client.store import ledger_table

    def failing(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ledger_table, "charge_asked", failing)
    with pytest.raises(MemoryError):
        ledger.reserve([ANNA, BEN, DeviceId("c")], ROUND, cause="run/1")
    monkeypatch.undo()
    assert ledger.entries() == []
    other = [PlannedRelease(ReleaseKind.CALIBRATION, CALIBRATION.use)]  # numbers of uses are given again
    charge(ledger, ANNA, "run/2", other)
    assert [entry.use for entry in ledger.entries(ANNA)] == [CALIBRATION.use]
    assert ledger.verify().problems == ()


def test_a_document_with_one_line_and_no_quotas_will_do(tmp_path: Path, clock: Clock) -> None:
    plain = policy(profile="record_local", lines=[RECORD_LINE.model_dump()])
    ledger = Ledger.open(tmp_path / "ledger.db", plain, now=clock)
    charge(ledger, ANNA, "run/1", [RECORD_ROUND])
    assert ledger.epsilon(ANNA) == ledger.epsilon(ANNA, plain.lines[0]) > 0
    with pytest.raises(PolicyError):
        charge(ledger, ANNA, "run/2", [USER_ROUND])
    ledger.close()


def test_every_commit_waits_for_the_disk(ledger: Ledger) -> None:
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert GAUSSIAN.mechanism is Mechanism.GAUSSIAN
