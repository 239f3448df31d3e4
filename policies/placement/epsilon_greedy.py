"""Strategy ``epsilon_greedy``: the best, or with probability ``exploration`` any candidate left, evenly.

The best itself can come up when exploring, so its propensity is 1 - ε + ε/n and everybody else's ε/n.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.placement.document import EpsilonGreedyStrategy
from policies.placement.protocol import Probabilities, Scored


def epsilon_greedy(left: Sequence[Scored], rule: EpsilonGreedyStrategy) -> Probabilities:
    """1 - ε + ε/n for the best of the n left, ε/n for the others."""
    share = rule.exploration / len(left)
    return (1 - rule.exploration + share, *(share,) * (len(left) - 1))
