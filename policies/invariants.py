"""Proofs across policy documents. Owns what must be true before anything runs under them; reads nothing.

A violated invariant stops the program and names the figure that would satisfy it, so that a document is mended by
arithmetic and not by trial.
"""

from __future__ import annotations

import math
import typing
from collections import Counter

from common.errors import InvariantViolated, PolicyError
from common.privacy import accountant
from common.privacy.distributed import modulus_bits
from common.privacy.parameters import MechanismUse
from common.taxonomy import (
    EventKind,
    NeighbouringRelation,
    PrivacyUnit,
    Profile,
    Purpose,
    ReleaseKind,
    Task,
    TrustModel,
)
from common.wire.messages import Outbound, TrainingContribution
from common.wire.pick import PrivatePick
from common.wire.secagg import MaskedMeasurement, MaskedUpdateHeader
from policies.picks import prove_picks
from policies.placement.lint import prove_placement
from policies.releases import is_declared, line_of_unit, lines_stated, release_of, releases_of
from policies.schema import BudgetLine, PolicySet, PrivacyBudgetPolicy, PurposesPolicy

_MULTIPLIER_MAX = 1e4
_PROVABLE = {
    PrivacyUnit.USER: (NeighbouringRelation.ADD_REMOVE, TrustModel.DISTRIBUTED),
    PrivacyUnit.RECORD: (NeighbouringRelation.ADD_REMOVE, TrustModel.LOCAL),
}
_EACH_ROUND = (ReleaseKind.TRAINING_UPDATE, ReleaseKind.CLIP_QUANTILE)


def prove(policies: PolicySet) -> None:
    """Check every invariant.

    Raises:
        InvariantViolated: the first that does not hold, with the figure that would make it hold.
    """
    prove_budget(policies.privacy_budget)
    _prove_egress(policies)
    _prove_purposes(policies)
    _prove_retention(policies)
    prove_placement(policies.placement)


# ── privacy budget ───────────────────────────────────────────────────────────────────────────────────────────────────


def prove_budget(policy: PrivacyBudgetPolicy) -> None:
    """The declared noise, participations and cohort meet every declared ε, cap and quota.

    Every line of the document is proved, whatever profile it chooses, because a training may choose another.

    Raises:
        InvariantViolated: they do not; the text names the figures that would.
    """
    if policy.profile is Profile.NON_PRIVATE:
        raise InvariantViolated(
            "privacy_budget: profile non_private proves nothing; it is an option of simulations only"
        )
    units = [line.unit for line in policy.lines]
    if len(set(units)) != len(units):
        raise InvariantViolated("privacy_budget: a unit has two lines")
    try:
        lines_stated(policy, policy.profile)
    except PolicyError:
        raise InvariantViolated(f"privacy_budget: profile {policy.profile.value} lacks one of its lines") from None
    for line in policy.lines:
        _prove_line(policy, line)
    if PrivacyUnit.USER in units:
        _prove_cohort(policy)
        _prove_releases(policy)
    prove_picks(policy)


