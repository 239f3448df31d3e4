"""Strategy ``softmax``: P(i) ∝ exp(score_i / temperature). Slates drawn by it follow the Plackett–Luce model.

**Source:** Luce 1959, "Individual Choice Behavior"; Plackett 1975, "The Analysis of Permutations".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from policies.placement.document import SoftmaxStrategy
from policies.placement.protocol import Probabilities, Scored


def softmax(left: Sequence[Scored], rule: SoftmaxStrategy) -> Probabilities:
    """Boltzmann probabilities of the candidates left."""
    best = left[0].score
    weights = [math.exp((candidate.score - best) / rule.temperature) for candidate in left]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)
