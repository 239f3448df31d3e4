"""Exact values of policies on made shelves, where they can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.off_policy import LOGGING, Replayed, covered
from bench.placement_data import LISTED, Shelves
from bench.placement_modes import _firsts, _readings, pick_values
from bench.placement_value import STRATEGIES, Scores, expected
from common.model.examples import Examples
from common.privacy.top_m import TopM
from policies.evaluation.estimators import doubly_robust
from policies.placement.document import SoftmaxStrategy

BASKETS, SIZE = 60, 24


def made(seed: int = 0) -> tuple[Shelves, Scores]:
    """Shelves of 24 products; outcomes follow the personal score; the list is the first eight."""
    rng = np.random.default_rng(seed)
    rows = BASKETS * SIZE
    personal = rng.uniform(0.01, 0.6, rows)
    labels = (rng.random(rows) < personal).astype(np.float32)
    starts = np.arange(0, rows, SIZE)
    nothing = Examples(np.zeros((rows, 1), np.int64), np.zeros((rows, 1), np.float32), labels, np.zeros(rows), "0" * 64)
    held = Shelves(
        rows=nothing,
        starts=starts,
        products=np.tile(np.arange(SIZE), BASKETS),
        sold=np.tile(np.arange(SIZE), BASKETS),
        households=np.arange(BASKETS),
        stores=np.zeros(BASKETS, np.int64),
        weeks=np.zeros(BASKETS, np.int64),
        listed=starts[:, None] + np.arange(LISTED),
        drawn=nothing,
        seen=np.ones(BASKETS, bool),
    )
    contextual = np.tile(np.linspace(0.1, 0.4, SIZE), BASKETS)
    return held, Scores(personal, contextual, personal[held.listed], personal)


def test_greedy_is_the_best_scores_outcome_and_exploring_costs_what_it_must() -> None:
    held, scores = made()
    labels, y = held.rows.labels.reshape(BASKETS, SIZE), scores.personal.reshape(BASKETS, SIZE)
    greedy = expected(held, scores.personal, STRATEGIES["greedy"])
    assert greedy == pytest.approx(labels[np.arange(BASKETS), y.argmax(1)])
    explored = expected(held, scores.personal, STRATEGIES["ε-greedy 0.1 of 20"])
    pool = np.take_along_axis(labels, np.argsort(-y, 1)[:, :20], 1).mean(1)
    assert explored == pytest.approx(0.9 * greedy + 0.1 * pool)


@pytest.mark.parametrize("epsilon", [1.0, 2.0, 4.0])
def test_a_pick_that_is_never_stale_keeps_exactly_what_theory_says(epsilon: float) -> None:
    """Control: a draw from scores that mean nothing keeps next to nothing of the gain."""
    held, scores = made()
    values = {"size": LISTED, "epsilon": epsilon, "spread": 0.8}
    fresh = pick_values(held, scores.personal, scores.contextual, scores.drawn, **values)  # type: ignore[arg-type]
    assert fresh["measured, over uniform"] == pytest.approx(fresh["theory, over uniform"])
    noise = np.random.default_rng(1).random(scores.drawn.shape)
    stale = pick_values(held, scores.personal, scores.contextual, noise, **values)  # type: ignore[arg-type]
    assert stale["measured, over uniform"] < 0.5 * fresh["measured, over uniform"]


def test_what_a_pick_is_compared_with_is_what_g_serves_equal_scores_included() -> None:
    """Control: telling equals apart by their place on the shelf serves other products."""
    held, scores = made()
    coarse = np.round(scores.personal, 1)
    served = held.rows.labels[_firsts(held, coarse)]
    assert served == pytest.approx(expected(held, coarse, STRATEGIES["greedy"]))
    by_place = held.rows.labels.reshape(BASKETS, SIZE)[np.arange(BASKETS), coarse.reshape(BASKETS, SIZE).argmax(1)]
    assert (served != by_place).any()


def test_the_best_reading_uses_an_answer_only_where_it_says_something() -> None:
    """Two candidates, two kinds of people. An answer that is always true is worth 1, one that means nothing 0.5."""
    outcome = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert _readings(outcome, outcome) == (0.5, 1.0)
    assert _readings(np.full((2, 2), 0.5), outcome) == (0.5, 0.5)


def test_with_one_true_answer_theory_is_the_design_documents_figure() -> None:
    """K = 8: (e^ε - 1)/(e^ε + K - 1) of the gain at m = 1: 0.44 at ε = 2, 0.87 at ε = 4."""
    assert TopM(candidates=8, chosen=1, epsilon=2.0).truth == pytest.approx(0.444, abs=5e-4)
    assert TopM(candidates=8, chosen=1, epsilon=4.0).truth == pytest.approx(0.870, abs=5e-4)


def test_a_replayed_log_is_judged_at_its_exact_value() -> None:
    held, scores = made()
    shown = Replayed.of(held, scores, SoftmaxStrategy(kind="softmax", temperature=0.1, k=20))
    assert shown.logging.sum(1) == pytest.approx(1)
    assert shown.target.sum(1) == pytest.approx(1)
    assert shown.logging[:, 0] == pytest.approx(1 - LOGGING.exploration * 19 / 20)
    found = doubly_robust(shown.judged(np.random.default_rng(0))[0])
    assert abs(found.value - shown.value) < 4 * found.stderr
    figures = covered(shown.judged, shown.value, 20)
    assert figures["DR"]["covered"] >= 0.75  # 20 logs: a smoke test; the bench has 500