def _prove_line(policy: PrivacyBudgetPolicy, line: BudgetLine) -> None:
    """The line says what can be proved, and what the document allows stays within its claim, cap and quotas."""
    name = f"privacy_budget: the {line.unit.value} line"
    if (line.relation, line.trust) != _PROVABLE[line.unit]:
        wanted = ", ".join(part.value for part in _PROVABLE[line.unit])
        raise InvariantViolated(f"{name} can only state: {wanted}")
    if line.delta == 0:
        raise InvariantViolated(f"{name}: noise of this kind has no ε at δ = 0. It holds with delta ≥ 1e-12")
    quotas = [(f"the quota for {purpose.value}", quota) for purpose, quota in line.quotas.items()]
    for bound, capacity in (("epsilon_declared", line.epsilon_declared), *quotas):
        if capacity > line.epsilon_cap:
            raise InvariantViolated(f"{name}: {bound} {capacity:g} is above epsilon_cap {line.epsilon_cap:g}")
    cost = epsilon_of_rounds(policy, line.unit, policy.rounds_max)
    if cost > line.epsilon_declared:
        raise InvariantViolated(
            f"{name}: {policy.rounds_max} rounds cost ε = {cost:.4g} at δ = {line.delta:g}, more than the declared "
            f"{line.epsilon_declared:g}. It holds with {_multiplier_named(policy, line)}, or rounds_max ≤ "
            f"{rounds_affordable(policy, line.unit)}, or {_figure('epsilon_declared', cost)}"
        )
    everything = epsilon_of_everything(policy, line.unit)
    if everything > line.epsilon_cap:
        raise InvariantViolated(
            f"{name}: all releases it allows cost ε = {everything:.4g}, more than epsilon_cap {line.epsilon_cap:g}. "
            f"It holds with {_figure('epsilon_cap', everything)}, or with fewer of them or more noise on them"
        )
    for purpose, quota in line.quotas.items():
        spend = epsilon_of_everything(policy, line.unit, purpose)
        if spend > quota:
            raise InvariantViolated(
                f"{name}: all releases for {purpose.value} cost ε = {spend:.4g}, more than their quota {quota:g}. "
                f"It holds with {_figure('a quota', spend)}, or with fewer of them or more noise on them"
            )


def _prove_cohort(policy: PrivacyBudgetPolicy) -> None:
    """No two sums of one session, an honest device in every sum, and a modulus that no sum wraps around."""
    cohort = policy.cohort
    if cohort.devices_min > cohort.devices_max:
        raise InvariantViolated(
            f"privacy_budget: cohort devices_min {cohort.devices_min} is above devices_max {cohort.devices_max}"
        )
    dropout, corrupt = cohort.dropout_fraction_max, cohort.corrupt_fraction_max
    # 2·survivors > roster + corrupt for every roster: two different sets of survivors share an honest device, which
    # confirms one of them only.
    if 2 * dropout + corrupt > 1 - 1e-6:
        raise InvariantViolated(
            "privacy_budget: twice the fewest survivors must exceed the roster and its corrupt devices together. It "
            f"holds with dropout_fraction_max ≤ {_down((1 - corrupt) / 2 - 1e-6)} or corrupt_fraction_max ≤ "
            f"{_down(max(0.0, 1 - 2 * dropout - 1e-6))}"
        )
    for task in Task:
        if is_declared(policy, task):
            try:
                modulus_bits([parameters for _, parameters in releases_of(policy, task, 1)], cohort)
            except PolicyError as error:
                raise InvariantViolated(f"privacy_budget: {task.value}: {error}") from None


def _prove_releases(policy: PrivacyBudgetPolicy) -> None:
    """Releases of every round may happen in every round, and an adaptive clip starts within its bounds."""
    for kind in _EACH_ROUND:
        release = release_of(policy, kind)
        if release is not None and release.releases_max < policy.rounds_max:
            raise InvariantViolated(
                f"privacy_budget: {kind.value} happens in each of {policy.rounds_max} rounds. It holds with "
                f"releases_max ≥ {policy.rounds_max} or rounds_max ≤ {release.releases_max}"
            )
    adaptive, norm = policy.releases.clip_quantile, policy.releases.training_update.clipping_norm
    if adaptive is not None and not adaptive.clipping_norm_min <= norm <= adaptive.clipping_norm_max:
        raise InvariantViolated(
            f"privacy_budget: the training update's clipping_norm {norm:g} lies outside clip_quantile's "
            f"{adaptive.clipping_norm_min:g} to {adaptive.clipping_norm_max:g}"
        )


def epsilon_of_rounds(
    policy: PrivacyBudgetPolicy, unit: PrivacyUnit, rounds: int, *, noise_multiplier: float | None = None
) -> float:
    """ε of ``rounds`` rounds of the document's training on the line of ``unit``; clip bits are part of the user's.

    Args:
        policy: the privacy budget document.
        unit: whose line.
        rounds: how many.
        noise_multiplier: of the training; the document's own by default.
    """
    return accountant.epsilon(_training(policy, unit, rounds, noise_multiplier), line_of_unit(policy, unit).delta)


