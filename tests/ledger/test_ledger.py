"""Spend before send: what the ledger charges, refuses, remembers and says."""

import math
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import dp_accounting
import pytest
from dp_accounting import pld

from client.budget import Ledger, Reservation
from client.store.keys import DeviceId
from common.errors import BudgetExhausted, ContractError, StoreError, VaultCorrupt
from common.privacy.parameters import MechanismUse
from common.taxonomy import Mechanism, PrivacyUnit, Profile, Purpose, RefusalReason, TrustModel
from policies import loader
from policies.schema import PrivacyBudgetPolicy

SHIPPED = PrivacyBudgetPolicy.model_validate(loader.read_yaml(loader.DOCUMENTS / "privacy_budget.yaml"))
TRAINING = SHIPPED.training.model_copy(update={"noise_multiplier": 4.0, "sampling_rate": 1.0, "local_steps": 1})
POLICY = SHIPPED.model_copy(update={"training": TRAINING, "delta": 1e-5, "epsilon_cap": 5.0, "budget_period_days": 100})
USE = POLICY.training.release(Profile.RECORD_LOCAL)
NOISELESS = POLICY.training.release(Profile.NON_PRIVATE)
DAY = 86_400.0
NOW = 1_800_000_000.0
ANNA, BEN = DeviceId("anna"), DeviceId("ben")


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


def charge(ledger: Ledger, device: DeviceId, cause: str, use: MechanismUse = USE) -> Reservation | BudgetExhausted:
    return ledger.reserve([device], use, purpose=Purpose.TRAIN_CONTRIBUTE, cause=cause)[device]


def independent_epsilon(rounds: int, z: float) -> float:
    accountant = pld.PLDAccountant(value_discretization_interval=1e-4)
    accountant.compose(dp_accounting.GaussianDpEvent(z), rounds)
    return float(accountant.get_epsilon(POLICY.delta))


def test_every_round_is_charged_and_composed(ledger: Ledger) -> None:
    for round_number in range(1, 8):
        answer = charge(ledger, ANNA, f"run/{round_number}")
        assert isinstance(answer, Reservation)
        expected = independent_epsilon(round_number, USE.noise_multiplier)
        assert answer.epsilon_total == pytest.approx(expected, rel=0.01)
        assert ledger.epsilon(ANNA) == pytest.approx(expected, rel=0.01)
        assert answer.epsilon == pytest.approx(independent_epsilon(1, USE.noise_multiplier), rel=0.01)
    assert ledger.remaining(ANNA) == pytest.approx(5.0 - expected, rel=0.01)
    assert ledger.epsilon(BEN) == 0


