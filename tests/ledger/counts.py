"""A document whose numbers of releases bind long before its ε does, and a ledger that does not count: the control."""

from __future__ import annotations

from policies import budget
from policies.budget import Made, OverBudget, PlannedRelease, Spent
from policies.schema import PrivacyBudgetPolicy
from tests.ledger.worlds import policy, user_release

MOST = 3
COUNTED = policy(
    rounds_max=MOST,
    releases={
        "training_update": user_release(60.0, releases_max=MOST),
        "calibration": user_release(60.0, releases_max=1),
    },
)


def only_epsilon(
    policy: PrivacyBudgetPolicy,
    spent: Spent,
    planned: list[PlannedRelease],
    *,
    made: Made,
    simulation: bool = False,
) -> OverBudget | None:
    """The budget filter as it was before anybody counted: caps and quotas alone."""
    for line in policy.lines:
        if any(release.use.unit is line.unit for release in planned):
            found = budget.allows(line, spent, planned, simulation=simulation)
            if found is not None:
                return found
    return None
