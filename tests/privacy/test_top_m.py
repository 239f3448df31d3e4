"""Top-m randomised response: exact ratios over every input, and broken versions that the same check must catch."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from common.errors import ContractError
from common.privacy.randomness import SimulationNoise
from common.privacy.top_m import (
    TopM,
    best_chosen,
    draw,
    exact_probabilities,
    members,
    pick_at,
    probabilities,
    share_kept,
    top,
)
from tests.privacy import responses
from tests.privacy.responses import Distribution, all_inputs, distinct, exp_of, worst_ratio

EPSILONS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)


@pytest.mark.parametrize("candidates", [2, 3, 4, 5, 6])
def test_no_input_of_up_to_six_candidates_changes_any_answer_by_more_than_e_to_the_epsilon(candidates: int) -> None:
    inputs = np.array(list(all_inputs(candidates)))
    for chosen in range(1, candidates):
        sets = np.unique(members(TopM(candidates=candidates, chosen=chosen, epsilon=1.0), inputs), axis=0)
        assert (sets.sum(axis=1) == chosen).all(), "every input has exactly m best candidates"
        assert len(sets) == math.comb(candidates, chosen), "every set is some input's"
        for epsilon in EPSILONS:
            mechanism = TopM(candidates=candidates, chosen=chosen, epsilon=epsilon)
            seen: list[responses.Seen] = [
                dict(enumerate(exact_probabilities(mechanism, np.flatnonzero(one).tolist()))) for one in sets
            ]
            assert all(sum(one.values()) == 1 for one in seen)
            worst = worst_ratio(seen)
            assert worst is not None
            assert exp_of(epsilon) * (1 - Fraction(1, 10**8)) < worst <= exp_of(epsilon), "tight, and never above"


BROKEN: dict[str, Callable[[TopM], Distribution]] = {
    "m follows the scores": responses.m_follows_the_scores,
    "the coin is told": responses.coin_is_told,
    "a retry draws again": responses.drawn_twice,
    "capped candidates leave the domain": responses.capped_leave_the_domain,
    "the weight is rounded up": responses.rounded_up,
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_same_check_catches_what_is_broken(name: str) -> None:
    mechanism = TopM(candidates=4, chosen=2, epsilon=1.0)
    assert (worst_ratio(distinct(responses.correct(mechanism), 4)) or math.inf) <= exp_of(1.0)
    worst = worst_ratio(distinct(BROKEN[name](mechanism), 4))
    assert worst is None or worst > exp_of(1.0)


def test_numbers_are_owned_in_proportion_to_the_weights_and_no_other_number_is() -> None:
    mechanism = TopM(candidates=5, chosen=2, epsilon=1.5)
    high, low = mechanism.weights
    best, start = (1, 4), 0
    for index in range(5):
        end = start + (high if index in best else low)
        assert pick_at(mechanism, best, start) == pick_at(mechanism, best, end - 1) == index
        start = end
    assert start == mechanism.total
    with pytest.raises(ContractError):
        pick_at(mechanism, best, start)


def test_draws_have_the_exact_distribution() -> None:
    mechanism, scores = TopM(candidates=4, chosen=1, epsilon=1.0), [0.1, 0.4, 0.2, 0.3]
    noise = SimulationNoise(11, "top m")
    drawn = np.bincount([draw(mechanism, scores, noise) for _ in range(6000)], minlength=4)
    expected = 6000 * probabilities(mechanism, np.array([scores]))[0]
    assert float(((drawn - expected) ** 2 / expected).sum()) < 21.1, "chi-square of 3 degrees at p = 1e-4"
    assert drawn.argmax() == 1


def test_whole_numbers_below_a_bound_are_even_and_never_reach_it() -> None:
    noise = SimulationNoise(3, "below")
    drawn = np.bincount([noise.below(5) for _ in range(5000)], minlength=5)
    assert len(drawn) == 5
    assert float(((drawn - 1000) ** 2 / 1000).sum()) < 23.6, "chi-square of 4 degrees at p = 1e-4"
    assert {noise.below(1) for _ in range(5)} == {0}
    assert max(noise.below(1 << 63) for _ in range(5)) < 1 << 63
    for bound in (0, (1 << 63) + 1):
        with pytest.raises(ValueError, match="bound"):
            noise.below(bound)


def test_ties_go_to_the_earlier_candidate_and_capped_ones_last() -> None:
    mechanism = TopM(candidates=4, chosen=2, epsilon=1.0)
    assert top(mechanism, [1.0, 2.0, 2.0, 2.0]) == (1, 2)
    assert top(mechanism, [-math.inf, -math.inf, -math.inf, 0.0]) == (0, 3)
    for wrong in ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0, math.nan]):
        with pytest.raises(ContractError):
            top(mechanism, wrong)


@pytest.mark.parametrize(
    ("candidates", "epsilon", "chosen"),
    [(4, 0.5, 2), (8, 1.0, 2), (16, 0.5, 6), (16, 2.0, 2), (64, 1.0, 17), (4, 8, 1)],
)
def test_the_best_m(candidates: int, epsilon: float, chosen: int) -> None:
    assert best_chosen(candidates, epsilon) == chosen


def test_what_is_kept_is_the_truth_times_what_the_best_are_worth() -> None:
    mechanism = TopM(candidates=4, chosen=1, epsilon=4.0)
    assert mechanism.truth == pytest.approx((math.e**4 - 1) / (math.e**4 + 3))
    values = np.array([0.1, 0.5, 0.2, 0.2])
    exact = float(probabilities(mechanism, values[np.newaxis])[0] @ values)
    gain = values.max() - values.mean()
    assert exact - values.mean() == pytest.approx(share_kept(mechanism, gain, gain) * gain)
    assert share_kept(mechanism, 0.0, 0.0) == 0.0


@pytest.mark.parametrize(
    "figures", [(1, 1, 1.0), (4, 4, 1.0), (4, 0, 1.0), (4, 1, 0.0), (4, 1, math.inf), (4, 1, 13.0)]
)
def test_what_is_no_mechanism(figures: tuple[int, int, float]) -> None:
    candidates, chosen, epsilon = figures
    with pytest.raises(ValueError, match="validation error"):
        TopM(candidates=candidates, chosen=chosen, epsilon=epsilon)
