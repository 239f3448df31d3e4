"""Which strategy a document means. Owns the table from its words to pure functions, pool sizes and thresholds."""

from __future__ import annotations

from functools import partial

from policies.placement.document import (
    EpsilonGreedyStrategy,
    GreedyStrategy,
    PlacementPolicy,
    SoftmaxStrategy,
    ThompsonStrategy,
    ThresholdStrategy,
)
from policies.placement.epsilon_greedy import epsilon_greedy
from policies.placement.greedy import best_first
from policies.placement.protocol import Strategy
from policies.placement.softmax import softmax
from policies.placement.thompson import thompson


def strategy_of(policy: PlacementPolicy) -> Strategy:
    """The function from candidates left to probabilities."""
    rule = policy.strategy
    if isinstance(rule, SoftmaxStrategy):
        return partial(softmax, rule=rule)
    if isinstance(rule, EpsilonGreedyStrategy):
        return partial(epsilon_greedy, rule=rule)
    if isinstance(rule, ThompsonStrategy):
        return partial(thompson, rule=rule)
    return best_first


def pool_of(policy: PlacementPolicy) -> int | None:
    """How many of the best take part; None for all."""
    return None if isinstance(policy.strategy, GreedyStrategy | ThresholdStrategy) else policy.strategy.k


def floor_of(policy: PlacementPolicy) -> float:
    """The least score that the document lets be shown."""
    least = -float("inf") if policy.score.floor is None else policy.score.floor
    return max(least, policy.strategy.score_min) if isinstance(policy.strategy, ThresholdStrategy) else least