def epsilon_of_everything(policy: PrivacyBudgetPolicy, unit: PrivacyUnit, purpose: Purpose | None = None) -> float:
    """ε of all that the document lets one device release in a budget period, or of its part for one purpose."""
    if unit is PrivacyUnit.RECORD:
        wanted = purpose in {None, ReleaseKind.TRAINING_UPDATE.purpose}
        return epsilon_of_rounds(policy, unit, policy.rounds_max if wanted else 0)
    uses = [
        _times(release.release(1), release.releases_max)
        for kind in ReleaseKind
        if (release := release_of(policy, kind)) is not None and purpose in {None, kind.purpose}
    ]
    return accountant.epsilon(uses, line_of_unit(policy, unit).delta)


def multiplier_min(
    policy: PrivacyBudgetPolicy, unit: PrivacyUnit, *, epsilon: float | None = None, rounds: int | None = None
) -> float:
    """The smallest noise multiplier of the training, to four digits upwards, that keeps it within ``epsilon``.

    Args:
        policy: the privacy budget document.
        unit: whose line; for the user's, clip bits keep the document's noise and are paid first.
        epsilon: the line's ``epsilon_declared`` by default.
        rounds: ``rounds_max`` by default.

    Returns:
        The multiplier; infinity if no noise on the training suffices.
    """
    target = line_of_unit(policy, unit).epsilon_declared if epsilon is None else epsilon
    rounds = policy.rounds_max if rounds is None else rounds

    def within(multiplier: float) -> bool:
        return epsilon_of_rounds(policy, unit, rounds, noise_multiplier=multiplier) <= target

    if not within(_MULTIPLIER_MAX):
        return math.inf
    low, high = 1e-2, _MULTIPLIER_MAX
    while high - low > 1e-5 * high:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if within(middle) else (middle, high)
    digits = 3 - math.floor(math.log10(high))
    return math.ceil(high * 10.0**digits) / 10.0**digits


def rounds_affordable(policy: PrivacyBudgetPolicy, unit: PrivacyUnit) -> int:
    """The most rounds up to ``rounds_max`` that stay within the line's claim; 0 when a single one does not."""
    low, high = 0, policy.rounds_max + 1
    while high - low > 1:
        middle = (low + high) // 2
        within = epsilon_of_rounds(policy, unit, middle) <= line_of_unit(policy, unit).epsilon_declared
        low, high = (middle, high) if within else (low, middle)
    return low


def _training(
    policy: PrivacyBudgetPolicy, unit: PrivacyUnit, rounds: int, noise_multiplier: float | None
) -> list[MechanismUse]:
    """What ``rounds`` rounds release on one line. ε does not depend on the length of the vectors: 1 stands for any."""
    if rounds == 0:
        return []
    changes = {} if noise_multiplier is None else {"noise_multiplier": noise_multiplier}
    if unit is PrivacyUnit.RECORD:
        return [_times(policy.training.release(Profile.RECORD_LOCAL).model_copy(update=changes), rounds)]
    uses = [_times(policy.releases.training_update.release(1).model_copy(update=changes), rounds)]
    if policy.releases.clip_quantile is not None:
        uses.append(_times(policy.releases.clip_quantile.release(1), rounds))
    return uses


def _times(use: MechanismUse, count: int) -> MechanismUse:
    return use.model_copy(update={"count": use.count * count})


def _multiplier_named(policy: PrivacyBudgetPolicy, line: BudgetLine) -> str:
    multiplier = multiplier_min(policy, line.unit)
    where = "training" if line.unit is PrivacyUnit.RECORD else "training_update"
    if math.isinf(multiplier):
        return f"no noise_multiplier of {where}, its clip bits alone being too dear"
    return f"noise_multiplier ≥ {multiplier:.10g} of {where}"


def _figure(name: str, cost: float) -> str:
    return f"{name} ≥ {math.ceil(cost * 1000) / 1000:g}" if math.isfinite(cost) else f"no {name}: there is no noise"


