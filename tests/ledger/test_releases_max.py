"""``releases_max``: what the document's proofs count with is also the most that either ledger lets a device make."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from client.budget import Ledger, Reservation
from client.eligibility import fresh_charges, over_budget
from client.store.keys import DeviceId
from common.errors import BudgetExhausted, ReleasesExhausted
from common.taxonomy import PrivacyUnit, RefusalReason, ReleaseKind
from policies import budget
from policies.budget import PlannedRelease
from server.ledger.check import verify
from server.ledger.report import LedgerReport
from server.ledger.service import ServerLedger
from server.storage import Database
from tests.ledger.counts import COUNTED, MOST, only_epsilon
from tests.ledger.homes import ANNA, BEN
from tests.ledger.worlds import DAY, HISTOGRAM, NOISELESS, NOW, RECORD_ROUND, skellam

QUIET = PlannedRelease(ReleaseKind.TRAINING_UPDATE, skellam(60.0))
OTHER_LENGTH = PlannedRelease(ReleaseKind.TRAINING_UPDATE, skellam(60.0, length=401))
CALIBRATION = PlannedRelease(ReleaseKind.CALIBRATION, skellam(60.0, length=2))
KEY = b"\x01" * 32


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def opened(folder: Path, clock: Clock, *, simulation: bool = False) -> Ledger:
    return Ledger.open(folder / "ledger.db", COUNTED, now=clock, simulation=simulation)


def charge(
    book: Ledger, cause: str, planned: Sequence[PlannedRelease] = (QUIET,), device: DeviceId = ANNA
) -> Reservation | BudgetExhausted:
    return book.reserve([device], planned, cause=cause)[device]


def test_the_device_refuses_the_release_that_would_exceed_it(tmp_path: Path) -> None:
    clock = Clock()
    with contextlib.closing(opened(tmp_path, clock)) as book:
        for number in range(MOST):
            assert isinstance(charge(book, f"r/{number}", [(QUIET, OTHER_LENGTH)[number % 2]]), Reservation)
        assert over_budget(book, [QUIET], [ANNA, BEN]) == {ANNA}
        spent = book.epsilon(ANNA)
        answer = charge(book, "r/more")
        assert isinstance(answer, ReleasesExhausted)
        assert fresh_charges({ANNA: answer}) == ({}, {ANNA: RefusalReason.BUDGET_EXHAUSTED})
        (refusal,) = book.refusals(ANNA)
        assert refusal.bound == f"training_update releases_max {MOST}"
        assert refusal.epsilon_would_be < refusal.epsilon_max == 5.0  # there was plenty of ε left
        assert (book.epsilon(ANNA), len(book.entries(ANNA))) == (spent, MOST)
        assert isinstance(charge(book, "r/0"), Reservation)  # the very charge that stands, not a new one
        assert isinstance(charge(book, "c/0", [CALIBRATION]), Reservation)  # another kind is counted for itself
        assert isinstance(charge(book, "c/1", [CALIBRATION]), ReleasesExhausted)
        assert isinstance(charge(book, "r/more", device=BEN), Reservation)
        assert book.verify().problems == ()
    with contextlib.closing(opened(tmp_path, clock)) as book:
        assert isinstance(charge(book, "r/again"), ReleasesExhausted)
        clock.now += 100 * DAY
        assert isinstance(charge(book, "r/next period"), Reservation)


def test_what_the_document_does_not_declare_is_never_made(tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path, Clock())) as book:
        assert isinstance(charge(book, "h", [HISTOGRAM]), ReleasesExhausted)
        assert book.refusals(ANNA)[0].bound == "feature_histogram releases_max 0"


def test_records_are_counted_by_rounds_max_and_a_simulation_without_noise_is_not_counted(tmp_path: Path) -> None:
    silent = PlannedRelease(ReleaseKind.TRAINING_UPDATE, NOISELESS)
    with contextlib.closing(opened(tmp_path, Clock())) as book:
        for number in range(MOST):
            assert isinstance(charge(book, f"r/{number}", [RECORD_ROUND]), Reservation)
        assert isinstance(charge(book, "r/more", [RECORD_ROUND]), ReleasesExhausted)
        assert isinstance(charge(book, "both", [QUIET, RECORD_ROUND]), ReleasesExhausted)  # whole or not at all
        assert book.made(ANNA) == {(ReleaseKind.TRAINING_UPDATE, PrivacyUnit.RECORD): MOST}
    (tmp_path / "simulation").mkdir()
    with contextlib.closing(opened(tmp_path / "simulation", Clock(), simulation=True)) as book:
        for number in range(2 * MOST):
            assert isinstance(charge(book, f"s/{number}", [silent]), Reservation)
        assert book.verify().problems == ()


def test_several_of_a_kind_in_one_reservation_are_counted_together(tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path, Clock())) as book:
        assert isinstance(charge(book, "r/0", [QUIET] * (MOST + 1)), ReleasesExhausted)
        assert isinstance(charge(book, "r/1", [QUIET] * MOST), Reservation)
        assert isinstance(charge(book, "r/2"), ReleasesExhausted)


def test_erasure_refills_nothing(tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path, Clock())) as book:
        for number in range(MOST):
            charge(book, f"r/{number}")
        book.forget(ANNA)
        assert isinstance(charge(book, "r/more"), ReleasesExhausted)
        assert book.verify().problems == ()


def test_the_server_refuses_the_release_that_would_exceed_it(database: Database) -> None:
    clock = Clock()
    ledger = ServerLedger(database, COUNTED, now=clock)
    for number in range(MOST):
        assert ledger.reserve("run", f"r/{number}", [(QUIET, OTHER_LENGTH)[number % 2]], [KEY]) == frozenset()
    stranger = b"\x02" * 32
    assert ledger.barred([QUIET], [KEY, stranger]) == {KEY}
    over = ledger.refusals([QUIET], [KEY])[KEY]
    assert over.bound == f"training_update releases_max {MOST}"
    assert isinstance(over.refusal(), ReleasesExhausted)
    assert over.epsilon_would_be < over.epsilon_max
    spent = ledger.epsilon(KEY)
    assert ledger.reserve("another", "r/more", [QUIET], [KEY, stranger]) == {KEY}
    assert (ledger.epsilon(KEY), len(ledger.entries(KEY)), ledger.charges()[-1].barred) == (spent, MOST, 1)
    assert ledger.reserve("run", "h", [HISTOGRAM], [stranger]) == {stranger}  # not declared: never made
    assert ServerLedger(database, COUNTED, now=clock).barred([QUIET], [KEY]) == {KEY}
    assert [one.rounds_possible for one in LedgerReport(database, ledger).projection(1)] == [0, MOST]
    assert verify(ledger).problems == ()
    with database.write() as session:
        ledger.bury(session, [KEY])
    assert ledger.barred([QUIET], [KEY]) == {KEY}  # erased is not refilled
    clock.now += 100 * DAY
    assert ledger.barred([QUIET], [KEY]) == frozenset()


def test_both_sides_see_a_ledger_that_did_not_count(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with the filter of before, one release too many is made on either side, and ``verify`` names it."""
    with contextlib.closing(opened(tmp_path, Clock())) as book, monkeypatch.context() as patched:
        ledger = ServerLedger(database, COUNTED, now=Clock())
        patched.setattr(budget, "over", only_epsilon)
        for number in range(MOST + 1):
            assert isinstance(charge(book, f"r/{number}"), Reservation)
            assert ledger.reserve("run", f"r/{number}", [QUIET], [KEY]) == frozenset()
        said = f"caps: 1 devices made {MOST + 1} releases of training_update; releases_max is {MOST}"
        assert book.verify().problems == verify(ledger).problems == (said,)


def test_how_often_more_is_told_from_the_number_alone() -> None:
    made = {(ReleaseKind.TRAINING_UPDATE, PrivacyUnit.USER): 1}
    assert budget.releases_left(COUNTED, [QUIET], made) == MOST - 1
    assert budget.releases_left(COUNTED, [QUIET, RECORD_ROUND], made) == MOST - 1
    assert budget.releases_left(COUNTED, [HISTOGRAM], {}) == 0
    assert budget.releases_left(COUNTED, [replace(QUIET, kind=ReleaseKind.PRIVATE_PICK)], {}) is None
