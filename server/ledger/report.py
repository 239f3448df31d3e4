"""What officers and auditors are told about the ledger. Owns these figures; reads only, and never names a device.

A device is its pseudonym here, or its tombstone. Spent and remaining are of the running period; lines are never added
up. Every ε that is a claim is a whole statement, and stands beside the lower bound of the last stored audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.privacy import accountant
from common.privacy.parameters import MechanismUse, PrivacyStatement
from common.taxonomy import Mechanism, PrivacyUnit, Purpose, ReleaseKind, Task
from policies import budget
from policies.budget import PlannedRelease
from policies.releases import line_of_unit, lines_stated, segments_of
from policies.schema import BudgetLine, PrivacyBudgetPolicy
from server.ledger import repository
from server.ledger.audits import StoredAudit, newest_audit
from server.ledger.bounds import CAP, Bound, bounds_of, capped, officers_in_force
from server.ledger.repository import StoredCharge
from server.ledger.service import ServerLedger, running
from server.ledger.words import Words
from server.storage import Database, Transaction

ROUNDS_MAX: Final = 10_000
WEIGHTS_DEFAULT: Final = 10_000
_RANDOMNESS: Final = "each device's own generator, keyed by its operating system (seeded in simulations that say so)"
Spent = Sequence[tuple[Purpose, MechanismUse]]


@dataclass(frozen=True, slots=True)
class Standing:
    """How one bound stands in the running period.

    Attributes:
        spent_max, spent_median: ε of the device that has spent most, and of the one in the middle.
        remaining: of the device that has spent most, at least 0. Composition is not additive: a lower bound.
        over: devices that have spent more than is now in force: a bound was lowered under them.
    """

    bound: Bound
    spent_max: float
    spent_median: float
    remaining: float
    over: int


@dataclass(frozen=True, slots=True)
class LineReport:
    """One line, with the audited lower bound beside what is declared (None: no stored audit has this line)."""

    line: BudgetLine
    standings: tuple[Standing, ...]
    audited: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The running period."""

    period: int
    first_day: int
    last_day: int
    charges: int
    devices: int
    erased: int
    lines: tuple[LineReport, ...]
    audit: StoredAudit | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """One training, or one measurement: what it cost a device that took part in all of it, per line."""

    run_id: str
    period: int
    charges: int
    devices_max: int
    barred: int
    claims: tuple[PrivacyStatement, ...]


@dataclass(frozen=True, slots=True)
class SubjectReport:
    """One device identity by its name in the ledger; ``spent`` is ε by unit in the running period."""

    number: int
    name: str
    erased_in: int | None
    period: int
    releases: int
    spent: dict[PrivacyUnit, float]
    remaining: dict[PrivacyUnit, float]


@dataclass(frozen=True, slots=True)
class Projection:
    """What more rounds would cost the device that has spent most on a line."""

    unit: PrivacyUnit
    rounds: int
    epsilon_now: float
    epsilon_then: float
    in_force: float
    allowed: bool
    rounds_possible: int


class LedgerReport:
    """Figures of one ledger.

    Args of the constructor:
        database: the server's.
        ledger: names policy and period.
        audits: directory of stored audits (``reticent audit``), if there is one.
    """

    def __init__(self, database: Database, ledger: ServerLedger, audits: Path | None = None) -> None:
        self._database, self._ledger, self._audits, self._words = database, ledger, audits, Words()

    def overview(self) -> Overview:
        """The running period: every bound, and how it stands."""
        policy, audit = self._ledger.policy, newest_audit(self._audits)
        with self._database.read() as session:
            period = self._ledger.period_in(session)
            spends = self._spends(session, period)
            bounds = bounds_of(policy, officers_in_force(session))
            counted = repository.count_charges(session, period)
            devices, erased = repository.count_subjects(session), repository.count_erased(session)
        days = policy.budget_period_days
        return Overview(
            period=period,
            first_day=period * days,
            last_day=(period + 1) * days - 1,
            charges=counted,
            devices=devices,
            erased=erased,
            lines=tuple(
                LineReport(
                    line,
                    tuple(_standing(line, bound, spends) for bound in bounds if bound.unit is line.unit),
                    None if audit is None else audit.lower_bounds.get(line.unit),
                )
                for line in policy.lines
            ),
            audit=audit,
        )

    def runs(self) -> list[RunReport]:
        """Every training and measurement that was charged, newest first."""
        groups: dict[tuple[int, str], list[StoredCharge]] = {}
        with self._database.read() as session:
            for charge in repository.charges(session):
                groups.setdefault((charge.period, charge.run_id), []).append(charge)
            return [self._run(session, *key, groups[key]) for key in reversed(groups)]

    def entries(self, *, after: int | None = None, limit: int = 50, run_id: str | None = None) -> list[StoredCharge]:
        """Charges, oldest first; who is in them stays packed.

        Args:
            after: number of the last one of the page before.
            limit: how many at most.
            run_id: of one training only.
        """
        with self._database.read() as session:
            return repository.charges_after(session, after=after, limit=limit, run_id=run_id)

    def use(self, number: int) -> tuple[ReleaseKind, MechanismUse]:
        """What a use of a charge stands for."""
        with self._database.read() as session:
            return self._words.use(session, number)

    def subjects(self, *, after: int | None = None, limit: int = 50) -> list[SubjectReport]:
        """Device identities by number, with what each has spent in the running period.

        Args:
            after: number of the last one of the page before.
            limit: how many at most.
        """
        policy, found = self._ledger.policy, []
        with self._database.read() as session:
            period, enforced = self._ledger.period_in(session), capped(session, policy)
            for row in repository.subjects_after(session, after=after, limit=limit):
                spend = running(row.spend, period)
                words = self._words.of(session, spend)
                spent = {line.unit: _epsilon(line, words) for line in policy.lines}
                left = {line.unit: max(0.0, line.epsilon_cap - spent[line.unit]) for line in enforced.lines}
                releases = sum(times for _, times in spend)
                found.append(
                    SubjectReport(
                        row.spend.number, row.name.hex(), row.erased_in, row.spend.period, releases, spent, left
                    )
                )
        return found

    def projection(self, rounds: int, *, weights: int = WEIGHTS_DEFAULT) -> list[Projection]:
        """What so many more training rounds would cost the device that has spent most, per line of the profile.

        Args:
            rounds: how many, at most ``ROUNDS_MAX``.
            weights: length of the model; noise on integers depends on it a little.
        """
        policy = self._ledger.policy
        with self._database.read() as session:
            period = self._ledger.period_in(session)
            spends, enforced = self._spends(session, period), capped(session, policy)
            counts = [self._words.made(session, spend) for spend, _ in repository.spends(session, period)]
        planned = _one_round(policy, weights)
        return [
            _projected(line_of_unit(enforced, line.unit), spends, planned, rounds, _left(policy, line, planned, counts))
            for line in lines_stated(policy, policy.profile)
        ]

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _spends(self, session: Transaction, period: int) -> list[tuple[Spent, int]]:
        groups = repository.spends(session, period)
        return [(self._words.of(session, spend), count) for spend, count in groups]

    def _run(self, session: Transaction, period: int, run_id: str, charges: Sequence[StoredCharge]) -> RunReport:
        uses = [self._words.use(session, row.use)[1] for charge in charges for row in charge.releases]
        claims = []
        for line in self._ledger.policy.lines:
            mine = [
                use for use in uses if (use.unit, use.relation, use.trust) == (line.unit, line.relation, line.trust)
            ]
            if mine:
                scope = "a device that took part in all of it"
                claims.append(accountant.statement(mine, line.delta, _RANDOMNESS, scope=scope))
        most = max(charge.devices for charge in charges)
        return RunReport(run_id, period, len(charges), most, sum(c.barred for c in charges), tuple(claims))


