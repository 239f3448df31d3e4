"""Any sequence of charges, kills, erasures, copies put back and resets: spend never shrinks and never passes a cap."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from client.budget import Ledger, Reservation
from client.store.keys import DeviceId
from common.errors import BudgetExhausted, LedgerRolledBack
from tests.ledger.worlds import CALIBRATION, DAY, HISTOGRAM, NOW, POLICY, RECORD_ROUND, ROUND, USER_ROUND

DEVICES = [DeviceId(name) for name in ("anna", "ben", "cleo")]
PLANS = [ROUND, (USER_ROUND,), (RECORD_ROUND,), (CALIBRATION,), (HISTOGRAM,), (*ROUND, HISTOGRAM)]


class LedgerMachine(RuleBasedStateMachine):
    """The device's program against its ledger; ``best`` is the most that was ever seen spent in each period."""

    reservations = Bundle("reservations")
    copies = Bundle("copies")

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="reticent-ledger-"))
        self.now, self.count, self.charges = NOW, 0, 0
        self.copied_at: dict[Path, int] = {}
        self.rolled_back = False
        self.best: dict[tuple[int, DeviceId, int], float] = {}
        self.book = self._open()

    def teardown(self) -> None:
        self.book.close()
        shutil.rmtree(self.folder)

    def _open(self) -> Ledger:
        return Ledger.open(self.folder / "ledger.db", POLICY, now=lambda: self.now)

    def _allowed(self) -> contextlib.AbstractContextManager[object]:
        import pytest

        return pytest.raises(LedgerRolledBack) if self.rolled_back else contextlib.nullcontext()

    @rule(target=reservations, who=st.sets(st.sampled_from(DEVICES), min_size=1), plan=st.sampled_from(PLANS))
    def reserve(self, who: set[DeviceId], plan: tuple[object, ...]) -> list[Reservation]:
        self.count += 1
        answers: dict[DeviceId, Reservation | BudgetExhausted] = {}
        with self._allowed():
            answers = dict(self.book.reserve(sorted(who), plan, cause=f"cause/{self.count}"))  # type: ignore[arg-type]
        made = [answer for answer in answers.values() if isinstance(answer, Reservation)]
        self.charges += bool(made)
        return made

    @rule(made=consumes(reservations))
    def settle(self, made: list[Reservation]) -> None:
        held = {(entry.charge, entry.device, entry.cause) for entry in self.book.entries()}
        if all((one.charge, one.device, one.cause) in held for one in made):
            with self._allowed():
                self.book.settle(made)

    @rule(made=reservations)
    def repeat(self, made: list[Reservation]) -> None:
        held = {(entry.device, entry.cause) for entry in self.book.entries()}
        for one in made:
            if (one.device, one.cause) in held:
                before = self.book.epsilon(one.device)
                with self._allowed():
                    again = self.book.reserve([one.device], one.releases, cause=one.cause)[one.device]
                    assert isinstance(again, Reservation)
                    assert again.repeated
                assert self.book.epsilon(one.device) == before

    @rule()
    def kill_and_reopen(self) -> None:
        self.book._connection.close()
        self.book = self._open()

    @rule()
    def die_in_the_middle_of_reserving(self) -> None:
        if self.rolled_back:
            return
        with contextlib.suppress(RuntimeError), self.book._spending("charge") as changes:
            order = self.book._order(ROUND, "lost")
            self.book._reserve_some(DEVICES, order, {}, changes)
            raise RuntimeError("the program ends here")
        self.kill_and_reopen()

    @rule(device=st.sampled_from(DEVICES))
    def erase(self, device: DeviceId) -> None:
        known = {entry.device for entry in self.book.entries()}
        with self._allowed():
            self.book.forget(device)
        self.charges += device in known and not self.rolled_back

    @rule(days=st.sampled_from([-400, -1, 1, 30, 101]))
    def let_time_pass(self, days: int) -> None:
        self.now = max(NOW - 500 * DAY, self.now + days * DAY)

    @rule(target=copies)
    def copy(self) -> Path:
        copy = Path(tempfile.mkdtemp(prefix="copy-", dir=self.folder))
        for file in self.folder.glob("ledger.db*"):
            shutil.copy(file, copy / file.name)
        self.copied_at[copy] = -1 if self.rolled_back else self.charges
        return copy

    @rule(copy=copies)
    def put_back(self, copy: Path) -> None:
        self.book.close()
        for file in self.folder.glob("ledger.db*"):
            file.unlink()
        for file in copy.iterdir():
            shutil.copy(file, self.folder / file.name)
        self.rolled_back = self.copied_at[copy] != self.charges
        self.book = self._open()

    @precondition(lambda self: self.rolled_back)
    @rule()
    def accept(self) -> None:
        self.book.accept_exhausted()
        self.rolled_back = False
        self.charges += 1

    @invariant()
    def spend_never_shrinks_and_never_passes_a_cap(self) -> None:
        if self.rolled_back:
            return
        self.book.confirm()
        period = self.book.period
        for device in DEVICES:
            for index, line in enumerate(POLICY.lines):
                value = self.book.epsilon(device, line)
                assert value <= line.epsilon_cap
                assert value >= self.best.get((period, device, index), 0.0)
                self.best[period, device, index] = value

    @invariant()
    def the_ledger_tells_one_story(self) -> None:
        assert bool(self.book.verify().problems) == self.rolled_back


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
