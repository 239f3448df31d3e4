"""What a planned training would cost, and when caps and quotas are reached. Pure: budget document in, figures out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from common.privacy import accountant
from common.privacy.parameters import MechanismUse
from common.taxonomy import Profile, Purpose, ReleaseKind, Task
from policies import budget
from policies.budget import Made, PlannedRelease, TooMany
from policies.releases import segments_of
from policies.schema import BudgetLine, PrivacyBudgetPolicy

ROUNDS_MAX = 100_000
Spent = list[tuple[Purpose, MechanismUse]]
_COUNTS: Final = frozenset({Task.HISTOGRAM, Task.MEASURE})


@dataclass(frozen=True, slots=True)
class Plan:
    """A training that somebody thinks of.

    Attributes:
        rounds: training rounds that one device takes part in.
        tasks: how many sessions of each other task.
        weights: weights of the model.
        cells: cells of a feature histogram, or of a measurement.
        noise_multiplier: hypothetical z of the user-level update; the document's when absent.
        record_noise_multiplier: hypothetical z of DP-SGD on the device; likewise.
    """

    rounds: int
    tasks: dict[Task, int] = field(default_factory=dict)
    weights: int = 1000
    cells: int = 1000
    noise_multiplier: float | None = None
    record_noise_multiplier: float | None = None


@dataclass(frozen=True, slots=True)
class BoundForecast:
    """One cap or quota under a plan.

    Attributes:
        bound: ``cap``, or the purpose of the quota.
        epsilon_max: the cap or quota.
        epsilon_now: what is spent already.
        epsilon_of_rounds: with the plan's rounds.
        epsilon_of_plan: with its other tasks too.
        rounds_possible: rounds that fit, before any other task and by number too; None if more than ``ROUNDS_MAX`` do.
    """

    bound: str
    epsilon_max: float
    epsilon_now: float
    epsilon_of_rounds: float
    epsilon_of_plan: float
    rounds_possible: int | None


@dataclass(frozen=True, slots=True)
class LineForecast:
    """One line under a plan: its bounds, and ε of all purposes after some numbers of rounds.

    Attributes:
        too_many: the first kind of which the plan makes more releases than the document lets one device make.
    """

    line: BudgetLine
    bounds: tuple[BoundForecast, ...]
    curve: tuple[tuple[int, float], ...]
    too_many: TooMany | None = None


def hypothetical(policy: PrivacyBudgetPolicy, plan: Plan) -> PrivacyBudgetPolicy:
    """The document with the plan's noise multipliers in place of its own."""
    training, releases = policy.training, policy.releases
    if plan.record_noise_multiplier is not None:
        training = training.model_copy(update={"noise_multiplier": plan.record_noise_multiplier})
    if plan.noise_multiplier is not None:
        update = releases.training_update.model_copy(update={"noise_multiplier": plan.noise_multiplier})
        releases = releases.model_copy(update={"training_update": update})
    return policy.model_copy(update={"training": training, "releases": releases})


def planned_round(policy: PrivacyBudgetPolicy, task: Task, length: int) -> list[PlannedRelease]:
    """What one device is charged for one session of a task under the document's profile.

    Raises:
        PolicyError: the document declares no such release.
    """
    planned = []
    if task is not Task.TRAIN or policy.profile in {Profile.USER_DISTRIBUTED, Profile.LAYERED}:
        planned += [PlannedRelease(segment.kind, segment.use) for segment in segments_of(policy, task, length)]
    if task is Task.TRAIN and policy.profile is not Profile.USER_DISTRIBUTED:
        planned.append(PlannedRelease(ReleaseKind.TRAINING_UPDATE, policy.training.release(policy.profile)))
    return planned


