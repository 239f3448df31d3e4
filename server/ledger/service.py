"""The server's privacy ledger. Owns what it has let each device identity release: reserve, then settle.

The same filter and the same caps as on the device, so that a device which lost its own ledger is still refused. It
knows devices by the hash of the identity key they sign with, or by a keyed tombstone once they were erased; a device
that enrols anew under another key is a stranger here, and it is the device's own ledger that holds its spend. Devices
of local profiles are not known by identity at all: their rounds are charged by number.

What binds is the document's cap or the privacy officers' (``server.ledger.caps``), whichever is lower.

Every charge is one transaction, durable before ``reserve`` returns. Writers wait for each other, so caps hold for any
number of trainings at once.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from common.errors import StoreError
from common.privacy import accountant
from common.privacy.parameters import MechanismUse
from common.taxonomy import Purpose, ReleaseKind
from policies import budget
from policies.budget import DAY_S, OverBudget, PlannedRelease
from policies.releases import line_for
from policies.schema import BudgetLine, PrivacyBudgetPolicy
from server.ledger import repository, tombstones
from server.ledger.bounds import capped
from server.ledger.packing import Spend, pack_members, unpack_spend
from server.ledger.repository import StoredCharge, StoredRelease, SubjectSpend
from server.ledger.told import Appends, tell
from server.ledger.words import Entry, Words, same_releases
from server.storage import Database, Transaction, exclusive

ROOM: Final = "ledger"
"""What writers of the ledger wait for."""


class ServerLedger:
    """The ledger of all devices under one privacy budget document.

    Args of the constructor:
        database: the server's.
        policy: lines, caps, quotas and period.
        now: the clock, seconds since the epoch.
        simulation: True lets releases without any noise through, at ε = ∞.
        log: the transparency log, which gets an entry in the transaction of every charge.
    """

    def __init__(
        self,
        database: Database,
        policy: PrivacyBudgetPolicy,
        *,
        now: Callable[[], float] = time.time,
        simulation: bool = False,
        log: Appends | None = None,
    ) -> None:
        self._database, self._policy, self._now, self._simulation = database, policy, now, simulation
        self._log, self._words = log, Words()

    @property
    def database(self) -> Database:
        """Where it is."""
        return self._database

    @property
    def policy(self) -> PrivacyBudgetPolicy:
        """The privacy budget document this ledger charges under."""
        return self._policy

    # ── spending ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def barred(self, planned: Sequence[PlannedRelease], subjects: Sequence[bytes]) -> frozenset[bytes]:
        """Identities whose budget does not allow the planned releases now. Charges nobody.

        Raises:
            ContractError, PolicyError: as ``reserve``.
        """
        return frozenset(self.refusals(planned, subjects))

    def refusals(self, planned: Sequence[PlannedRelease], subjects: Sequence[bytes]) -> dict[bytes, OverBudget]:
        """Identities whose budget does not allow the planned releases now, each with its bound. Charges nobody.

        Raises:
            ContractError, PolicyError: as ``reserve``.
        """
        budget.check(self._policy, planned)
        with self._database.read() as session:
            period = self.period_in(session)
            names, found = tombstones.resolve(session, subjects, period)
            return self._over(session, names, found, planned, period)

    def reserve(
        self, run_id: str, cause: str, planned: Sequence[PlannedRelease], subjects: Sequence[bytes]
    ) -> frozenset[bytes]:
        """Charge planned releases to each identity, in one transaction that is durable when this returns.

        Args:
            run_id: the training.
            cause: the session; one that was charged before charges only devices that are new to it.
            planned: what each device will release; all of it is charged, or nothing.
            subjects: identity public keys of the devices.

        Returns:
            Identities that are barred: their budget does not allow it, they are not charged and must not release.

        Raises:
            PolicyError: a release has no line in the privacy budget document.
            ContractError: a release claims amplification, or the cause was charged with other releases.

        **Privacy:** spends. Caps, quotas and ``releases_max`` hold for all charges of the period, settled or not.
        """
        budget.check(self._policy, planned)
        with self._writing() as session:
            rows = tuple(self._release(session, release) for release in planned)
            standing = same_releases(repository.charge(session, cause), rows)
            period = self.period_in(session)
            tombstones.retire(session, period)
            names, found = tombstones.resolve(session, subjects, period)
            members = set(standing.numbers) if standing else set()
            new = {
                identity: name
                for identity, name in names.items()
                if name not in found or found[name].number not in members
            }
            barred = self._over(session, new, found, planned, period)
            charged = [name for identity, name in new.items() if identity not in barred]
            numbers = self._spend(session, charged, found, rows, period)
            everybody = [*members, *numbers]
            self._write(
                session,
                standing,
                everybody,
                run_id=run_id,
                cause=cause,
                rows=rows,
                barred=len(barred),
                period=period,
            )
            self._tell(session, cause, "extended" if standing else "charged")
        return frozenset(barred)

    def settle(self, cause: str, survivors: Iterable[bytes]) -> None:
        """Note which devices are in the released sum. The others stay charged: they may have sent their share.

        Raises:
            StoreError: the cause was never charged, or not to one of these devices.
        """
        with self._writing() as session:
            charge = repository.charge(session, cause)
            if charge is None:
                raise StoreError("a released sum was never charged to the server's privacy ledger")
            resolved, found = tombstones.resolve(session, survivors, self.period_in(session))
            names = set(resolved.values())
            numbers = {found[name].number for name in names & found.keys()}
            if len(numbers) != len(names) or not numbers <= set(charge.numbers):
                raise StoreError("a released sum holds a device that was never charged for it")
            repository.set_settled(session, charge.id, numbers)
            self._tell(session, cause, "settled")

    def charge_unnamed(self, run_id: str, cause: str, planned: Sequence[PlannedRelease], devices: int = 0) -> None:
        """Charge a round whose devices are not known by identity, for what each is charged on its own ledger.

        Called before anybody is asked, and again with how many answered before any answer is used: a charge is
        durable first, and counts no fewer devices later.

        Raises:
            PolicyError, ContractError: as ``reserve``.
        """
        budget.check(self._policy, planned)
        with self._writing() as session:
            rows = tuple(self._release(session, release) for release in planned)
            standing = same_releases(repository.charge(session, cause), rows)
            if standing is None:
                period = self.period_in(session)
                self._write(session, None, [], run_id=run_id, cause=cause, rows=rows, unnamed=devices, period=period)
                self._tell(session, cause, "charged")
            elif devices > standing.unnamed:
                repository.set_unnamed(session, standing, devices)
                self._tell(session, cause, "extended")

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def spent(self, identity: bytes) -> list[tuple[Purpose, MechanismUse]]:
        """What one identity has spent in the running period."""
        with self._database.read() as session:
            period = self.period_in(session)
            names, found = tombstones.resolve(session, [identity], period)
            return self._words.of(session, running(found.get(names[identity]), period))

    def epsilon(self, identity: bytes, line: BudgetLine | None = None) -> float:
        """Composed ε of one identity's running period on a line (the headline when absent)."""
        line = line or budget.headline(self._policy)
        return accountant.epsilon(budget.uses_on(line, self.spent(identity)), line.delta)

    def remaining(self, identity: bytes, line: BudgetLine | None = None) -> float:
        """ε left under a line's cap in this period, at least 0. Composition is not additive: a lower bound."""
        line = line or budget.headline(self._policy)
        return max(0.0, line.epsilon_cap - self.epsilon(identity, line))

    def entries(self, identity: bytes) -> list[Entry]:
        """Every release charged to one identity, oldest first."""
        with self._database.read() as session:
            return self.entries_in(session, identity)

    def entries_in(self, session: Transaction, identity: bytes) -> list[Entry]:
        """``entries`` inside the caller's transaction."""
        names, known = tombstones.resolve(session, [identity], self.period_in(session))
        subject = known.get(names[identity])
        if subject is None:
            return []
        found = []
        for charge in repository.charges(session):
            if subject.number in charge.numbers:
                found += self._words.entries(session, charge, subject.number)
        return found

    def of_pseudonym(self, name: bytes) -> tuple[list[tuple[Purpose, MechanismUse]], list[Entry]] | None:
        """What the device of a pseudonym has spent in the running period, and every release charged to it."""
        with self._database.read() as session:
            subject = repository.subjects(session, [name]).get(name)
            if subject is None:
                return None
            spent = self._words.of(session, running(subject, self.period_in(session)))
            charges = (one for one in repository.charges(session) if subject.number in one.numbers)
            return spent, [entry for one in charges for entry in self._words.entries(session, one, subject.number)]

    def charges(self, run_id: str | None = None) -> list[StoredCharge]:
        """All charges, or those of one training, oldest first."""
        with self._database.read() as session:
            return list(repository.charges(session, run_id))

    def spends(self) -> list[tuple[list[tuple[Purpose, MechanismUse]], int]]:
        """Every different spend of the running period, and how many identities have it."""
        with self._database.read() as session:
            groups = repository.spends(session, self.period_in(session))
            return [(self._words.of(session, spend), count) for spend, count in groups]

    def made(self) -> list[budget.Made]:
        """How many releases of each kind every spend of ``spends`` stands for, in its order."""
        with self._database.read() as session:
            groups = repository.spends(session, self.period_in(session))
            return [self._words.made(session, spend) for spend, _ in groups]

    def releases(self) -> list[tuple[MechanismUse, float, float]]:
        """Every different release that was charged, as (use, ε at δ as written down, δ)."""
        with self._database.read() as session:
            known = repository.uses(session)
            rows = {
                (row.use, row.epsilon, row.delta) for charge in repository.charges(session) for row in charge.releases
            }
        return [(known[use][1], value, delta) for use, value, delta in sorted(rows)]

    def uses(self) -> dict[int, tuple[ReleaseKind, MechanismUse]]:
        """Every mechanism that was ever charged, by the number under which charges name it."""
        with self._database.read() as session:
            return repository.uses(session)

    def subjects(self) -> list[SubjectSpend]:
        """Every identity by number, with what it has spent, packed."""
        with self._database.read() as session:
            return list(repository.each_subject(session))

    @property
    def period(self) -> int:
        """Number of the running budget period, never earlier than one already charged."""
        with self._database.read() as session:
            return self.period_in(session)

    def period_in(self, session: Transaction) -> int:
        """``period`` inside the caller's transaction."""
        return budget.period_of(self._day(), self._policy.budget_period_days, repository.latest_period(session))

    def charged(self, session: Transaction) -> int:
        """The newest charge inside the caller's transaction; 0 before the first."""
        return repository.latest_charge(session)

    # ── forgetting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def bury(self, session: Transaction, identities: Iterable[bytes]) -> int:
        """Erase the names of these identities inside the caller's transaction; how many were known.

        **Privacy:** what they have spent in the running period stays spent, under a keyed tombstone.
        """
        exclusive(session, ROOM)
        period = self.period_in(session)
        tombstones.retire(session, period)
        return tombstones.bury(session, identities, period)

    def retire(self) -> int:
        """Destroy the keys of tombstones of periods that are over; how many there were."""
        with self._writing() as session:
            return tombstones.retire(session, self.period_in(session))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        """One transaction that no other writer of the ledger runs beside."""
        try:
            with self._database.write() as session:
                exclusive(session, ROOM)
                yield session
        except BaseException:
            self._words.forget()
            raise

    def _tell(self, session: Transaction, cause: str, what: Literal["charged", "extended", "settled"]) -> None:
        if self._log is not None:
            tell(self._log, session, self._words, cause, what)

    def _over(
        self,
        session: Transaction,
        names: dict[bytes, bytes],
        found: dict[bytes, SubjectSpend],
        planned: Sequence[PlannedRelease],
        period: int,
    ) -> dict[bytes, OverBudget]:
        """Identities that the planned releases would take over a bound."""
        spends = {identity: running(found.get(name), period) for identity, name in names.items()}
        policy = capped(session, self._policy)
        return self._words.over(session, policy, spends, planned, simulation=self._simulation)

    def _spend(
        self,
        session: Transaction,
        names: Sequence[bytes],
        found: dict[bytes, SubjectSpend],
        rows: Sequence[StoredRelease],
        period: int,
    ) -> list[int]:
        """Count the releases into the spend of these subjects; their numbers."""
        more = Counter(row.use for row in rows)
        strangers = [name for name in names if name not in found]
        numbers = repository.add_subjects(session, strangers, period, repository.added((), more))
        groups: defaultdict[Spend, list[int]] = defaultdict(list)
        for name in names:
            if name in found:
                groups[running(found[name], period)].append(found[name].number)
        for spend, members in groups.items():
            repository.set_spend(session, members, period, repository.added(spend, more))
            numbers += members
        return numbers

    def _write(
        self,
        session: Transaction,
        standing: StoredCharge | None,
        members: Sequence[int],
        *,
        run_id: str,
        cause: str,
        rows: tuple[StoredRelease, ...],
        period: int,
        barred: int = 0,
        unnamed: int = 0,
    ) -> None:
        """Write a new charge, or who is in a standing one by now."""
        if standing is not None:
            repository.extend_charge(session, standing.id, members, standing.barred + barred)
            return
        draft = StoredCharge(
            id=0,
            cause=cause,
            run_id=run_id,
            period=period,
            day=self._day(),
            members=pack_members(members),
            settled=None,
            devices=len(members) + unnamed,
            unnamed=unnamed,
            barred=barred,
            releases=rows,
        )
        repository.add_charge(session, draft)

    def _release(self, session: Transaction, release: PlannedRelease) -> StoredRelease:
        line = line_for(self._policy, release.use)
        number = repository.use_number(session, release.kind, release.use)
        cost = accountant.epsilon([release.use], line.delta)
        return StoredRelease(number, cost, accountant.rho([release.use]), line.delta)

    def _day(self) -> int:
        return math.floor(self._now() / DAY_S)


def running(subject: SubjectSpend | None, period: int) -> Spend:
    """What a subject has spent in the running period."""
    return unpack_spend(subject.spend) if subject is not None and subject.period >= period else ()
