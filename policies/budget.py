"""The budget filter. Pure: what was spent and what is planned in, whether it fits out; it stores and reads nothing.

A release is allowed if the ε composed of everything on its line, itself included, stays within the line's cap, and
then if the same holds within the quota of its purpose. The cap is the guarantee: quotas alone are unsound, because an
adversary that chooses the next purpose by what the last one answered composes all of them. Lines are never mixed.
Last, a device makes no more releases of one kind in a period than the document's proofs count with (``releases_max``).

Participants are charged in full: a ledger that knows who took part may not claim that nobody knew. Only a device's
own secret sample of its own records (unit record, trust local) is amplified.

**Source:** Rogers et al. 2016, "Privacy Odometers and Filters"; Feldman and Zrnic 2021, "Individual Privacy Accounting
via a Rényi Filter" (RDP); Smith and Thakurta 2022, "Fully Adaptive Composition for Gaussian DP"; arXiv 2506.05290 for
the cap across purposes. Parameters of what may be released come from a public document, never from earlier answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from common.errors import BudgetExhausted, ContractError, ReleasesExhausted
from common.privacy import accountant
from common.privacy.parameters import MechanismUse
from common.taxonomy import PrivacyUnit, Profile, Purpose, RefusalReason, ReleaseKind
from policies.releases import line_for, release_of
from policies.schema import BudgetLine, PrivacyBudgetPolicy

DAY_S: Final = 86_400.0
Spent = Sequence[tuple[Purpose, MechanismUse]]
Made = Mapping[tuple[ReleaseKind, PrivacyUnit], int]
"""How many releases of each kind and unit one device has made in the period."""


@dataclass(frozen=True, slots=True)
class PlannedRelease:
    """One release that somebody is about to make.

    Attributes:
        kind: what is released.
        use: what it costs, in the accountant's words.
    """

    kind: ReleaseKind
    use: MechanismUse

    @property
    def purpose(self) -> Purpose:
        """The consent purpose that permits it, and whose quota it is charged to."""
        return self.kind.purpose


@dataclass(frozen=True, slots=True)
class TooMany:
    """A number of releases that the document does not let one device make in a period.

    Attributes:
        kind: of which release.
        field: what the document calls the bound.
        would_be: how many there would be.
        most: how many there may be; 0 for a kind that the document does not declare.
    """

    kind: ReleaseKind
    field: str
    would_be: int
    most: int


@dataclass(frozen=True, slots=True)
class OverBudget:
    """Why planned releases are not allowed.

    Attributes:
        line: on which line.
        quota: whose quota would be passed; None if it is the cap of the whole line.
        epsilon_would_be: ε with what is planned.
        epsilon_max: the cap or quota.
        too_many: the number that would be passed, if ε stays within cap and quota; the ε are then the line's.
    """

    line: BudgetLine
    quota: Purpose | None
    epsilon_would_be: float
    epsilon_max: float
    too_many: TooMany | None = None

    @property
    def bound(self) -> str:
        """The bound's name: ``cap``, the purpose of the quota, or the kind's ``releases_max`` with its value."""
        if self.too_many is not None:
            return f"{self.too_many.kind.value} {self.too_many.field} {self.too_many.most}"
        return "cap" if self.quota is None else self.quota.value

    def refusal(self) -> BudgetExhausted:
        """The named error of this refusal; outside the device both carry the same closed reason."""
        named = BudgetExhausted if self.too_many is None else ReleasesExhausted
        return named(RefusalReason.BUDGET_EXHAUSTED)

    def said_of(self, devices: int) -> str:
        """That so many devices are past the bound, in one line."""
        if (found := self.too_many) is not None:
            return (
                f"{devices} devices made {found.would_be} releases of {found.kind.value}; {found.field} is {found.most}"
            )
        spent, most = f"{self.epsilon_would_be:.4g}", f"{self.epsilon_max:g}"
        return f"{devices} devices have spent ε = {spent} per {self.line.unit.value}; the {self.bound} is {most}"


def headline(policy: PrivacyBudgetPolicy) -> BudgetLine:
    """The line that a training under this document is stated on first: user level where there is any."""
    unit = PrivacyUnit.RECORD if policy.profile in {Profile.RECORD_LOCAL, Profile.NON_PRIVATE} else PrivacyUnit.USER
    return next((line for line in policy.lines if line.unit is unit), policy.lines[0])


def check(policy: PrivacyBudgetPolicy, planned: Sequence[PlannedRelease]) -> None:
    """Whether such releases can be charged at all.

    Raises:
        ContractError: none are planned, or one claims amplification that nobody keeps secret.
        PolicyError: one has no line in the document.
    """
    if not planned:
        raise ContractError("a reservation names at least one release")
    for release in planned:
        line_for(policy, release.use)
        if claims_amplification(release.use):
            raise ContractError("a participant is charged in full: no amplification by who else might have taken part")


def claims_amplification(use: MechanismUse) -> bool:
    """Whether a use counts on a sample of participants being secret, which a ledger of participants cannot."""
    return use.unit is PrivacyUnit.USER and use.sampling_rate < 1


def over(
    policy: PrivacyBudgetPolicy,
    spent: Spent,
    planned: Sequence[PlannedRelease],
    *,
    made: Made,
    simulation: bool = False,
) -> OverBudget | None:
    """The first bound that the planned releases would pass together, or None if all fit.

    Args:
        policy: the privacy budget document.
        spent: everything one device was charged in the period, with its purposes.
        planned: releases that ``check`` has passed; all or none are made.
        made: how many releases the device was charged in the period.
        simulation: True lets releases without any noise through, at ε = ∞; never on a real device.
    """
    for line in policy.lines:
        if any(_on(line, release.use) for release in planned):
            found = allows(line, spent, planned, simulation=simulation)
            if found is not None:
                return found
    counted = [release for release in planned if not (simulation and _noiseless(release.use))]
    after = Counter(made) + Counter((release.kind, release.use.unit) for release in counted)
    touched = dict.fromkeys((release.kind, release.use.unit) for release in counted)
    together = [*spent, *((release.purpose, release.use) for release in planned)]
    return _too_many(policy, {key: after[key] for key in touched}, together)


def counted(releases: Iterable[tuple[ReleaseKind, MechanismUse, int]]) -> Counter[tuple[ReleaseKind, PrivacyUnit]]:
    """How many releases of each kind and unit these are: each so many times."""
    made: Counter[tuple[ReleaseKind, PrivacyUnit]] = Counter()
    for kind, use, times in releases:
        made[kind, use.unit] += times
    return made


def releases_left(policy: PrivacyBudgetPolicy, planned: Sequence[PlannedRelease], made: Made) -> int | None:
    """How many times more one device may make all the planned releases, by their number alone; None if no bound."""
    wanted = Counter((release.kind, release.use.unit) for release in planned)
    left = [
        max(0, most - made.get(key, 0)) // times
        for key, times in wanted.items()
        if (most := _most(policy, *key)[1]) is not None
    ]
    return min(left, default=None)


def too_many(policy: PrivacyBudgetPolicy, spent: Spent, made: Made) -> OverBudget | None:
    """A number of releases that has been passed already, or None: what an honest ledger never shows."""
    noisy = {unit for unit in PrivacyUnit if all(use.protects for _, use in spent if use.unit is unit)}
    return _too_many(policy, {key: times for key, times in made.items() if key[1] in noisy}, spent)


def _too_many(policy: PrivacyBudgetPolicy, made: Made, spent: Spent) -> OverBudget | None:
    for (kind, unit), times in made.items():
        field, most = _most(policy, kind, unit)
        line = next((line for line in policy.lines if line.unit is unit), None)
        if most is not None and times > most and line is not None:
            total = accountant.epsilon(uses_on(line, spent), line.delta)
            return OverBudget(line, None, total, line.epsilon_cap, TooMany(kind, field, times, most))
    return None


def _most(policy: PrivacyBudgetPolicy, kind: ReleaseKind, unit: PrivacyUnit) -> tuple[str, int | None]:
    """The bound on the number of such releases of one device and period, by the name that the document gives it."""
    if kind is ReleaseKind.PRIVATE_PICK:
        return "", None  # as many as there are epochs and slot groups; their pure ε is all of their bound
    if unit is PrivacyUnit.RECORD:
        return "rounds_max", policy.rounds_max
    declared = release_of(policy, kind)
    return "releases_max", 0 if declared is None else declared.releases_max


def allows(
    line: BudgetLine, spent: Spent, planned: Sequence[PlannedRelease], *, simulation: bool = False
) -> OverBudget | None:
    """The cap or quota of one line that the planned releases would pass, or None if they fit. The cap comes first.

    Args:
        line: the line; whatever lies on another is left out.
        spent: everything one device was charged in the period.
        planned: releases to be made together.
        simulation: see ``over``.

    Returns:
        None exactly when ε of everything on the line stays within its cap, and that of each planned purpose within
        its quota.
    """
    mine = [(release.purpose, release.use) for release in planned if _on(line, release.use)]
    together = [*(pair for pair in spent if _on(line, pair[1])), *mine]
    if any(_noiseless(use) for _, use in together) and simulation:
        return None  # what has no noise protects nobody: a simulation goes on, and shows ∞ from then on
    return _passed(line, together, dict.fromkeys(purpose for purpose, _ in mine))


def passed(line: BudgetLine, spent: Spent) -> OverBudget | None:
    """The cap or quota of one line that has been passed already, or None: what an honest ledger never shows."""
    mine = [(purpose, use) for purpose, use in spent if _on(line, use)]
    return _passed(line, mine, line.quotas)


def _passed(line: BudgetLine, together: Spent, purposes: Iterable[Purpose]) -> OverBudget | None:
    total = accountant.epsilon([use for _, use in together], line.delta)
    if not total <= line.epsilon_cap:
        return OverBudget(line, None, total, line.epsilon_cap)
    for purpose in purposes:
        quota = line.quotas.get(purpose)
        if quota is not None:
            part = accountant.epsilon([use for owner, use in together if owner is purpose], line.delta)
            if not part <= quota:
                return OverBudget(line, purpose, part, quota)
    return None


def uses_on(line: BudgetLine, spent: Iterable[tuple[Purpose, MechanismUse]]) -> list[MechanismUse]:
    """The uses that lie on one line."""
    return [use for _, use in spent if _on(line, use)]


def period_of(day: int, period_days: int, latest: int | None) -> int:
    """Number of the running period: fixed spans since the epoch, never earlier than one already charged."""
    current = day // period_days
    return current if latest is None else max(current, latest)


def _on(line: BudgetLine, use: MechanismUse) -> bool:
    return (use.unit, use.relation, use.trust) == (line.unit, line.relation, line.trust)


def _noiseless(use: MechanismUse) -> bool:
    return not use.protects


def lowered(policy: PrivacyBudgetPolicy, epsilon_max: float) -> PrivacyBudgetPolicy:
    """The document, no line's cap above this."""
    if all(line.epsilon_cap <= epsilon_max for line in policy.lines):
        return policy
    capped = (line.model_copy(update={"epsilon_cap": min(line.epsilon_cap, epsilon_max)}) for line in policy.lines)
    return policy.model_copy(update={"lines": tuple(capped)})
