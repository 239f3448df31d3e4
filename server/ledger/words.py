"""What stored numbers of the ledger stand for. Owns the way from packed spends and charges to mechanisms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import ContractError, StoreError
from common.privacy.parameters import MechanismUse
from common.taxonomy import PrivacyUnit, Purpose, ReleaseKind
from policies import budget
from policies.budget import OverBudget, PlannedRelease
from policies.schema import PrivacyBudgetPolicy
from server.ledger import repository
from server.ledger.packing import Spend, unpack_members
from server.ledger.repository import StoredCharge, StoredRelease
from server.storage import Transaction


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


class Words:
    """Uses by number; those that were read once are remembered, because a use never changes."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[ReleaseKind, MechanismUse]] = {}

    def forget(self) -> None:
        """Read everything again: numbers of uses that were never committed may be given to others."""
        self._known = {}

    def use(self, session: Transaction, number: int) -> tuple[ReleaseKind, MechanismUse]:
        """One use.

        Raises:
            StoreError: a row names a use that there is not.
        """
        if number not in self._known:
            self._known = repository.uses(session)
        try:
            return self._known[number]
        except KeyError:
            raise StoreError("a row of the server's privacy ledger is damaged: nothing may be charged to it") from None

    def of(self, session: Transaction, spend: Spend) -> list[tuple[Purpose, MechanismUse]]:
        """What a spend stands for, as the budget filter takes it.

        Raises:
            StoreError: see ``use``.
        """
        described = [(*self.use(session, number), times) for number, times in spend]
        return [(kind.purpose, use.model_copy(update={"count": use.count * times})) for kind, use, times in described]

    def made(self, session: Transaction, spend: Spend) -> Counter[tuple[ReleaseKind, PrivacyUnit]]:
        """How many releases of each kind and unit a spend stands for.

        Raises:
            StoreError: see ``use``.
        """
        return budget.counted((*self.use(session, number), times) for number, times in spend)

    def over(
        self,
        session: Transaction,
        policy: PrivacyBudgetPolicy,
        spends: Mapping[bytes, Spend],
        planned: Sequence[PlannedRelease],
        *,
        simulation: bool,
    ) -> dict[bytes, OverBudget]:
        """Identities that the planned releases would take over a bound; equal spends are looked at once.

        Args:
            session: where uses are read.
            policy: the budget, officers' caps included.
            spends: what each identity has spent.
            planned: all or none are made.
            simulation: see ``budget.over``.
        """
        verdicts: dict[Spend, OverBudget | None] = {}
        found = {}
        for identity, spend in spends.items():
            if spend not in verdicts:
                spent, made = self.of(session, spend), self.made(session, spend)
                verdicts[spend] = budget.over(policy, spent, planned, made=made, simulation=simulation)
            if (over := verdicts[spend]) is not None:
                found[identity] = over
        return found

    def entries(self, session: Transaction, charge: StoredCharge, number: int) -> list[Entry]:
        """The releases of one charge, as entries of the subject with this number."""
        settled = charge.settled is not None and number in unpack_members(charge.settled)
        found = []
        for row in charge.releases:
            kind, use = self.use(session, row.use)
            entry = Entry(
                cause=charge.cause,
                run_id=charge.run_id,
                kind=kind,
                use=use,
                period=charge.period,
                day=charge.day,
                settled=settled,
                epsilon=row.epsilon,
                rho=row.rho,
                delta=row.delta,
            )
            found.append(entry)
        return found


def same_releases(standing: StoredCharge | None, rows: Sequence[StoredRelease]) -> StoredCharge | None:
    """The charge that stands for a cause.

    Raises:
        ContractError: it was for other releases.
    """
    if standing is not None and [row.use for row in standing.releases] != [row.use for row in rows]:
        raise ContractError("this cause was charged with another mechanism or other parameters")
    return standing