def _down(value: float) -> str:
    return f"{math.floor(value * 1000) / 1000:g}"


# ── messages, purposes, retention ────────────────────────────────────────────────────────────────────────────────────


def outbound_kinds() -> frozenset[str]:
    """The ``kind`` of every message in the Outbound union."""
    union = typing.get_args(Outbound)[0]
    return frozenset(message.model_fields["kind"].default for message in typing.get_args(union))


def _prove_egress(policies: PolicySet) -> None:
    """Exactly the Outbound messages are listed, once; what carries a release is charged to its purpose."""
    rules = policies.egress.messages
    twice = [name for name, count in Counter(rule.message for rule in rules).items() if count > 1]
    listed, existing = frozenset(rule.message for rule in rules), outbound_kinds()
    for problem, names in (
        ("lists twice", twice),
        ("does not list the outbound message", existing - listed),
        ("lists a message that does not exist:", listed - existing),
        ("charges without a purpose:", [rule.message for rule in rules if rule.charged and rule.purpose is None]),
    ):
        if names:
            raise InvariantViolated(f"egress: {problem} {', '.join(sorted(names))}")
    by_name = {rule.message: rule for rule in rules}
    for message, purpose in _CHARGED.items():
        rule = by_name[message]
        if not rule.charged or rule.purpose is not purpose:
            raise InvariantViolated(f"egress: {message} must be charged and have the purpose {purpose.value}")


_CHARGED: dict[str, Purpose] = {
    TrainingContribution.model_fields["kind"].default: Purpose.TRAIN_CONTRIBUTE,
    MaskedUpdateHeader.model_fields["kind"].default: Purpose.TRAIN_CONTRIBUTE,
    MaskedMeasurement.model_fields["kind"].default: Purpose.MEASURE_AGGREGATE,
    PrivatePick.model_fields["kind"].default: Purpose.PLACE_PERSONALISED,
}


def _prove_validity(purposes: PurposesPolicy) -> None:
    """No grant is given a longer life than the maximum, by default or anywhere."""
    if purposes.validity_days_default > purposes.validity_days_max:
        raise InvariantViolated(
            f"purposes: validity_days_default {purposes.validity_days_default} is above "
            f"validity_days_max {purposes.validity_days_max}"
        )
    for place in purposes.jurisdictions:
        if place.validity_days > purposes.validity_days_max:
            raise InvariantViolated(f"purposes: in {place.code} a grant would outlive validity_days_max")


def _prove_purposes(policies: PolicySet) -> None:
    """Every purpose has a rule in both languages, prerequisites are acyclic, validity is in range."""
    _prove_validity(policies.purposes)
    purposes = policies.purposes
    requires = {rule.id: rule.requires for rule in purposes.purposes}
    missing = set(Purpose) - set(requires)
    if missing:
        raise InvariantViolated(f"purposes: no rule for {', '.join(sorted(missing))}")
    for rule in purposes.purposes:
        if {"en", "zh-CN"} - set(rule.title) or {"en", "zh-CN"} - set(rule.text):
            raise InvariantViolated(f"purposes: {rule.id.value} lacks a title or text in en or zh-CN")
    settled: set[Purpose] = set()
    while len(settled) < len(requires):
        ready = {p for p, needed in requires.items() if p not in settled and settled.issuperset(needed)}
        if not ready:
            circle = ", ".join(sorted(set(requires) - settled))
            raise InvariantViolated(f"purposes: prerequisites run in a circle among {circle}")
        settled |= ready
    for purpose in (Purpose.TRAIN_CONTRIBUTE, Purpose.PLACE_PERSONALISED):
        if Purpose.TRAIN_LOCAL not in requires[purpose]:
            raise InvariantViolated(f"purposes: {purpose.value} must require {Purpose.TRAIN_LOCAL.value}")


def _prove_retention(policies: PolicySet) -> None:
    """No kind of event may be kept without a limit."""
    missing = set(EventKind) - set(policies.retention.retention_days)
    if missing:
        raise InvariantViolated(f"retention: no limit for {', '.join(sorted(missing))}")