def forecast(
    policy: PrivacyBudgetPolicy, plan: Plan, spent: Spent | None = None, made: Made | None = None
) -> tuple[LineForecast, ...]:
    """Each line that the plan touches.

    Args:
        policy: the privacy budget document.
        plan: what is thought of.
        spent: what the device has spent already.
        made: how many releases of each kind that was.

    Raises:
        PolicyError: the document declares no release for a task of the plan.
    """
    document, before = hypothetical(policy, plan), spent or []
    round_ = planned_round(document, Task.TRAIN, plan.weights)
    one = [(release.purpose, release.use) for release in round_]
    others = [
        (release.purpose, _times(release.use, count))
        for task, count in plan.tasks.items()
        if count
        for release in planned_round(document, task, plan.cells if task in _COUNTS else plan.weights)
    ]
    numbers = Counter(made or {})
    for task, count in {Task.TRAIN: plan.rounds, **plan.tasks}.items():
        for release in planned_round(document, task, 1) if count else ():
            numbers[release.kind, release.use.unit] += count
    found = []
    for line in policy.lines:
        rounds = [release for release in round_ if budget.uses_on(line, [(release.purpose, release.use)])]
        left = budget.releases_left(policy, rounds, made or {})
        mine = _Line(line, _on(line, before), _on(line, one), _on(line, others), left)
        if mine.one or mine.others:
            over = budget.too_many(policy, (), {key: count for key, count in numbers.items() if key[1] is line.unit})
            passed = None if over is None else over.too_many
            found.append(LineForecast(line, tuple(mine.bounds(plan.rounds)), mine.curve(plan.rounds), passed))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Line:
    """What lies on one line: spent before, one round, everything else; how many rounds are left by their number."""

    line: BudgetLine
    before: Spent
    one: Spent
    others: Spent
    left: int | None

    def bounds(self, rounds: int) -> list[BoundForecast]:
        """The cap and every quota that the plan touches."""
        touched = {purpose for purpose, _ in [*self.one, *self.others]}
        quotas = [(purpose, most) for purpose, most in self.line.quotas.items() if purpose in touched]
        return [
            self._bound("cap", self.line.epsilon_cap, None, rounds),
            *(self._bound(purpose.value, most, purpose, rounds) for purpose, most in quotas),
        ]

    def curve(self, rounds: int) -> tuple[tuple[int, float], ...]:
        """ε of all purposes after up to ten numbers of rounds."""
        steps = sorted({round(rounds * part / 10) for part in range(11)})
        return tuple((step, self._epsilon(step, None)) for step in steps)

    def _bound(self, name: str, most: float, purpose: Purpose | None, rounds: int) -> BoundForecast:
        return BoundForecast(
            bound=name,
            epsilon_max=most,
            epsilon_now=self._epsilon(0, purpose),
            epsilon_of_rounds=self._epsilon(rounds, purpose),
            epsilon_of_plan=self._epsilon(rounds, purpose, others=True),
            rounds_possible=self._possible(most, purpose),
        )

    def _possible(self, most: float, purpose: Purpose | None) -> int | None:
        """The most rounds that stay within a bound, and within the number of releases that the document has."""
        highest = ROUNDS_MAX if self.left is None else min(self.left, ROUNDS_MAX)
        if not _of(self.one, purpose) or self._epsilon(highest, purpose) <= most:
            return self.left if _of(self.one, purpose) else None
        low, high = -1, highest
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._epsilon(middle, purpose) <= most else (low, middle)
        return max(low, 0)

    def _epsilon(self, rounds: int, purpose: Purpose | None, *, others: bool = False) -> float:
        uses = [use for _, use in _of(self.before, purpose)]
        uses += [_times(use, rounds) for _, use in _of(self.one, purpose) if rounds]
        uses += [use for _, use in _of(self.others, purpose) if others]
        return accountant.epsilon(uses, self.line.delta)


def _of(spent: Spent, purpose: Purpose | None) -> Spent:
    return [pair for pair in spent if purpose is None or pair[0] is purpose]


def _on(line: BudgetLine, spent: Sequence[tuple[Purpose, MechanismUse]]) -> Spent:
    return [pair for pair in spent if budget.uses_on(line, [pair])]


def _times(use: MechanismUse, count: int) -> MechanismUse:
    return use.model_copy(update={"count": use.count * count})