def test_an_entry_is_complete_in_itself(ledger: Ledger) -> None:
    charge(ledger, ANNA, "run/1")
    (entry,) = ledger.entries(ANNA)
    assert entry.use == USE
    assert (entry.device, entry.cause, entry.purpose, entry.state) == (
        ANNA,
        "run/1",
        Purpose.TRAIN_CONTRIBUTE,
        "reserved",
    )
    assert (entry.delta, entry.day, entry.period) == (1e-5, NOW // DAY, NOW // DAY // 100)
    assert entry.use.trust is TrustModel.LOCAL
    assert "CSPRNG" in entry.randomness


def test_the_cap_refuses_and_the_owner_is_told(ledger: Ledger) -> None:
    answers = [charge(ledger, ANNA, f"run/{number}") for number in range(21)]
    assert all(isinstance(answer, Reservation) for answer in answers[:20])  # 20 rounds at z = 4 cost 4.983
    answer = answers[20]  # one more would pass 5
    assert isinstance(answer, BudgetExhausted)
    assert answer.reason is RefusalReason.BUDGET_EXHAUSTED
    assert ledger.epsilon(ANNA) <= POLICY.epsilon_cap
    (refusal,) = ledger.refusals(ANNA)
    assert (refusal.cause, refusal.epsilon_cap) == ("run/20", 5.0)
    assert refusal.epsilon_would_be == pytest.approx(independent_epsilon(21, 4.0), rel=0.01)
    assert len(ledger.entries(ANNA)) == 20
    assert isinstance(charge(ledger, BEN, "run/20"), Reservation)  # somebody else's budget is his own


def test_reserved_but_never_released_counts(tmp_path: Path, ledger: Ledger, clock: Clock) -> None:
    first = charge(ledger, ANNA, "run/1")
    assert isinstance(first, Reservation)
    ledger.settle([first])
    charge(ledger, ANNA, "run/2")
    again = Ledger.open(tmp_path / "ledger.db", POLICY, now=clock)
    assert [entry.state for entry in again.entries(ANNA)] == ["settled", "reserved"]
    assert again.epsilon(ANNA) == pytest.approx(independent_epsilon(2, 4.0), rel=0.01)
    again.close()


def test_one_cause_is_one_charge(ledger: Ledger) -> None:
    first, again, other = (charge(ledger, ANNA, cause) for cause in ("run/1/a", "run/1/a", "run/1/b"))
    assert isinstance(first, Reservation)
    assert isinstance(again, Reservation)
    assert isinstance(other, Reservation)
    assert (again.entry, again.epsilon_total, again.repeated) == (first.entry, first.epsilon_total, True)
    assert not first.repeated
    assert other.epsilon_total > first.epsilon_total
    with pytest.raises(ContractError, match="another mechanism"):
        charge(ledger, ANNA, "run/1/a", USE.model_copy(update={"noise_multiplier": 40.0}))
    assert len(ledger.entries(ANNA)) == 2


def test_a_charge_that_does_not_stand_cannot_be_settled(ledger: Ledger) -> None:
    real = charge(ledger, ANNA, "run/1")
    assert isinstance(real, Reservation)
    for forged in (Reservation(99, ANNA, "run/1", 0.0, 0.0), Reservation(real.entry, BEN, "run/1", 0.0, 0.0)):
        with pytest.raises(StoreError, match="does not stand"):
            ledger.settle([real, forged])
        assert ledger.entries(ANNA)[0].state == "reserved"
    ledger.settle([real])
    assert ledger.entries(ANNA)[0].state == "settled"


def test_charges_cannot_be_changed_behind_the_ledger_s_back(ledger: Ledger, tmp_path: Path) -> None:
    charge(ledger, ANNA, "run/1")
    with sqlite3.connect(tmp_path / "ledger.db") as other, pytest.raises(sqlite3.IntegrityError, match="never changed"):
        other.execute("UPDATE entries SET noise_multiplier = 1000")
    with sqlite3.connect(tmp_path / "ledger.db") as other, pytest.raises(sqlite3.IntegrityError):
        other.execute("UPDATE entries SET state = 'refunded'")


def test_a_new_period_begins_afresh_and_a_clock_that_goes_back_refills_nothing(ledger: Ledger, clock: Clock) -> None:
    for number in range(3):
        charge(ledger, ANNA, f"old/{number}")
    clock.now = NOW + 100 * DAY
    assert ledger.epsilon(ANNA) == 0
    charge(ledger, ANNA, "new/0")
    assert ledger.epsilon(ANNA) == pytest.approx(independent_epsilon(1, 4.0), rel=0.01)
    assert ledger.statement(ANNA, lifetime=True).epsilon == pytest.approx(independent_epsilon(4, 4.0), rel=0.01)
    clock.now = NOW - 1000 * DAY
    assert ledger.epsilon(ANNA) == pytest.approx(independent_epsilon(1, 4.0), rel=0.01)
    charge(ledger, ANNA, "new/1")
    assert ledger.epsilon(ANNA) == pytest.approx(independent_epsilon(2, 4.0), rel=0.01)


def test_erasure_keeps_the_spend_of_the_period_as_a_tombstone(ledger: Ledger, clock: Clock) -> None:
    charge(ledger, ANNA, "secret-campaign/0")
    clock.now = NOW + 100 * DAY
    for number in range(20):
        charge(ledger, ANNA, f"secret-campaign/now-{number}")
    charge(ledger, ANNA, "secret-campaign/refused")
    before = ledger.epsilon(ANNA)
    ledger.forget(ANNA)
    assert ledger.epsilon(ANNA) == before
    assert isinstance(charge(ledger, ANNA, "again/1"), BudgetExhausted)
    assert len(ledger.entries(ANNA)) == 20
    assert not [entry for entry in ledger.entries(ANNA) if "secret" in entry.cause]
    assert [refusal.cause for refusal in ledger.refusals(ANNA)] == ["again/1"]


@pytest.mark.parametrize("other", [{"unit": PrivacyUnit.USER}, {"trust": TrustModel.CENTRAL}])
def test_another_line_than_the_document_s_is_refused(ledger: Ledger, other: dict[str, object]) -> None:
    with pytest.raises(ContractError, match="another unit"):
        charge(ledger, ANNA, "run/1", USE.model_copy(update=other))
    assert ledger.entries() == []


def test_no_noise_is_refused_on_a_real_device(ledger: Ledger) -> None:
    answer = charge(ledger, ANNA, "run/1", NOISELESS)
    assert isinstance(answer, BudgetExhausted)
    assert ledger.refusals(ANNA)[0].epsilon_would_be == math.inf
    assert ledger.epsilon(ANNA) == 0
    zero = USE.model_copy(update={"noise_multiplier": 0.0})
    assert isinstance(charge(ledger, ANNA, "run/2", zero), BudgetExhausted)


def test_a_simulation_without_noise_shows_infinity_from_then_on(tmp_path: Path, clock: Clock) -> None:
    ledger = Ledger.open(tmp_path / "simulated.db", POLICY, now=clock, simulation=True, randomness="seeded")
    assert isinstance(charge(ledger, ANNA, "run/1"), Reservation)
    for number in range(2, 4):
        answer = charge(ledger, ANNA, f"run/{number}", NOISELESS)
        assert isinstance(answer, Reservation)
        assert answer.epsilon_total == math.inf
    assert isinstance(charge(ledger, ANNA, "run/4"), Reservation)
    assert ledger.epsilon(ANNA) == math.inf
    assert ledger.remaining(ANNA) == 0
    said = ledger.statement(ANNA).sentence()
    assert "∞ (no privacy)" in said
    assert "seeded" in said
    for number in range(25):  # the cap holds in simulations too, as long as there is privacy at all
        answer = charge(ledger, BEN, f"ben/{number}")
    assert isinstance(answer, BudgetExhausted)
    ledger.close()


def test_many_devices_are_charged_at_once_and_quickly(ledger: Ledger) -> None:
    devices = [DeviceId(f"device-{number}") for number in range(500)]
    ledger.reserve(devices[:250], USE, purpose=Purpose.TRAIN_CONTRIBUTE, cause="early")
    start = time.perf_counter()
    for number in range(5):
        answers = ledger.reserve(devices, USE, purpose=Purpose.TRAIN_CONTRIBUTE, cause=f"run/{number}")
        ledger.settle([answer for answer in answers.values() if isinstance(answer, Reservation)])
    assert time.perf_counter() - start < 5
    assert set(answers) == set(devices)
    totals = {ledger.epsilon(device) for device in devices}
    assert sorted(totals) == pytest.approx([independent_epsilon(5, 4.0), independent_epsilon(6, 4.0)], rel=0.01)


def test_statements_say_everything(ledger: Ledger) -> None:
    empty = ledger.statement(ANNA)
    assert (empty.epsilon, empty.composition.split(";")[0]) == (0.0, "no release")
    charge(ledger, ANNA, "a")
    charge(ledger, ANNA, "b", USE.model_copy(update={"noise_multiplier": 8.0}))
    said = ledger.statement(ANNA)
    assert said.epsilon == ledger.epsilon(ANNA)
    assert said.composition == ("1 × gaussian(z=4) + 1 × gaussian(z=8); one device in one budget period of 100 days")
    assert (said.delta, said.unit, said.trust) == (1e-5, PrivacyUnit.RECORD, TrustModel.LOCAL)


def test_a_failure_in_the_middle_charges_nobody(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    from common.privacy import accountant

    calls = 0
    genuine = accountant.epsilon

    def failing(uses: list[MechanismUse], delta: float) -> float:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise MemoryError
        return genuine(uses, delta)

    monkeypatch.setattr(accountant, "epsilon", failing)
    with pytest.raises(MemoryError):
        ledger.reserve([ANNA, BEN, DeviceId("c")], USE, purpose=Purpose.TRAIN_CONTRIBUTE, cause="run/1")
    monkeypatch.undo()
    assert ledger.entries() == []


def _charge_then_die(path: Path) -> None:
    ledger = Ledger.open(path, POLICY, now=lambda: NOW)
    charge(ledger, ANNA, "run/1")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_charge_survives_a_kill(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_charge_then_die, args=(tmp_path / "ledger.db",))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    ledger = Ledger.open(tmp_path / "ledger.db", POLICY, now=lambda: NOW)
    assert [entry.state for entry in ledger.entries(ANNA)] == ["reserved"]
    assert ledger.epsilon(ANNA) == pytest.approx(independent_epsilon(1, 4.0), rel=0.01)
    ledger.close()


def test_two_processes_share_one_budget(tmp_path: Path, ledger: Ledger, clock: Clock) -> None:
    other = Ledger.open(tmp_path / "ledger.db", POLICY, now=clock)
    granted = sum(
        isinstance(charge(book, ANNA, f"{name}/{number}"), Reservation)
        for number in range(15)
        for name, book in (("one", ledger), ("two", other))
    )
    assert granted == 20
    assert other.epsilon(ANNA) == ledger.epsilon(ANNA)
    other.close()


@pytest.mark.parametrize("content", [b"", b"x" * 5000])
def test_a_damaged_ledger_stops_everything(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(VaultCorrupt, match="the privacy ledger"):
        Ledger.open(tmp_path / "ledger.db", POLICY, now=lambda: NOW)
    assert (tmp_path / "ledger.db").read_bytes() == content


def test_every_commit_waits_for_the_disk(ledger: Ledger) -> None:
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert USE.mechanism is Mechanism.GAUSSIAN
