"""The server's privacy ledger. Owns what it has let each device identity release: reserve, then settle.

The same filter and the same caps as on the device, so that a device which lost its own ledger is still refused. It
knows devices by the hash of the identity key they sign with; a device that enrols anew under another key is a stranger
here, and it is the device's own ledger that holds its spend. Devices of local profiles are not known by identity at
all: their rounds are charged by number.

Every charge is one transaction, durable before ``reserve`` returns. Writers wait for each other, so caps hold for any
number of trainings at once.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from common.errors import ContractError, StoreError
from common.privacy import accountant
from common.privacy.parameters import MechanismUse
from common.taxonomy import Purpose, ReleaseKind
from policies import budget
from policies.budget import DAY_S, OverBudget, PlannedRelease
from policies.releases import line_for
from policies.schema import BudgetLine, PrivacyBudgetPolicy
from server.ledger import repository
from server.ledger.packing import Spend, pack_members, unpack_members, unpack_spend
from server.ledger.repository import StoredCharge, StoredRelease, SubjectSpend, pseudonym
from server.storage import Database, Transaction, exclusive

_ROOM = "ledger"


@dataclass(frozen=True, slots=True)
class Entry:
    """One release of one device identity, complete in itself.

    Attributes:
        settled: whether the device is in the sum that was released.
    """

    cause: str
    run_id: str
    kind: ReleaseKind
    use: MechanismUse
    period: int
    day: int
    settled: bool
    epsilon: float
    rho: float | None
    delta: float


class ServerLedger:
    """The ledger of all devices under one privacy budget document.

    Args of the constructor:
        database: the server's.
        policy: lines, caps, quotas and period.
        now: the clock, seconds since the epoch.
        simulation: True lets releases without any noise through, at ε = ∞.
    """

    def __init__(
        self,
        database: Database,
        policy: PrivacyBudgetPolicy,
        *,
        now: Callable[[], float] = time.time,
        simulation: bool = False,
    ) -> None:
        self._database, self._policy, self._now, self._simulation = database, policy, now, simulation
        self._known: dict[int, tuple[ReleaseKind, MechanismUse]] = {}

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
        budget.check(self._policy, planned)
        names = {identity: pseudonym(identity) for identity in subjects}
        with self._database.read() as session:
            period = self._period(session)
            found = repository.subjects(session, names.values())
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

        **Privacy:** spends. Caps and quotas hold for the composed ε of all charges of the period, settled or not.
        """
        budget.check(self._policy, planned)
        names = {identity: pseudonym(identity) for identity in subjects}
        with self._writing() as session:
            rows = tuple(self._release(session, release) for release in planned)
            standing = _same_releases(repository.charge(session, cause), rows)
            period = self._period(session)
            found = repository.subjects(session, names.values())
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
        return barred

    def settle(self, cause: str, survivors: Iterable[bytes]) -> None:
        """Note which devices are in the released sum. The others stay charged: they may have sent their share.

        Raises:
            StoreError: the cause was never charged, or not to one of these devices.
        """
        names = [pseudonym(identity) for identity in survivors]
        with self._writing() as session:
            charge = repository.charge(session, cause)
            if charge is None:
                raise StoreError("a released sum was never charged to the server's privacy ledger")
            found = repository.subjects(session, names)
            numbers = {subject.number for subject in found.values()}
            if len(found) != len(set(names)) or not numbers <= set(charge.numbers):
                raise StoreError("a released sum holds a device that was never charged for it")
            repository.set_settled(session, charge.id, numbers)

    def charge_unnamed(self, run_id: str, cause: str, planned: Sequence[PlannedRelease], devices: int) -> None:
        """Note a round whose devices are not known by identity, for what each of them was charged on its own ledger.

        Raises:
            PolicyError, ContractError: as ``reserve``.
        """
        budget.check(self._policy, planned)
        with self._writing() as session:
            rows = tuple(self._release(session, release) for release in planned)
            if _same_releases(repository.charge(session, cause), rows) is None:
                period = self._period(session)
                self._write(session, None, [], run_id=run_id, cause=cause, rows=rows, unnamed=devices, period=period)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def spent(self, identity: bytes) -> list[tuple[Purpose, MechanismUse]]:
        """What one identity has spent in the running period."""
        with self._database.read() as session:
            found, latest = repository.subject(session, pseudonym(identity))
            period = budget.period_of(self._day(), self._policy.budget_period_days, latest)
            return self._in_words(session, _running(found, period))

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
        name, found = pseudonym(identity), []
        with self._database.read() as session:
            subject = repository.subjects(session, [name]).get(name)
            if subject is None:
                return []
            for charge in repository.charges(session):
                if subject.number in charge.numbers:
                    found += self._entries_of(session, charge, subject.number)
        return found

    def charges(self, run_id: str | None = None) -> list[StoredCharge]:
        """All charges, or those of one training, oldest first."""
        with self._database.read() as session:
            return list(repository.charges(session, run_id))

    def spends(self) -> list[tuple[list[tuple[Purpose, MechanismUse]], int]]:
        """Every different spend of the running period, and how many identities have it."""
        with self._database.read() as session:
            groups = repository.spends(session, self._period(session))
            return [(self._in_words(session, spend), count) for spend, count in groups]

    def releases(self) -> list[tuple[MechanismUse, float, float]]:
        """Every different release that was charged, as (use, ε at δ as written down, δ)."""
        with self._database.read() as session:
            known = repository.uses(session)
            rows = {
                (row.use, row.epsilon, row.delta) for charge in repository.charges(session) for row in charge.releases
            }
        return [(known[use][1], value, delta) for use, value, delta in sorted(rows)]

    def subjects(self) -> list[SubjectSpend]:
        """Every identity by number, with what it has spent, packed."""
        with self._database.read() as session:
            return list(repository.each_subject(session))

    @property
    def period(self) -> int:
        """Number of the running budget period, never earlier than one already charged."""
        with self._database.read() as session:
            return self._period(session)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        """One transaction that no other writer of the ledger runs beside."""
        try:
            with self._database.write() as session:
                exclusive(session, _ROOM)
                yield session
        except BaseException:
            self._known = {}  # numbers of uses that were never committed may be given again
            raise

    def _over(
        self,
        session: Transaction,
        names: dict[bytes, bytes],
        found: dict[bytes, SubjectSpend],
        planned: Sequence[PlannedRelease],
        period: int,
    ) -> frozenset[bytes]:
        """Identities that the planned releases would take over a bound; equal spends are looked at once."""
        verdicts: dict[Spend, OverBudget | None] = {}
        barred = set()
        for identity, name in names.items():
            spend = _running(found.get(name), period)
            if spend not in verdicts:
                words = self._in_words(session, spend)
                verdicts[spend] = budget.over(self._policy, words, planned, simulation=self._simulation)
            if verdicts[spend] is not None:
                barred.add(identity)
        return frozenset(barred)

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
                groups[_running(found[name], period)].append(found[name].number)
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

    def _in_words(self, session: Transaction, spend: Spend) -> list[tuple[Purpose, MechanismUse]]:
        """What a spend stands for, as the budget filter takes it."""
        if not {use for use, _ in spend} <= self._known.keys():
            self._known = repository.uses(session)
        try:
            described = [(*self._known[use], times) for use, times in spend]
        except KeyError:
            raise StoreError("a row of the server's privacy ledger is damaged: nothing may be charged to it") from None
        return [(kind.purpose, use.model_copy(update={"count": use.count * times})) for kind, use, times in described]

    def _entries_of(self, session: Transaction, charge: StoredCharge, number: int) -> list[Entry]:
        settled = charge.settled is not None and number in unpack_members(charge.settled)
        if not {row.use for row in charge.releases} <= self._known.keys():
            self._known = repository.uses(session)
        return [
            Entry(
                cause=charge.cause,
                run_id=charge.run_id,
                kind=self._known[row.use][0],
                use=self._known[row.use][1],
                period=charge.period,
                day=charge.day,
                settled=settled,
                epsilon=row.epsilon,
                rho=row.rho,
                delta=row.delta,
            )
            for row in charge.releases
        ]

    def _day(self) -> int:
        return math.floor(self._now() / DAY_S)

    def _period(self, session: Transaction) -> int:
        latest = repository.latest_period(session)
        return budget.period_of(self._day(), self._policy.budget_period_days, latest)


def _running(subject: SubjectSpend | None, period: int) -> Spend:
    """What a subject has spent in the running period."""
    return unpack_spend(subject.spend) if subject is not None and subject.period >= period else ()


def _same_releases(standing: StoredCharge | None, rows: Sequence[StoredRelease]) -> StoredCharge | None:
    """The charge that stands for a cause.

    Raises:
        ContractError: it was for other releases.
    """
    if standing is not None and [row.use for row in standing.releases] != [row.use for row in rows]:
        raise ContractError("this cause was charged with another mechanism or other parameters")
    return standing
