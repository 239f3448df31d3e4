"""Monte-Carlo audit of what somebody who asks a device twice gets to see: the real draw, and three broken devices.

An event is chosen on one half of the runs and its ratio bounded on the other, by Clopper-Pearson at error 1e-6: the
honest device is falsely accused once in 5 · 10^5 runs of this file at most; seeds are fixed besides.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pytest

from common.privacy.audit import rate_high, rate_low
from common.privacy.randomness import NoiseSource, SimulationNoise
from common.privacy.top_m import TopM, draw, top

MECHANISM = TopM(candidates=4, chosen=1, epsilon=1.0)
RUNS = 3000
ERROR = 1e-6
ONE, OTHER = (0.9, 0.1, 0.1, 0.1), (0.1, 0.9, 0.8, 0.7)
Observer = Callable[[Sequence[float], NoiseSource], Hashable]


def honest(scores: Sequence[float], noise: NoiseSource) -> Hashable:
    """The retry gives the kept answer."""
    answer = draw(MECHANISM, scores, noise)
    return answer, answer


def drawn_again(scores: Sequence[float], noise: NoiseSource) -> Hashable:
    return draw(MECHANISM, scores, noise), draw(MECHANISM, scores, noise)


def coin_told(scores: Sequence[float], noise: NoiseSource) -> Hashable:
    answer = draw(MECHANISM, scores, noise)
    return answer, answer in top(MECHANISM, scores)


def own_m(scores: Sequence[float], noise: NoiseSource) -> Hashable:
    """As many candidates count as the best as the person likes."""
    liked = sum(score > 0.5 for score in scores)
    return draw(MECHANISM.model_copy(update={"chosen": liked}), scores, noise)


def audited(observe: Observer) -> float:
    """A lower bound on ε, from both directions."""
    seen = [
        [
            Counter(observe(scores, noise) for _ in range(RUNS))
            for noise in (SimulationNoise(7, number, half) for half in "ab")
        ]
        for number, scores in enumerate((ONE, OTHER))
    ]
    best = 0.0
    for first, second in ((0, 1), (1, 0)):
        events = list(seen[first][0])
        event = max(events, key=lambda one: (seen[first][0][one] + 1) / (seen[second][0][one] + 1))
        low = float(rate_low(np.array(float(seen[first][1][event])), RUNS, ERROR))
        high = float(rate_high(np.array(float(seen[second][1][event])), RUNS, ERROR))
        if low > 0:
            best = max(best, math.log(low / high))
    return best


def test_the_honest_device_keeps_its_claim_and_the_audit_comes_close_to_it() -> None:
    assert 0.7 < audited(honest) <= MECHANISM.epsilon


@pytest.mark.parametrize("broken", [drawn_again, coin_told, own_m])
def test_a_broken_device_is_caught(broken: Observer) -> None:
    assert audited(broken) > MECHANISM.epsilon
