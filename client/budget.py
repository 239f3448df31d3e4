"""The device's privacy ledger. Owns every charge, durably, before anything leaves: reserve, release, settle.

A crash between reserving and releasing over-counts and never under-counts. Nothing lowers a spend: not a retry, not a
withdrawal, not the erasure of the device (a tombstone of the running period stays), not a clock that goes back, not a
copy of the file put back (``client.store.ledger_chain`` sees it, and then nothing may be released until its owner
accepts the period as spent). Every fresh draw of noise is a charge of its own, so ``cause`` names the draw; the same
cause twice is one charge.

One file holds the ledgers of all devices of a node. Each entry is complete in itself: mechanism, parameters, unit,
neighbouring relation, trust model, ε of the release alone, δ, ρ, period, cause, purpose and kind.

**Source:** pay-before-release filters as in Rogers et al. 2016, "Privacy Odometers and Filters"; W3C Attribution
Level 1 for periods and for erasure that does not refill.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from client.store import ledger_table as table
from client.store.database import transaction
from client.store.keys import DeviceId
from client.store.ledger_chain import MODULUS, Anchor
from client.store.ledger_file import WHAT, open_ledger, set_aside
from client.store.ledger_table import Charge, LedgerRefusal, ReleaseRow, SpendKey, Uses
from client.store.ledger_view import SECURE, LedgerView
from common.errors import BudgetExhausted, ContractError, LedgerRolledBack, StoreError, VaultCorrupt
from common.privacy import accountant
from policies import budget
from policies.budget import OverBudget, PlannedRelease
from policies.releases import line_for
from policies.schema import PrivacyBudgetPolicy

__all__ = ["Ledger", "PlannedRelease", "Reservation"]

ANCHOR: Final = "ledger.anchor"
_SLICE: Final = 50_000


@dataclass(frozen=True, slots=True)
class Reservation:
    """A durable charge, made before its releases.

    Attributes:
        charge: its number in the ledger.
        releases: everything it pays for.
        epsilon: what it costs alone, on the line of its first release.
        repeated: True when this very cause was charged before: the same noisy bytes may go again, never fresh ones.
    """

    charge: int
    device: DeviceId
    cause: str
    releases: tuple[PlannedRelease, ...]
    epsilon: float
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class _Order:
    """One call of ``reserve``: what all its devices have in common.

    Attributes:
        rows: the planned releases as rows of a charge.
        standing: charges of this cause that were made before.
        policy: whose bounds hold: the document, or the same with lower caps.
    """

    planned: tuple[PlannedRelease, ...]
    cause: str
    rows: tuple[ReleaseRow, ...]
    epsilon: float
    standing: tuple[Charge, ...]
    verdicts: dict[SpendKey, OverBudget | None]
    policy: PrivacyBudgetPolicy

    def reservation(self, charge: int, device: DeviceId, *, repeated: bool = False) -> Reservation:
        """The answer to one device."""
        return Reservation(charge, device, self.cause, self.planned, self.epsilon, repeated)


class Ledger(LedgerView):
    """The ledgers of one node's devices under one privacy budget document. Not for use by several threads."""

    @classmethod
    def open(
        cls,
        path: Path,
        policy: PrivacyBudgetPolicy,
        *,
        now: Callable[[], float],
        anchor: Path | None = None,
        simulation: bool = False,
        randomness: str = SECURE,
    ) -> Ledger:
        """Open the ledger at ``path``; an absent one is made, one of an older format is brought forward.

        A ledger that was rolled back opens, so that its owner can read it; whatever would release then fails.

        Args:
            path: the file.
            policy: lines, caps, quotas and period.
            now: the device's clock, seconds since the epoch.
            anchor: the anchor file, apart from the ledger; ``keys/ledger.anchor`` beside it when absent.
            simulation: True lets releases without any noise through, at ε = ∞; never on a real device.
            randomness: where the noise of new charges comes from, in words.

        Raises:
            VaultCorrupt: the file is damaged or of another format. Nothing may be released without its ledger.
        """
        held = Anchor(anchor or path.parent / "keys" / ANCHOR)
        connection = open_ledger(path, held)
        return cls(connection, held, policy, now=now, simulation=simulation, randomness=randomness)

    @classmethod
    def recover(
        cls, path: Path, policy: PrivacyBudgetPolicy, *, now: Callable[[], float], anchor: Path | None = None
    ) -> tuple[int, Path | None]:
        """Go on after a loss, a rollback or damage: open what is left, and accept the running period as spent.

        Returns:
            The number of the period, and where a file that could not be read was moved to.

        Raises:
            StoreError: the files cannot be written.
        """
        moved = None
        try:
            ledger = cls.open(path, policy, now=now, anchor=anchor)
        except VaultCorrupt:
            moved = set_aside(path)
            ledger = cls.open(path, policy, now=now, anchor=anchor)
        with contextlib.closing(ledger):
            return ledger.accept_exhausted(), moved

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    # ── spending ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def reserve(
        self,
        devices: Sequence[DeviceId],
        planned: Sequence[PlannedRelease],
        *,
        cause: str,
        epsilon_max: float = math.inf,
    ) -> Mapping[DeviceId, Reservation | BudgetExhausted]:
        """Charge planned releases to each device, in one transaction that is on the disk when this returns.

        Args:
            devices: who is about to release.
            planned: what each of them will release; a device is charged for all of it or for nothing.
            cause: names this draw of noise. A cause that was charged before is returned, not charged again.
            epsilon_max: no line may pass this, where the document would allow more.

        Returns:
            Per device its reservation, or the refusal, which is recorded for its owner.

        Raises:
            PolicyError: a release has no line in the privacy budget document.
            ContractError: a release claims amplification, or the cause was charged with other releases.
            LedgerRolledBack: the ledger is older than what was spent; nothing may be released.
            StoreError: the charge could not be made durable; nothing may be released.

        **Privacy:** spends. Caps, quotas and ``releases_max`` hold for all entries of the period, reserved included.
        """
        budget.check(self._policy, planned)
        answers: dict[DeviceId, Reservation | BudgetExhausted] = {}
        with self._spending("charge") as changes:
            order = self._order(tuple(planned), cause, budget.lowered(self._policy, epsilon_max))
            names = iter(dict.fromkeys(devices))
            while part := list(itertools.islice(names, _SLICE)):
                self._reserve_some(part, order, answers, changes)
        return answers

    def settle(self, reservations: Iterable[Reservation]) -> None:
        """Mark charges as released.

        Raises:
            LedgerRolledBack: as in ``reserve``.
            StoreError: one of them does not stand in the ledger; then nothing may be released.
        """
        by_charge: defaultdict[tuple[int, str], list[DeviceId]] = defaultdict(list)
        for made in reservations:
            by_charge[made.charge, made.cause].append(made.device)
        with transaction(self._connection, WHAT):
            self._chain.confirm(self._anchor.read())
            for (charge, cause), names in by_charge.items():
                if not table.settle(self._connection, charge, cause, names):
                    raise StoreError("a charge does not stand in the ledger: nothing may be released for it")

    def forget(self, device: DeviceId) -> None:
        """Erase what the ledger need not keep: earlier periods, refusals, causes and days.

        **Privacy:** a tombstone stays, one line for each use with how often it was charged in the running period: a
        device that is erased and begins again finds its budget as it left it.
        """
        with self._spending("forget") as changes:
            numbers = table.ask(self._connection, [device], create=False)
            if not numbers:
                return
            (number,) = numbers
            self._collapse(number, device, changes)
            self._connection.execute("DELETE FROM refused WHERE device = ?", (number,))
            self._connection.execute("DELETE FROM denials WHERE id NOT IN (SELECT denial FROM refused)")
            if self._connection.execute("SELECT 1 FROM spend WHERE device = ?", (number,)).fetchone() is None:
                self._connection.execute("DELETE FROM devices WHERE id = ?", (number,))
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def accept_exhausted(self) -> int:
        """Go on after a rollback or a loss: the running period counts as spent, for every device of this node.

        Returns:
            The number of the period.
        """
        try:
            mark = self._anchor.read()
        except LedgerRolledBack:  # damaged: nothing in it can be trusted
            set_aside(self._anchor.path)
            mark = None
        if mark is None:
            self._anchor.create()
        with transaction(self._connection, WHAT):
            period = max(self._period(), mark.period if mark else 0)
            if not self._is_exhausted(period):
                insert = "INSERT INTO exhausted (period, day) VALUES (?, ?)"
                self._connection.execute(insert, (period, self._day()))
            root = table.reseal(self._connection, self._uses, self._anchor.key)
            new = self._chain.restart(root, period=period, at_least=mark.sequence if mark else 0)
        self._anchor.write(new)
        return period

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def _spending(self, what: str) -> Iterator[list[int]]:
        """One transaction that may spend: confirmed against the anchor before, linked and anchored after.

        Yields:
            A list that takes every change of the digest of all charges.
        """
        changes: list[int] = []
        new = None
        try:
            with transaction(self._connection, WHAT):
                mark = self._anchor.read()  # never ahead: it follows commits, and nobody else can commit now
                newest = self._chain.confirm(mark)
                if mark is None and newest is None:
                    self._anchor.create()
                yield changes
                if changes:
                    new = self._chain.extend(what, sum(changes) % MODULUS, period=self._latest() or 0)
        except BaseException:
            self._uses = Uses(self._connection)  # numbers of uses that were never committed may be given again
            raise
        if new is not None:
            self._anchor.write(new)

    def _order(
        self, planned: tuple[PlannedRelease, ...], cause: str, policy: PrivacyBudgetPolicy | None = None
    ) -> _Order:
        """What all devices of a reservation have in common.

        Raises:
            ContractError: the cause was charged with other releases.
        """
        rows = tuple(self._row(release, 1) for release in planned)
        standing = tuple(table.charges(self._connection, cause=cause))
        if any([row.use for row in charge.releases] != [row.use for row in rows] for charge in standing):
            raise ContractError("this cause was charged with another mechanism or other parameters")
        first = line_for(self._policy, planned[0].use)
        mine = budget.uses_on(first, [(release.purpose, release.use) for release in planned])
        return _Order(planned, cause, rows, accountant.epsilon(mine, first.delta), standing, {}, policy or self._policy)

    def _row(self, release: PlannedRelease, times: int) -> ReleaseRow:
        line = line_for(self._policy, release.use)
        whole = table.times_over(release.use, times)
        number = self._uses.number(release.kind, release.use)
        return ReleaseRow(number, times, accountant.epsilon([whole], line.delta), accountant.rho([whole]), line.delta)

    def _reserve_some(
        self,
        names: Sequence[DeviceId],
        order: _Order,
        answers: dict[DeviceId, Reservation | BudgetExhausted],
        changes: list[int],
    ) -> None:
        """Answer a slice of the devices."""
        asked = table.ask(self._connection, names)
        done: set[int] = set()
        for charge in order.standing:
            for number in table.asked_in(self._connection, charge.id):
                answers[asked[number]] = order.reservation(charge.id, asked[number], repeated=True)
                done.add(number)
        spent = table.asked_spend(self._connection, self._period())
        for number, over in self._over(spent, [number for number in asked if number not in done], order).items():
            answers[asked[number]] = over.refusal()
            done.add(number)
            self._deny(order, over, number)
        table.leave_out(self._connection, done)
        granted = [asked[number] for number in asked if number not in done]
        if granted:
            made = self._charge(order.cause, order.rows, granted, changes)
            answers.update((name, order.reservation(made, name)) for name in granted)

    def _over(self, spent: Mapping[int, SpendKey], numbers: Sequence[int], order: _Order) -> dict[int, OverBudget]:
        """Devices whose budget does not allow the order, with the bound; equal spends are looked at once."""
        if self._is_exhausted(self._period()):
            line = line_for(self._policy, order.planned[0].use)
            return dict.fromkeys(numbers, OverBudget(line, None, math.inf, line.epsilon_cap))
        found: dict[int, OverBudget] = {}
        for number in numbers:
            key = spent.get(number, ())
            if key not in order.verdicts:
                order.verdicts[key] = self._verdict(key, order.planned, order.policy)
            over = order.verdicts[key]
            if over is not None:
                found[number] = over
        return found

    def _deny(self, order: _Order, over: OverBudget, number: int) -> None:
        refusal = LedgerRefusal(
            device=DeviceId(""),
            cause=order.cause,
            purpose=over.quota or order.planned[0].purpose,
            day=self._day(),
            unit=over.line.unit,
            bound=over.bound,
            epsilon_would_be=over.epsilon_would_be,
            epsilon_max=over.epsilon_max,
        )
        table.deny_asked(self._connection, refusal, [number])

    def _charge(self, cause: str, rows: tuple[ReleaseRow, ...], names: Sequence[DeviceId], changes: list[int]) -> int:
        """Charge the devices asked about, whose names these are; the number of the charge."""
        draft = Charge(0, cause, self._period(), self._day(), self._randomness, rows)
        same = (draft.period, draft.day, draft.randomness)
        standing = (c for c in table.charges(self._connection, cause=cause) if (c.period, c.day, c.randomness) == same)
        charge = next(standing, None) or table.open_charge(self._connection, draft)
        table.charge_asked(self._connection, charge)
        self._close(charge, names, changes, sign=1)
        return charge.id

    def _close(self, charge: Charge, names: Sequence[DeviceId], changes: list[int], *, sign: int) -> None:
        """Count devices into a charge, or out of it."""
        key = self._anchor.key
        members = (charge.members + sign * table.member(key, charge.id, names)) % MODULUS
        closed = replace(charge, devices=charge.devices + sign * len(names), members=members)
        changes.append(table.close_charge(self._connection, closed, key=key, uses=self._uses))

    def _collapse(self, number: int, device: DeviceId, changes: list[int]) -> None:
        """Replace a device's entries by one tombstone of the latest period, and drop earlier periods."""
        latest = self._latest()
        if latest is None:
            return
        kept = table.asked_spend(self._connection, latest).get(number, ())
        sources = []
        for charge in list(table.charges(self._connection)):
            if table.asked_in(self._connection, charge.id):
                where = (charge.id, number)
                self._connection.execute("DELETE FROM entries WHERE charge = ? AND device = ?", where)
                self._close(charge, [device], changes, sign=-1)
                sources += [charge.randomness] * (charge.period == latest)
        if kept:
            rows = tuple(self._row(PlannedRelease(*self._uses[use]), times) for use, times in kept)
            self._bury(number, device, rows, changes, randomness=" and ".join(sorted(set(sources))), period=latest)
        self._connection.execute("DELETE FROM spend WHERE device = ? AND period < ?", (number, latest))

    def _bury(
        self,
        number: int,
        device: DeviceId,
        rows: tuple[ReleaseRow, ...],
        changes: list[int],
        *,
        randomness: str,
        period: int,
    ) -> None:
        """Write the tombstone: an entry for what the device's spend says already."""
        day = period * self._policy.budget_period_days
        draft = Charge(0, f"erased-{secrets.token_hex(8)}", period, day, randomness, rows)
        charge = table.open_charge(self._connection, draft)
        insert = "INSERT INTO entries (charge, device, settled) VALUES (?, ?, 1)"
        self._connection.execute(insert, (charge.id, number))
        self._close(charge, [device], changes, sign=1)
