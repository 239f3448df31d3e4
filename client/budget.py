"""The device's privacy ledger. Owns every charge, durably, before anything leaves: reserve, release, settle.

A crash between reserving and releasing over-counts and never under-counts. Nothing lowers a spend: not a retry, not a
withdrawal, not the erasure of the device (its lines of the running period stay as a tombstone), not a clock that goes
back. Every fresh draw of noise is a charge of its own, so ``cause`` names the draw; the same cause twice is one charge.

One file holds the ledgers of all devices of a node. Each entry is complete in itself: mechanism, parameters, unit,
neighbouring relation, trust model, ε of the release and ε composed with everything before it in the period, and δ.

**Source:** pay-before-release filters as in Rogers et al. 2016, "Privacy Odometers and Filters"; W3C Attribution
Level 1 for periods and for erasure that does not refill.
"""

from __future__ import annotations

import math
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.store.database import connect, named_errors, transaction
from client.store.keys import DeviceId
from client.store.ledger_table import (
    FORMAT,
    SCHEMA,
    LedgerEntry,
    LedgerRefusal,
    insert_entry,
    insert_refusal,
    read_entries,
    read_refusals,
    read_spent,
)
from common.errors import BudgetExhausted, ContractError, StoreError
from common.privacy import accountant
from common.privacy.parameters import MechanismUse, PrivacyStatement
from common.taxonomy import Mechanism, Purpose, RefusalReason
from policies.schema import PrivacyBudgetPolicy

WHAT: Final = "the privacy ledger"
DAY_S: Final = 86_400.0
SECURE: Final = "operating system CSPRNG"


@dataclass(frozen=True, slots=True)
class Reservation:
    """A durable charge, made before its release.

    Attributes:
        entry: number of the ledger entry.
        epsilon: cost of this release alone.
        epsilon_total: cost of everything in the period up to and including it.
        repeated: True when this very cause was charged before: the same noisy bytes may go again, never fresh ones.
    """

    entry: int
    device: DeviceId
    cause: str
    epsilon: float
    epsilon_total: float
    repeated: bool = False


