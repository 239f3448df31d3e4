"""1,000 devices, 200 rounds, with random participation, dropout and kills: nobody passes a cap, and ε is right."""

from __future__ import annotations

import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from client.budget import Ledger, PlannedRelease, Reservation
from client.store.keys import DeviceId
from common.privacy.recompute import recompute_epsilon
from policies import budget
from tests.ledger.worlds import CALIBRATION, HISTOGRAM, NOW, POLICY, ROUND

DEVICES = [DeviceId(f"device-{number:04}") for number in range(1000)]
ROUNDS = 200


class Fleet:
    """A node whose program is killed now and then, and what it believes to have charged."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.path, self.rng = folder / "ledger.db", random.Random(seed)
        self.book = self._open()
        self.paid: defaultdict[DeviceId, Counter[PlannedRelease]] = defaultdict(Counter)
        self.kills = self.refusals = 0

    def _open(self) -> Ledger:
        return Ledger.open(self.path, POLICY, now=lambda: NOW)

    def kill(self) -> None:
        """As SIGKILL: whatever was not committed is gone, the rest stands."""
        self.kills += 1
        self.book._connection.close()
        self.book = self._open()

    def round(self, cause: str, planned: Sequence[PlannedRelease]) -> None:
        """One round of those who happen to be there; the program may die before, in or after the transaction."""
        present = [device for device in DEVICES if self.rng.random() < 0.15]
        if self.rng.random() < 0.1:
            with contextlib.suppress(RuntimeError), self.book._spending("charge") as changes:
                order = self.book._order(tuple(planned), cause)
                self.book._reserve_some(present[::2], order, {}, changes)
                raise RuntimeError
            self.kill()
        answers = self.book.reserve(present, planned, cause=cause)
        made = [answer for answer in answers.values() if isinstance(answer, Reservation)]
        self.refusals += len(answers) - len(made)
        for answer in made:
            self.paid[answer.device].update(planned)
        if self.rng.random() < 0.1:
            self.kill()
            again = self.book.reserve(present, planned, cause=cause)  # the round is tried again under the same cause
            assert {a.device for a in again.values() if isinstance(a, Reservation) and a.repeated} == {
                answer.device for answer in made
            }
        self.book.settle([answer for answer in made if self.rng.random() < 0.7])


@pytest.mark.slow
def test_a_thousand_devices_over_two_hundred_rounds(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, seed=1)
    for number in range(ROUNDS):
        fleet.round(f"run/{number}", ROUND)
        if number % 40 == 39:
            fleet.round(f"calibrate/{number}", [CALIBRATION])
        if number % 50 == 49:
            fleet.round(f"histogram/{number}", [HISTOGRAM])
    assert fleet.kills > 20
    assert fleet.refusals > 5_000  # the caps were met
    book = fleet.book
    for device in DEVICES:
        held = Counter({(entry.kind, entry.use): 0 for entry in book.entries(device)})
        held.update((entry.kind, entry.use) for entry in book.entries(device))
        assert held == {(release.kind, release.use): times for release, times in fleet.paid[device].items()}
    different = book.spends()
    assert sum(count for _, count in different) == len(fleet.paid)
    for spent, _ in different:
        for line in POLICY.lines:
            value = budget.passed(line, spent)
            assert value is None
    seen = {
        (line.unit, tuple(sorted(use.model_dump_json() for use in uses))): (uses, line.delta)
        for spent, _ in different
        for line in POLICY.lines
        if (uses := budget.uses_on(line, spent))
    }
    for uses, delta in seen.values():
        ours = budget.accountant.epsilon(uses, delta)
        assert ours == pytest.approx(recompute_epsilon(uses, delta), rel=0.01)
    assert book.verify().problems == ()
