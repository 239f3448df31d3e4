"""E[Y | pick] against a simulation of its own, and what must hold whatever the prior."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import ContractError
from common.privacy.posterior import posterior
from common.privacy.top_m import TopM, probabilities

MECHANISM = TopM(candidates=5, chosen=2, epsilon=1.0)
RESPONSES = (0.02, 0.05, 0.03, 0.04, 0.01)


def simulated(spread: float, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of Y for each answer, and how often each is given, from people drawn at random."""
    rng = np.random.default_rng(5)
    p = np.array(RESPONSES)
    y = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + spread * rng.standard_normal((400_000, 5)))))
    y *= p / y.mean(axis=0)
    odds = probabilities(MECHANISM, y * values)
    return (odds.T @ y) / odds.sum(axis=0)[:, np.newaxis], odds.mean(axis=0)


@pytest.mark.parametrize("values", [(1.0,) * 5, (1.0, 0.2, 3.0, 1.0, 4.0)])
def test_it_is_the_mean_of_the_people_who_give_that_answer(values: tuple[float, ...]) -> None:
    means, odds = simulated(0.8, np.array(values))
    found = np.array([posterior(MECHANISM, RESPONSES, a, spread=0.8, values=values) for a in range(5)])
    assert found == pytest.approx(means, rel=0.02)
    assert odds @ found == pytest.approx(np.array(RESPONSES), rel=0.01), "without an answer it is p"


def test_an_answer_speaks_for_its_candidate_and_more_so_with_a_larger_epsilon() -> None:
    flat = (0.03,) * 5
    weak, strong = (
        posterior(MECHANISM.model_copy(update={"epsilon": epsilon}), flat, 3, spread=0.8) for epsilon in (0.5, 4.0)
    )
    assert strong[3] > weak[3] > 0.03 > weak[0] > strong[0]


def test_where_people_do_not_differ_an_answer_says_nothing() -> None:
    assert posterior(MECHANISM, RESPONSES, 4, spread=1e-9) == pytest.approx(RESPONSES, rel=1e-6)


def test_the_edges_of_probability_stay_probabilities() -> None:
    told = posterior(MECHANISM, (0.0, 1.0, 0.5, 0.0, 1.0), 0, spread=5.0)
    assert all(0 <= y <= 1 for y in told)


@pytest.mark.parametrize(("responses", "index"), [((0.1,) * 4, 0), ((0.1,) * 5, 5), ((0.1,) * 5, -1)])
def test_what_cannot_be_read(responses: tuple[float, ...], index: int) -> None:
    with pytest.raises(ContractError):
        posterior(MECHANISM, responses, index, spread=0.8)
