"""g itself: eligibility, scores, then the strategy of the policy document. Pure: same inputs, same answer, anywhere."""

from __future__ import annotations

from collections.abc import Sequence

from common.wire.messages import Creative, SlotRequest
from policies.placement.eligibility import eligible
from policies.placement.protocol import Placement, ScoreFunction, Strategy
from policies.placement.threshold import Threshold
from policies.placement.tie_break import rank
from policies.placement.top_k import TopK
from policies.schema import PlacementPolicy, ThresholdStrategy


def decide(
    policy: PlacementPolicy,
    creatives: Sequence[Creative],
    score: ScoreFunction,
    slots: Sequence[SlotRequest],
    *,
    salt: str,
) -> tuple[Placement, ...]:
    """A = g(Y).

    Args:
        policy: the policy document.
        creatives: the whole catalogue.
        score: gives the eligible creatives their scores Y; called once.
        slots: what is to be filled.
        salt: of the tie-break; the decision's id.

    Raises:
        ShapeMismatch, NonFiniteValue: ``score`` did not give one finite number per candidate.
    """
    candidates = eligible(creatives, policy.eligibility)
    return _strategy(policy).fill(rank(candidates, score(candidates), salt), slots)


def _strategy(policy: PlacementPolicy) -> Strategy:
    if isinstance(policy.strategy, ThresholdStrategy):
        return Threshold(policy.strategy.score_min)
    return TopK(policy.strategy.k)