def _standing(line: BudgetLine, bound: Bound, spends: Sequence[tuple[Spent, int]]) -> Standing:
    values = sorted(
        (_epsilon(line, [pair for pair in spent if bound.bound in {CAP, pair[0]}]), count) for spent, count in spends
    )
    most = values[-1][0] if values else 0.0
    half, seen, middle = sum(count for _, count in values) / 2, 0, 0.0
    for value, count in values:
        seen += count
        if seen >= half:
            middle = value
            break
    over = sum(count for value, count in values if value > bound.in_force)
    return Standing(bound, most, middle, max(0.0, bound.in_force - most), over)


def _projected(
    line: BudgetLine,
    spends: Sequence[tuple[Spent, int]],
    planned: Sequence[PlannedRelease],
    rounds: int,
    left: int,
) -> Projection:
    """Rounds that fit are found by halving: every further round costs more; no more than ``left`` by their number."""
    worst: Spent = max((spent for spent, _ in spends), key=lambda spent: _epsilon(line, spent), default=())
    mine = [release for release in planned if release.use.unit is line.unit]

    def times(count: int) -> list[PlannedRelease]:
        return [PlannedRelease(r.kind, r.use.model_copy(update={"count": r.use.count * count})) for r in mine]

    def fits(count: int) -> bool:
        return count == 0 or (count <= left and budget.allows(line, worst, times(count)) is None)

    low, high = 0, 1
    while high <= ROUNDS_MAX and fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    then = [*worst, *((release.purpose, release.use) for release in times(rounds))] if rounds else worst
    return Projection(
        unit=line.unit,
        rounds=rounds,
        epsilon_now=_epsilon(line, worst),
        epsilon_then=_epsilon(line, then),
        in_force=line.epsilon_cap,
        allowed=fits(rounds),
        rounds_possible=low,
    )


def _left(
    policy: PrivacyBudgetPolicy, line: BudgetLine, planned: Sequence[PlannedRelease], counts: Sequence[budget.Made]
) -> int:
    """How many more rounds the document's ``releases_max`` lets the device take part in that took part in most."""
    mine = [release for release in planned if release.use.unit is line.unit]
    found = (budget.releases_left(policy, mine, made) for made in [*counts, {}])
    return min((left for left in found if left is not None), default=ROUNDS_MAX)


def _one_round(policy: PrivacyBudgetPolicy, weights: int) -> list[PlannedRelease]:
    """What one training round of the document's profile releases."""
    units = {line.unit for line in lines_stated(policy, policy.profile)}
    planned: list[PlannedRelease] = []
    if PrivacyUnit.USER in units:
        segments = segments_of(policy, Task.TRAIN, weights)
        planned = [PlannedRelease(segment.kind, segment.use) for segment in segments]
    if PrivacyUnit.RECORD in units:
        planned.append(PlannedRelease(ReleaseKind.TRAINING_UPDATE, policy.training.release(policy.profile)))
    return [release for release in planned if release.use.mechanism is not Mechanism.NONE]


def _epsilon(line: BudgetLine, spent: Spent) -> float:
    return accountant.epsilon(budget.uses_on(line, spent), line.delta)
