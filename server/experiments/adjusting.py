"""Changes of campaigns that two people agreed on. Owns their translation into what the campaigns' own rules allow."""

from __future__ import annotations

from typing import Final

from common.taxonomy import PlanKind, PlanMove, ReviewState
from server.access.principal import Principal
from server.campaigns.plans import PlanService
from server.experiments.changes import BudgetChange, CreativeChange

_MOVES: Final = {
    "pause": (PlanMove.PAUSE, ReviewState.PAUSED),
    "resume": (PlanMove.RESUME, ReviewState.APPROVED),
}


class CampaignAdjustments:
    """Makes changes of creatives and budgets, in the campaigns' own slice."""

    def __init__(self, plans: PlanService) -> None:
        """Change what ``plans`` keeps."""
        self._plans = plans

    def apply(self, change: CreativeChange | BudgetChange, caller: Principal) -> None:
        """Make the change; making it again changes nothing.

        Raises:
            NotFound: no such creative or campaign.
            NotInThisState: its state does not allow it.
        """
        if isinstance(change, CreativeChange):
            move, reached = _MOVES[change.action]
            if self._plans.get(PlanKind.CREATIVE, change.creative_id, caller).state is not reached:
                self._plans.move(PlanKind.CREATIVE, change.creative_id, move, caller)
            return
        plan = self._plans.get(PlanKind.CAMPAIGN, change.campaign_id, caller)
        terms = plan.campaign
        if terms.budget_micros == change.budget_micros:
            return
        daily = terms.daily_budget_micros
        changed = terms.model_copy(
            update={
                "budget_micros": change.budget_micros,
                "daily_budget_micros": None if daily is None else min(daily, change.budget_micros),
            }
        )
        self._plans.change(PlanKind.CAMPAIGN, change.campaign_id, changed, caller, revision=plan.revision)
