"""Server optimisers against the formulas of their papers, written out a second time with plain floats."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.taxonomy import ServerOptimiser
from server.rounds.optimiser import OptimiserSettings, OptimiserState, step

UPDATES = [np.array([0.5, -1.0, 0.0]), np.array([0.25, 2.0, 0.0]), np.array([-1.0, 0.125, 0.0])]


def run(settings: OptimiserSettings) -> np.ndarray:
    weights, state = np.array([1.0, 1.0, 1.0]), OptimiserState.start(3)
    for number, update in enumerate(UPDATES, start=1):
        before = (weights.copy(), state.first.copy(), state.second.copy())
        after, next_state = step(settings, weights, update, state, round_number=number, rounds_total=len(UPDATES))
        assert all(np.array_equal(x, y) for x, y in zip(before, (weights, state.first, state.second), strict=True))
        weights, state = after, next_state
    return weights


def test_fedavg_adds_the_mean() -> None:
    found = run(OptimiserSettings(kind=ServerOptimiser.FEDAVG, learning_rate=0.5))
    assert found == pytest.approx(1.0 + 0.5 * sum(UPDATES))


def test_momentum() -> None:
    found = run(OptimiserSettings(kind=ServerOptimiser.MOMENTUM, learning_rate=0.5, momentum=0.9))
    for i in range(3):
        w, v = 1.0, 0.0
        for update in UPDATES:
            v = 0.9 * v + update[i]
            w += 0.5 * v
        assert found[i] == pytest.approx(w)


def test_fedadam() -> None:
    found = run(
        OptimiserSettings(
            kind=ServerOptimiser.FEDADAM, learning_rate=0.1, momentum=0.9, second_moment=0.99, damping=1e-3
        )
    )
    for i in range(3):
        w, m, v = 1.0, 0.0, 0.0
        for n, update in enumerate(UPDATES, start=1):
            m = 0.9 * m + 0.1 * update[i]
            v = 0.99 * v + 0.01 * update[i] ** 2
            w += 0.1 * m / (1 - 0.9**n) / (math.sqrt(v / (1 - 0.99**n)) + 1e-3)
        assert found[i] == pytest.approx(w)
    assert found[2] == 1.0  # a weight that nobody moves stays


def test_momentum_without_memory_is_fedavg() -> None:
    momentum = run(OptimiserSettings(kind=ServerOptimiser.MOMENTUM, momentum=0.0))
    assert np.array_equal(momentum, run(OptimiserSettings(kind=ServerOptimiser.FEDAVG)))


def test_the_learning_rate_decays_linearly() -> None:
    found = run(OptimiserSettings(kind=ServerOptimiser.FEDAVG, learning_rate=1.0, decay=0.9))
    assert found == pytest.approx(1.0 + UPDATES[0] + 0.7 * UPDATES[1] + 0.4 * UPDATES[2])
