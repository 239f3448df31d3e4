"""Private picks: which mechanism, how often, for which slots, and what that may cost. Pure: device and server ask it.

A pick is one draw of top-m randomised response per slot group and epoch. Its line (one user, replace-one, local, pure
ε) has a period and a ledger of its own: nothing on it is ever added to what training or measurement cost.
"""

from __future__ import annotations

import math
from typing import Final

from common.errors import InvariantViolated, PolicyError
from common.privacy.top_m import TopM
from common.taxonomy import NeighbouringRelation, PrivacyUnit, ReleaseKind, TrustModel
from policies.budget import DAY_S, PlannedRelease
from policies.schema import BudgetLine, PickRules, PrivacyBudgetPolicy

KIND: Final = ReleaseKind.PRIVATE_PICK


def rules_of(policy: PrivacyBudgetPolicy) -> PickRules:
    """The document's section on picks.

    Raises:
        PolicyError: it has none, so no pick is ever drawn or taken.
    """
    if policy.placement is None:
        raise PolicyError("the privacy budget declares no private picks")
    return policy.placement


def line_of_picks(rules: PickRules) -> BudgetLine:
    """The line that picks are charged to, and nothing else."""
    return BudgetLine(
        unit=PrivacyUnit.USER,
        relation=NeighbouringRelation.REPLACE,
        trust=TrustModel.LOCAL,
        delta=0.0,
        epsilon_declared=epsilon_of_period(rules),
        epsilon_cap=rules.epsilon_cap,
    )


def pick_budget(policy: PrivacyBudgetPolicy) -> PrivacyBudgetPolicy:
    """The budget that a ledger of picks charges under: their line alone, in their period.

    Raises:
        PolicyError: as ``rules_of``.
    """
    rules = rules_of(policy)
    return policy.model_copy(update={"lines": (line_of_picks(rules),), "budget_period_days": rules.period_days})


def mechanism(rules: PickRules, candidates: int) -> TopM:
    """The mechanism over a list of this length; m is the document's, less only where the list is that short.

    Raises:
        PolicyError: a list of this length is none to pick from.
    """
    if not 2 <= candidates <= rules.candidates_max:
        raise PolicyError(f"a private pick is from 2 to {rules.candidates_max} candidates")
    return TopM(candidates=candidates, chosen=min(rules.chosen, candidates - 1), epsilon=rules.epsilon)


def planned(drawn_by: TopM) -> PlannedRelease:
    """One draw, as a ledger charges it."""
    return PlannedRelease(KIND, drawn_by.release())


def cause_of(slot_group: str, epoch: int) -> str:
    """What a ledger charges a draw for: one per slot group and epoch, whatever list is published."""
    return f"pick/{slot_group}/{epoch}"


def epoch_of(rules: PickRules, now: float) -> int:
    """Number of the epoch of a moment, seconds since 1970: fixed spans of ``epoch_days``."""
    return math.floor(now / (rules.epoch_days * DAY_S))


def period_of_picks(rules: PickRules, now: float) -> int:
    """Number of the budget period of a moment; epochs never straddle periods."""
    return math.floor(now / (rules.period_days * DAY_S))


def epoch_ends_at(rules: PickRules, epoch: int) -> int:
    """When an epoch is over, seconds since 1970."""
    return (epoch + 1) * rules.epoch_days * int(DAY_S)


def group_of(rules: PickRules, slot_id: str) -> str | None:
    """The slot group of a slot: the first whose patterns fit; None where picks are for other slots."""
    for group in rules.slot_groups:
        for pattern in group.slots:
            if slot_id == pattern or (pattern.endswith("*") and slot_id.startswith(pattern[:-1])):
                return group.name
    return None


def draws_of_period(rules: PickRules) -> int:
    """The most fresh draws of one device in one period."""
    return len(rules.slot_groups) * (rules.period_days // rules.epoch_days)


def epsilon_of_period(rules: PickRules) -> float:
    """ε of all of them at δ = 0: they add up."""
    return draws_of_period(rules) * rules.epsilon


def prove_picks(policy: PrivacyBudgetPolicy) -> None:
    """All draws of a period stay within the cap, one per slot group and epoch.

    Raises:
        InvariantViolated: they do not; the text names the figures that would.
    """
    rules = policy.placement
    if rules is None:
        return
    name = "privacy_budget: placement"
    if rules.period_days % rules.epoch_days:
        raise InvariantViolated(
            f"{name}: epochs of {rules.epoch_days} days straddle periods of {rules.period_days}. It holds with "
            f"period_days = {math.ceil(rules.period_days / rules.epoch_days) * rules.epoch_days}"
        )
    names = [group.name for group in rules.slot_groups]
    if len(set(names)) != len(names):
        raise InvariantViolated(f"{name}: a slot group occurs twice")
    if rules.chosen >= rules.candidates_max:
        raise InvariantViolated(f"{name}: chosen must be below candidates_max {rules.candidates_max}")
    cost = epsilon_of_period(rules)
    if cost > rules.epsilon_cap:
        affordable = rules.epsilon_cap / draws_of_period(rules)
        raise InvariantViolated(
            f"{name}: {draws_of_period(rules)} draws in {rules.period_days} days cost ε = {cost:g}, more than "
            f"epsilon_cap {rules.epsilon_cap:g}. It holds with epsilon ≤ {math.floor(affordable * 1000) / 1000:g}, or "
            f"epsilon_cap ≥ {cost:g}, or with fewer slot groups or longer epochs"
        )
