"""Strategies without chance: ``greedy``, ``threshold`` and ``top_k`` show the best candidate left.

They differ in who is a candidate: everybody, whoever scores at least ``score_min``, or the k best.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.placement.protocol import Probabilities, Scored


def best_first(left: Sequence[Scored]) -> Probabilities:
    """All on the best."""
    return (1.0, *(0.0,) * (len(left) - 1))
