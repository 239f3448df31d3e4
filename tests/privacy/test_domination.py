"""Skellam noise never costs more than the Gaussian it is counted as: every vertex, and exact curves in few dimensions.

Nothing here is random: distributions are summed up completely.
"""

import itertools
import math

import numpy as np
import pytest
from scipy.special import ive, ndtri

from common.errors import ContractError
from common.privacy import accountant
from common.privacy.domination import equivalent_multiplier, gaussian_step
from common.privacy.parameters import MechanismUse
from common.privacy.recompute import steps
from common.taxonomy import Mechanism, NeighbouringRelation, PrivacyUnit, TrustModel


def use(z: float, levels: int, dimension: int = 1, count: int = 1) -> MechanismUse:
    return MechanismUse(
        mechanism=Mechanism.SKELLAM,
        noise_multiplier=z,
        sampling_rate=1.0,
        count=count,
        unit=PrivacyUnit.USER,
        relation=NeighbouringRelation.ADD_REMOVE,
        trust=TrustModel.DISTRIBUTED,
        levels=levels,
        dimension=dimension,
    )


@pytest.mark.parametrize("variance", np.geomspace(0.01, 3e7, 39).tolist())
def test_no_step_is_larger_than_its_bound(variance: float) -> None:
    """All j from the middle to where a mass of 1e-60 is left, a hundred thousand of them for the largest variance."""
    found = steps(variance)
    assert found.max() <= gaussian_step(variance)
    assert found[0] >= found.max() * (1 - 1e-9)  # the middle step is the largest
    assert found.size > 8 * math.sqrt(variance)


@pytest.mark.parametrize("variance", [10.0, 100.0, 1e4])
def test_the_correction_is_needed_and_of_its_size(variance: float) -> None:
    """Without it, or with half of it, the middle vertex lies outside."""
    largest = steps(variance).max() * math.sqrt(variance)
    assert largest > 1 + 0.15 / variance
    assert largest < 1 + 0.2 / variance
    assert gaussian_step(variance) * math.sqrt(variance) < 1 + 0.34 / variance


def test_steps_from_their_definition() -> None:
    cumulative = np.cumsum(ive(np.abs(np.arange(-60.0, 12.0)), 20.0))  # F(-60) … F(11)
    np.testing.assert_allclose(steps(20.0)[:10], np.diff(ndtri(cumulative))[59:69], rtol=1e-9)


def exact_delta(vector: tuple[int, ...], variance: float, epsilons: np.ndarray) -> np.ndarray:
    """δ(ε) between Skellam noise and the same noise moved by ``vector``, summed over all outcomes."""
    reach = math.ceil(11 * math.sqrt(variance)) + 25
    k = np.arange(-reach, reach + 1)
    log_p = np.log(ive(np.abs(k).astype(float), variance))
    losses, probabilities = np.zeros(1), np.ones(1)
    for shift in vector:
        moved = np.log(ive(np.abs(k - shift).astype(float), variance))
        losses = np.add.outer(losses, log_p - moved).ravel()
        probabilities = np.multiply.outer(probabilities, np.exp(log_p)).ravel()
    return np.array([np.dot(np.maximum(0, -np.expm1(e - losses)), probabilities) for e in epsilons])


EPSILONS = np.array([0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 4.0])


@pytest.mark.parametrize(("z", "levels"), [(0.5, 2), (1.0, 2), (0.3, 5), (1.0, 5), (3.0, 3), (0.1, 3)])
@pytest.mark.parametrize("dimension", [1, 2])
def test_exact_curves_lie_below_for_every_vector(z: float, levels: int, dimension: int) -> None:
    claimed = np.array([accountant.delta([use(z, levels, dimension)], epsilon) for epsilon in EPSILONS])
    longest = 0.0
    for vector in itertools.product(range(levels + 1), repeat=dimension):
        if sum(x * x for x in vector) <= levels**2 and list(vector) == sorted(vector):
            exact = exact_delta(vector, (z * levels) ** 2, EPSILONS)
            assert (exact <= claimed * (1 + 1e-9) + 1e-14).all(), vector
            longest = max(longest, float(exact[0]))
    assert longest > 0.8 * claimed[0]  # and the claim is no fancy figure


def test_three_dimensions_and_two_releases() -> None:
    """(1, 1, 1) in norm √3, once; and two releases of two weights, which is a vector of four."""
    levels = 2
    for vector in ((1, 1, 1), (2, 0, 0)):
        claimed = accountant.delta([use(0.7, levels, 3)], 0.5)
        assert exact_delta(vector, (0.7 * levels) ** 2, np.array([0.5]))[0] <= claimed
    twice = accountant.delta([use(1.0, 1, 2, count=2)], 0.5)
    assert exact_delta((1, 1), 1.0, np.array([0.5]))[0] <= twice


@pytest.mark.parametrize(("z", "levels"), [(1.0, 2), (0.5, 5), (2.0, 3)])
def test_control_a_smaller_step_is_refuted(z: float, levels: int) -> None:
    """Counting the noise as a Gaussian of 2 % more, or without the correction for the grid, claims too much."""
    epsilons = np.linspace(0, 3, 40)
    vector = (1, 1)
    exact = exact_delta(vector, (z * levels) ** 2, epsilons)
    plain = z * levels / math.sqrt(2)
    for multiplier in (plain * 1.02, plain):
        claimed = np.array([accountant._delta_of_parts((accountant._Part(multiplier, 1.0, 1),), e) for e in epsilons])
        assert (exact > claimed).any()
    honest = plain / (gaussian_step((z * levels) ** 2) * z * levels)
    claimed = np.array([accountant._delta_of_parts((accountant._Part(honest, 1.0, 1),), e) for e in epsilons])
    assert (exact <= claimed * (1 + 1e-9)).all()


def test_the_equivalent_multiplier() -> None:
    assert equivalent_multiplier(use(3.0, 1000)) == pytest.approx(3.0, rel=1e-7)
    assert equivalent_multiplier(use(3.0, 1000)) < 3.0
    assert equivalent_multiplier(use(0.5, 16)) == pytest.approx(0.5 / (1 + 1 / (3 * 64)))
    with pytest.raises(ContractError, match="variance below"):
        equivalent_multiplier(use(0.005, 16))
    with pytest.raises(ContractError, match="levels"):
        equivalent_multiplier(use(3.0, 16).model_copy(update={"levels": None}))