class Ledger:
    """The ledgers of one node's devices under one privacy budget document."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        policy: PrivacyBudgetPolicy,
        *,
        now: Callable[[], float],
        simulation: bool,
        randomness: str,
    ) -> None:
        """Use ``Ledger.open``."""
        self._connection = connection
        self._policy = policy
        self._now = now
        self._simulation = simulation
        self._randomness = randomness
        self._line = accountant.Line(policy.unit, policy.relation, policy.trust)

    @classmethod
    def open(
        cls,
        path: Path,
        policy: PrivacyBudgetPolicy,
        *,
        now: Callable[[], float],
        simulation: bool = False,
        randomness: str = SECURE,
    ) -> Ledger:
        """Open the ledger at ``path``; an absent one is made.

        Args:
            path: the file.
            policy: cap, δ, period and the line that may be charged.
            now: the device's clock, seconds since the epoch.
            simulation: True lets releases without any noise through, at ε = ∞; never on a real device.
            randomness: where the noise of new charges comes from, in words.

        Raises:
            VaultCorrupt: the file is damaged or of another format. Nothing may be released without its ledger.
        """
        connection = connect(path, SCHEMA, version=FORMAT, what=WHAT)
        return cls(connection, policy, now=now, simulation=simulation, randomness=randomness)

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def reserve(
        self, devices: Sequence[DeviceId], use: MechanismUse, *, purpose: Purpose, cause: str
    ) -> Mapping[DeviceId, Reservation | BudgetExhausted]:
        """Charge one release to each device, in one transaction that is on the disk when this returns.

        Args:
            devices: who is about to release.
            use: what the release costs, in the accountant's words.
            purpose: what for.
            cause: names this draw of noise. A cause that was charged before is returned, not charged again.

        Returns:
            Per device its reservation, or the refusal, which is recorded for its owner.

        Raises:
            ContractError: the use is of another unit, relation or trust model than the budget document's, or the
                cause was charged with another use.

        **Privacy:** spends; the cap holds for the composed ε of all entries of the period, reserved ones included.
        """
        if accountant.line_of([use]) != self._line:
            raise ContractError(
                "the release has another unit, relation or trust model than the privacy budget document"
            )
        with transaction(self._connection, WHAT):
            charged = {entry.device: entry for entry in read_entries(self._connection, cause=cause)}
            spent = read_spent(self._connection, self._period(), self._line)
            answers: dict[DeviceId, Reservation | BudgetExhausted] = {}
            for device in dict.fromkeys(devices):
                if device in charged:
                    answers[device] = _same(charged[device], use)
                    continue
                before = spent.get(device, [])
                total = accountant.epsilon([*before, use], self._policy.delta)
                if self._allows(total, [*before, use]):
                    answers[device] = self._charge(device, use, total, purpose=purpose, cause=cause)
                else:
                    answers[device] = self._refuse(device, total, purpose=purpose, cause=cause)
        return answers

    def settle(self, reservations: Iterable[Reservation]) -> None:
        """Mark charges as released.

        Raises:
            StoreError: one of them does not stand in the ledger; then nothing may be released.
        """
        with transaction(self._connection, WHAT):
            for charge in reservations:
                cursor = self._connection.execute(
                    "UPDATE entries SET state = 'settled' WHERE id = ? AND device = ? AND cause = ?",
                    (charge.entry, charge.device, charge.cause),
                )
                if cursor.rowcount != 1:
                    raise StoreError("a charge does not stand in the ledger: nothing may be released for it")

    def statement(self, device: DeviceId, *, lifetime: bool = False) -> PrivacyStatement:
        """The whole statement about what this device has released in the running period, or ever.

        Lifetime figures lose the periods of which an erased device kept no lines.
        """
        period = self.period
        entries = [
            entry
            for entry in self.entries(device)
            if accountant.line_of([entry.use]) == self._line and (lifetime or entry.period == period)
        ]
        sources = " and ".join(sorted({entry.randomness for entry in entries})) or self._randomness
        period_days = self._policy.budget_period_days
        scope = "the lifetime of one device" if lifetime else f"one device in one budget period of {period_days} days"
        uses = [entry.use for entry in entries]
        return accountant.statement(uses, self._policy.delta, sources, line=self._line, scope=scope)

    def epsilon(self, device: DeviceId) -> float:
        """Composed ε of the running period; infinity once anything was released without noise."""
        with named_errors(WHAT):
            spent = read_spent(self._connection, self._period(), self._line, device)
        return accountant.epsilon(spent.get(device, []), self._policy.delta)

    def remaining(self, device: DeviceId) -> float:
        """ε left under the cap in this period, at least 0. Composition is not additive: a lower bound of what fits."""
        return max(0.0, self._policy.epsilon_cap - self.epsilon(device))

    def entries(self, device: DeviceId | None = None) -> list[LedgerEntry]:
        """All lines of one device, or of all, oldest first."""
        with named_errors(WHAT):
            return read_entries(self._connection, device=device)

    def refusals(self, device: DeviceId | None = None) -> list[LedgerRefusal]:
        """Releases that were not allowed, oldest first."""
        with named_errors(WHAT):
            return read_refusals(self._connection, device)

    def devices(self) -> list[DeviceId]:
        """Devices with a line of any kind, erased ones included."""
        with named_errors(WHAT):
            rows = self._connection.execute(
                "SELECT device FROM entries UNION SELECT device FROM refusals ORDER BY device"
            ).fetchall()
        return [DeviceId(device) for (device,) in rows]

    def forget(self, device: DeviceId) -> None:
        """Erase what the ledger need not keep: earlier periods, refusals and causes. The running period's spend stays.

        **Privacy:** a tombstone: a device that is erased and begins again finds its budget as it left it.
        """
        with transaction(self._connection, WHAT):
            self._connection.execute("DELETE FROM entries WHERE device = ? AND period < ?", (device, self._period()))
            self._connection.execute("DELETE FROM refusals WHERE device = ?", (device,))
            rows = self._connection.execute("SELECT id FROM entries WHERE device = ?", (device,)).fetchall()
            for (number,) in rows:
                self._connection.execute(
                    "UPDATE entries SET cause = ? WHERE id = ?", (f"erased-{secrets.token_hex(8)}", number)
                )

    @property
    def period(self) -> int:
        """Number of the running budget period: fixed spans since the epoch, never earlier than one already charged."""
        with named_errors(WHAT):
            return self._period()

    @property
    def policy(self) -> PrivacyBudgetPolicy:
        """The privacy budget document this ledger charges under."""
        return self._policy

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _day(self) -> int:
        return math.floor(self._now() / DAY_S)

    def _period(self) -> int:
        latest = self._connection.execute("SELECT MAX(period) FROM entries").fetchone()[0]
        current = self._day() // self._policy.budget_period_days
        return current if latest is None else max(current, latest)

    def _allows(self, total: float, uses: Sequence[MechanismUse]) -> bool:
        """Within the cap; a simulation may go on without privacy, and then shows ∞ from that line on."""
        if any(use.mechanism is Mechanism.NONE for use in uses):
            return self._simulation
        return total <= self._policy.epsilon_cap

    def _charge(
        self, device: DeviceId, use: MechanismUse, total: float, *, purpose: Purpose, cause: str
    ) -> Reservation:
        entry = LedgerEntry(
            entry=0,
            device=device,
            cause=cause,
            purpose=purpose,
            period=self._period(),
            day=self._day(),
            state="reserved",
            use=use,
            randomness=self._randomness,
            epsilon=accountant.epsilon([use], self._policy.delta),
            epsilon_total=total,
            delta=self._policy.delta,
        )
        return Reservation(insert_entry(self._connection, entry), device, cause, entry.epsilon, total)

    def _refuse(self, device: DeviceId, total: float, *, purpose: Purpose, cause: str) -> BudgetExhausted:
        reason = RefusalReason.BUDGET_EXHAUSTED
        cap = self._policy.epsilon_cap
        insert_refusal(
            self._connection,
            LedgerRefusal(device, cause, purpose, self._day(), reason, epsilon_would_be=total, epsilon_cap=cap),
        )
        return BudgetExhausted(reason)


def _same(entry: LedgerEntry, use: MechanismUse) -> Reservation:
    """The charge that stands already for this cause."""
    if entry.use != use:
        raise ContractError("this cause was charged with another mechanism or other parameters")
    return Reservation(entry.entry, entry.device, entry.cause, entry.epsilon, entry.epsilon_total, repeated=True)
