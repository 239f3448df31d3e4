"""Proofs across policy documents. Owns what must be true before anything runs under them; reads nothing.

A violated invariant stops the program and names the figure that would satisfy it, so that a document is mended by
arithmetic and not by trial.
"""

from __future__ import annotations

import math
import typing
from collections import Counter

from common.errors import InvariantViolated
from common.privacy import accountant
from common.privacy.parameters import MechanismUse
from common.taxonomy import EventKind, NeighbouringRelation, PrivacyUnit, Profile, Purpose, TrustModel
from common.wire.messages import Outbound, TrainingContribution
from policies.schema import PolicySet, PrivacyBudgetPolicy

_MULTIPLIER_MAX = 1e4
_LINES = {
    Profile.RECORD_LOCAL: (PrivacyUnit.RECORD, NeighbouringRelation.ADD_REMOVE, TrustModel.LOCAL),
}


def prove(policies: PolicySet) -> None:
    """Check every invariant.

    Raises:
        InvariantViolated: the first that does not hold, with the figure that would make it hold.
    """
    prove_budget(policies.privacy_budget)
    _prove_egress(policies)
    _prove_purposes(policies)
    _prove_retention(policies)


def prove_budget(policy: PrivacyBudgetPolicy) -> None:
    """``rounds_max`` rounds of the declared mechanism cost at most ``epsilon_declared`` ≤ ``epsilon_cap``.

    Raises:
        InvariantViolated: they do not; the text names the smallest noise and the most rounds that would.
    """
    line = (policy.unit, policy.relation, policy.trust)
    if policy.profile in _LINES and line != _LINES[policy.profile]:
        wanted = ", ".join(part.value for part in _LINES[policy.profile])
        raise InvariantViolated(f"privacy_budget: profile {policy.profile.value} can only state: {wanted}")
    if policy.epsilon_declared > policy.epsilon_cap:
        raise InvariantViolated(
            f"privacy_budget: epsilon_declared {policy.epsilon_declared:g} is above epsilon_cap {policy.epsilon_cap:g}"
        )
    if policy.profile is Profile.NON_PRIVATE:
        raise InvariantViolated(
            "privacy_budget: profile non_private proves nothing; it is an option of simulations only"
        )
    cost = epsilon_of_rounds(policy, policy.rounds_max)
    if cost > policy.epsilon_declared:
        raise InvariantViolated(
            f"privacy_budget: {policy.rounds_max} rounds cost ε = {cost:.4g} at δ = {policy.delta:g}, more than the "
            f"declared {policy.epsilon_declared:g}. It holds with noise_multiplier ≥ {multiplier_min(policy):.4g}, or "
            f"rounds_max ≤ {rounds_affordable(policy)}, or {_claim_min(cost)}"
        )


def epsilon_of_rounds(policy: PrivacyBudgetPolicy, rounds: int, *, noise_multiplier: float | None = None) -> float:
    """ε of ``rounds`` rounds of the policy's training, recomputed by the accountant."""
    return accountant.epsilon(_uses(policy, rounds, noise_multiplier), policy.delta)


def multiplier_min(policy: PrivacyBudgetPolicy) -> float:
    """The smallest noise multiplier, to 0.1 %, with which ``rounds_max`` rounds stay within ``epsilon_declared``."""
    low, high = policy.training.noise_multiplier, _MULTIPLIER_MAX
    while high - low > 1e-3 * high:
        middle = math.sqrt(max(low, 1e-3) * high)
        if epsilon_of_rounds(policy, policy.rounds_max, noise_multiplier=middle) > policy.epsilon_declared:
            low = middle
        else:
            high = middle
    return high


def rounds_affordable(policy: PrivacyBudgetPolicy) -> int:
    """The most rounds that stay within ``epsilon_declared``; 0 when a single one does not."""
    low, high = 0, policy.rounds_max
    while high - low > 1:
        middle = (low + high) // 2
        if epsilon_of_rounds(policy, middle) > policy.epsilon_declared:
            high = middle
        else:
            low = middle
    return low


def _claim_min(cost: float) -> str:
    finite = f"epsilon_declared ≥ {math.ceil(cost * 1000) / 1000:g}" if math.isfinite(cost) else ""
    return finite or "no epsilon_declared at all: there is no noise"


def _uses(policy: PrivacyBudgetPolicy, rounds: int, noise_multiplier: float | None) -> list[MechanismUse]:
    use = policy.training.release(policy.profile)
    changes: dict[str, float] = {"count": use.count * rounds}
    if noise_multiplier is not None:
        changes["noise_multiplier"] = noise_multiplier
    return [use.model_copy(update=changes)]


def outbound_kinds() -> frozenset[str]:
    """The ``kind`` of every message in the Outbound union."""
    union = typing.get_args(Outbound)[0]
    return frozenset(message.model_fields["kind"].default for message in typing.get_args(union))


def _prove_egress(policies: PolicySet) -> None:
    """Exactly the Outbound messages are listed, once; what is charged has a purpose and the contribution is both."""
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
    kind = TrainingContribution.model_fields["kind"].default
    rule = next(rule for rule in rules if rule.message == kind)
    if not rule.charged or rule.purpose is not Purpose.TRAIN_CONTRIBUTE:
        raise InvariantViolated(f"egress: {kind} must be charged and have the purpose {Purpose.TRAIN_CONTRIBUTE.value}")


def _prove_purposes(policies: PolicySet) -> None:
    """Every purpose has a rule in both languages, prerequisites are acyclic, validity is in range."""
    purposes = policies.purposes
    requires = {rule.id: rule.requires for rule in purposes.purposes}
    missing = set(Purpose) - set(requires)
    if missing:
        raise InvariantViolated(f"purposes: no rule for {', '.join(sorted(missing))}")
    if purposes.validity_days_default > purposes.validity_days_max:
        raise InvariantViolated(
            f"purposes: validity_days_default {purposes.validity_days_default} is above "
            f"validity_days_max {purposes.validity_days_max}"
        )
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
