"""What a device's privacy ledger shows: spends, statements, entries, refusals. Owns its readings; charges nothing."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from client.store import ledger_table as table
from client.store.database import named_errors
from client.store.keys import DeviceId
from client.store.ledger_chain import Anchor, Chain
from client.store.ledger_check import Verdict, verify
from client.store.ledger_file import WHAT
from client.store.ledger_table import LedgerEntry, LedgerRefusal, SpendKey, Uses
from common.privacy import accountant
from common.privacy.parameters import MechanismUse, PrivacyStatement
from common.taxonomy import PrivacyUnit, Purpose, ReleaseKind
from policies import budget
from policies.budget import DAY_S, OverBudget, PlannedRelease
from policies.schema import BudgetLine, PrivacyBudgetPolicy

SECURE: Final = "operating system CSPRNG"


class LedgerView:
    """The ledgers of one node's devices, as their owners read them."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        anchor: Anchor,
        policy: PrivacyBudgetPolicy,
        *,
        now: Callable[[], float],
        simulation: bool,
        randomness: str,
    ) -> None:
        """Use ``Ledger.open``."""
        self._connection = connection
        self._anchor = anchor
        self._chain = Chain(connection, anchor)
        self._uses = Uses(connection)
        self._policy = policy
        self._now = now
        self._simulation = simulation
        self._randomness = randomness

    def confirm(self) -> None:
        """Check that the ledger is at least as new as its anchor.

        Raises:
            LedgerRolledBack: it is not; nothing may be released.
        """
        mark = self._anchor.read()
        with named_errors(WHAT):
            self._chain.confirm(mark)

    def spent(self, device: DeviceId) -> list[tuple[Purpose, MechanismUse]]:
        """What a device has spent in the running period, equal uses of one kind counted together."""
        with named_errors(WHAT):
            return self._uses.spent(table.spend_of(self._connection, device, self._period()))

    def made(self, device: DeviceId) -> Counter[tuple[ReleaseKind, PrivacyUnit]]:
        """How many releases of each kind and unit a device was charged in the running period."""
        with named_errors(WHAT):
            key = table.spend_of(self._connection, device, self._period())
            return budget.counted((*self._uses[number], times) for number, times in key)

    def refuses(self, devices: Sequence[DeviceId], planned: Sequence[PlannedRelease]) -> set[DeviceId]:
        """Devices whose budget does not allow the planned releases as it stands; equal spends are looked at once."""
        if self.exhausted:
            return set(devices)
        verdicts: dict[SpendKey, OverBudget | None] = {}
        found: set[DeviceId] = set()
        with named_errors(WHAT):
            for device in devices:
                key = table.spend_of(self._connection, device, self._period())
                if key not in verdicts:
                    verdicts[key] = self._verdict(key, planned)
                if verdicts[key] is not None:
                    found.add(device)
        return found

    def charged(self, cause: str) -> set[DeviceId]:
        """Devices that were charged for this cause, ever; an erased one is not remembered by it."""
        query = (
            "SELECT d.name FROM charges c CROSS JOIN entries e ON e.charge = c.id "
            "CROSS JOIN devices d ON d.id = e.device WHERE c.cause = ?"
        )
        with named_errors(WHAT):
            return {DeviceId(name) for (name,) in self._connection.execute(query, (cause,))}

    def epsilon(self, device: DeviceId, line: BudgetLine | None = None) -> float:
        """Composed ε of the running period on a line (the headline when absent); ∞ once anything had no noise.

        At least the cap in a period that was accepted as exhausted: what was spent then is not known.
        """
        line = line or budget.headline(self._policy)
        value = accountant.epsilon(budget.uses_on(line, self.spent(device)), line.delta)
        return max(value, line.epsilon_cap) if self.exhausted else value

    def remaining(self, device: DeviceId, line: BudgetLine | None = None) -> float:
        """ε left under a line's cap in this period, at least 0. Composition is not additive: a lower bound."""
        line = line or budget.headline(self._policy)
        return max(0.0, line.epsilon_cap - self.epsilon(device, line))

    def statement(
        self, device: DeviceId, line: BudgetLine | None = None, *, lifetime: bool = False
    ) -> PrivacyStatement:
        """The whole statement about what this device has released on a line in the running period, or ever.

        Lifetime figures lose the periods of which an erased device kept no lines.
        """
        line = line or budget.headline(self._policy)
        key = accountant.Line(line.unit, line.relation, line.trust)
        period = self.period
        entries = [
            entry
            for entry in self.entries(device)
            if accountant.line_of([entry.use]) == key and (lifetime or entry.period == period)
        ]
        sources = " and ".join(sorted({entry.randomness for entry in entries})) or self._randomness
        period_days = self._policy.budget_period_days
        scope = "the lifetime of one device" if lifetime else f"one device in one budget period of {period_days} days"
        said = accountant.statement([entry.whole_use for entry in entries], line.delta, sources, line=key, scope=scope)
        if not self.exhausted:
            return said
        lost = f"{said.composition}; and what a lost ledger held, up to the cap"
        return said.model_copy(update={"epsilon": max(said.epsilon, line.epsilon_cap), "composition": lost})

    def verify(self) -> Verdict:
        """Check chain, anchor, charges, totals and caps, row by row."""
        with named_errors(WHAT):
            return verify(self._connection, self._anchor, self._chain, self._uses, self._policy, self._simulation)

    def spends(self) -> list[tuple[list[tuple[Purpose, MechanismUse]], int]]:
        """Every different spend of the running period, and how many devices have it."""
        with named_errors(WHAT):
            groups = table.spends(self._connection, self._period())
            return [(self._uses.spent(key), count) for key, count in groups]

    def releases(self) -> list[tuple[MechanismUse, float, float]]:
        """Every different release that was charged, as (use, ε at δ as written down, δ)."""
        with named_errors(WHAT):
            rows = self._connection.execute("SELECT DISTINCT use, times, epsilon, delta FROM releases").fetchall()
            return [(table.times_over(self._uses[use][1], times), value, delta) for use, times, value, delta in rows]

    def entries(self, device: DeviceId | None = None) -> list[LedgerEntry]:
        """All lines of one device, or of all, oldest first."""
        with named_errors(WHAT):
            return list(table.entries(self._connection, self._uses, device))

    def refusals(self, device: DeviceId | None = None) -> list[LedgerRefusal]:
        """Releases that were not allowed, oldest first."""
        with named_errors(WHAT):
            return table.refusals(self._connection, device)

    def devices(self) -> list[DeviceId]:
        """Devices with a line of any kind, erased ones included."""
        with named_errors(WHAT):
            rows = self._connection.execute("SELECT name FROM devices ORDER BY name").fetchall()
        return [DeviceId(device) for (device,) in rows]

    @property
    def period(self) -> int:
        """Number of the running budget period: fixed spans since the epoch, never earlier than one already charged."""
        with named_errors(WHAT):
            return self._period()

    @property
    def exhausted(self) -> bool:
        """Whether the running period was accepted as spent after a loss."""
        with named_errors(WHAT):
            return self._is_exhausted(self._period())

    @property
    def policy(self) -> PrivacyBudgetPolicy:
        """The privacy budget document this ledger charges under."""
        return self._policy

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _verdict(
        self, key: SpendKey, planned: Sequence[PlannedRelease], policy: PrivacyBudgetPolicy | None = None
    ) -> OverBudget | None:
        """The bound that a device with this spend would pass: the document's, or a stricter policy's."""
        spent, made = self._uses.spent(key), budget.counted((*self._uses[number], times) for number, times in key)
        return budget.over(policy or self._policy, spent, planned, made=made, simulation=self._simulation)

    def _is_exhausted(self, period: int) -> bool:
        query = "SELECT 1 FROM exhausted WHERE period = ?"
        return self._connection.execute(query, (period,)).fetchone() is not None

    def _day(self) -> int:
        return math.floor(self._now() / DAY_S)

    def _latest(self) -> int | None:
        """The newest period that was charged or exhausted."""
        query = "SELECT MAX(p) FROM (SELECT MAX(period) p FROM charges UNION ALL SELECT MAX(period) FROM exhausted)"
        (latest,) = self._connection.execute(query).fetchone()
        return None if latest is None else int(latest)

    def _period(self) -> int:
        return budget.period_of(self._day(), self._policy.budget_period_days, self._latest())
