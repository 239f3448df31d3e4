"""Poisson and Skellam numbers: moments and goodness of fit from tiny to huge means. Controls show what is rejected.

Each test of fit draws n = 400,000 numbers and rejects a sound source with probability 1e-9. A variance wrong by 5 %
shifts the statistic by 475 where 130 suffices, so it is missed with probability below 1e-9; so do the other controls.
"""

import math
import time

import numpy as np
import pytest
from scipy import stats
from scipy.special import ive

from common.privacy.poisson import MEAN_MAX, _Rejection, poisson
from common.privacy.randomness import NoiseSource, SecureNoise, SimulationNoise

DRAWS = 400_000
ALPHA = 1e-9
VARIANCES = [0.05, 0.5, 3.0, 38.0, 41.0, 100.0, 6e4, 1.99e4, 2.01e4, 1e6, 1e9]


def skellam_cells(variance: float, cells: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Upper edges (inclusive) of equally likely cells and their probabilities, by scipy or Bessel functions."""
    reach = math.ceil(9 * math.sqrt(variance) + 30)
    k = np.arange(-reach, reach + 1)
    pmf = stats.skellam.pmf(k, variance / 2, variance / 2) if variance < 1e4 else ive(np.abs(k).astype(float), variance)
    cumulative = np.cumsum(pmf)
    assert cumulative[-1] == pytest.approx(1, abs=1e-9)
    edges = np.unique(np.searchsorted(cumulative, np.arange(1, cells) / cells))
    edges = edges[(DRAWS * np.diff(np.concatenate([[0.0], cumulative[edges]])) > 20)]
    return k[edges], np.diff(np.concatenate([[0.0], cumulative[edges], [1.0]]))


def misfit(sample: np.ndarray, variance: float) -> float:
    """p-value of a chi-square test against symmetric Skellam of this variance."""
    edges, probabilities = skellam_cells(variance)
    found = np.bincount(np.searchsorted(edges, sample), minlength=probabilities.size)
    return float(stats.chisquare(found, sample.size * probabilities / probabilities.sum()).pvalue)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("source", [SimulationNoise(7), SecureNoise()], ids=["seeded", "secure"])
def test_skellam_fits(source: NoiseSource, variance: float) -> None:
    sample = source.skellam(variance, DRAWS)
    assert sample.dtype == np.int64
    assert misfit(sample, variance) > ALPHA


@pytest.mark.parametrize("variance", VARIANCES)
def test_moments(variance: float) -> None:
    """Mean, variance and fourth moment within 6.1 standard errors: rejected by chance once in 1e9 each."""
    sample = SimulationNoise(8).skellam(variance, DRAWS).astype(np.float64)
    limit = stats.norm.isf(ALPHA / 2)
    fourth = variance + 3 * variance**2
    assert abs(sample.mean()) < limit * math.sqrt(variance / DRAWS)
    assert abs((sample**2).mean() - variance) < limit * math.sqrt((fourth - variance**2) / DRAWS)
    eighth_stddev = (sample**4).std()
    assert abs((sample**4).mean() - fourth) < 1.5 * limit * eighth_stddev / math.sqrt(DRAWS)


@pytest.mark.parametrize("mean", [0.01, 1.0, 19.9, 20.1, 350.0, 9.9e3, 1.01e4, 1e6])
def test_poisson_fits_scipy(mean: float) -> None:
    sample = SimulationNoise(9).poisson(mean, DRAWS)
    grid = np.unique(stats.poisson.ppf(np.arange(1, 40) / 40, mean).astype(int))
    probabilities = np.diff(np.concatenate([[0.0], stats.poisson.cdf(grid, mean), [1.0]]))
    found = np.bincount(np.searchsorted(grid, sample), minlength=probabilities.size)
    assert stats.chisquare(found, DRAWS * probabilities).pvalue > ALPHA


@pytest.mark.parametrize("variance", [0.5, 30.0, 100.0])
def test_control_wrong_noise_is_rejected(variance: float) -> None:
    source = SimulationNoise(10)
    assert misfit(source.skellam(variance * 0.95, DRAWS), variance) < ALPHA
    assert misfit(source.skellam(variance * 1.05, DRAWS), variance) < ALPHA
    assert misfit(source.poisson(variance, DRAWS) - round(variance), variance) < ALPHA
    assert misfit(np.zeros(DRAWS, np.int64), variance) < ALPHA


@pytest.mark.parametrize("variance", [0.05, 0.5, 3.0])
def test_control_a_rounded_float_gaussian_is_no_skellam(variance: float) -> None:
    rounded = np.rint(math.sqrt(variance) * SimulationNoise(11).gaussian(DRAWS)).astype(np.int64)
    assert misfit(rounded, variance) < ALPHA


@pytest.mark.parametrize("contributors", [3, 10])
def test_sums_of_shares_are_skellam(contributors: int) -> None:
    total = sum(SimulationNoise(12, i).skellam(30.0 / contributors, DRAWS) for i in range(contributors))
    assert misfit(np.asarray(total), 30.0) > ALPHA
    short = sum(SimulationNoise(12, i).skellam(30.0 / contributors, DRAWS) for i in range(contributors - 1))
    assert misfit(np.asarray(short), 30.0) < ALPHA


@pytest.mark.parametrize("mean", [5.0, 25.0, 1e5])
def test_tails_are_drawn(mean: float) -> None:
    """P[|K| > 4σ] in n = 2,000,000 Skellam numbers, against the exact tail; 6.1 standard errors, error 1e-9."""
    variance, draws = 2 * mean, 2_000_000
    edge = math.floor(4 * math.sqrt(variance))
    k = np.arange(edge + 1, edge * 4 + 60)
    tail = 2 * float(ive(k.astype(float), variance).sum())
    found = int((np.abs(SimulationNoise(13).skellam(variance, draws)) > edge).sum())
    assert abs(found - draws * tail) < stats.norm.isf(ALPHA / 2) * math.sqrt(draws * tail) + 1


def test_acceptance_uses_an_exact_probability() -> None:
    """The deviance form against log-gamma where both are exact, and against the deviance identity where only it is."""
    k = np.arange(19_000.0, 21_000.0)
    np.testing.assert_allclose(_Rejection(2e4)._log_probability(k), stats.poisson.logpmf(k, 2e4), atol=1e-8)
    near = _Rejection(1e9)._log_probability(np.array([1e9, 1e9 + 1e5]))
    assert near[0] == pytest.approx(-0.5 * math.log(2 * math.pi * 1e9), abs=1e-9)
    # x = 1e-4: deviance is 1e9·(x²/2 - x³/6 + x⁴/12), written out
    assert near[1] - near[0] == pytest.approx(-(5.0 - 1e9 * 1e-12 / 6 + 1e9 * 1e-16 / 12) - 5e-5, abs=1e-8)


def test_shapes_seeds_and_edges() -> None:
    assert SimulationNoise(1).skellam(9.0, (2, 3)).shape == (2, 3)
    assert SimulationNoise(1).skellam(9.0, 0).shape == (0,)
    assert not SimulationNoise(1).skellam(0.0, 5).any()
    assert np.array_equal(SimulationNoise(1).skellam(9e5, 40_000), SimulationNoise(1).skellam(9e5, 40_000))
    assert not np.array_equal(SimulationNoise(1).skellam(9e5, 9), SimulationNoise(2).skellam(9e5, 9))
    assert abs(int(SimulationNoise(1).poisson(MEAN_MAX, 1)[0]) / MEAN_MAX - 1) < 1e-6


@pytest.mark.parametrize("mean", [-1.0, math.nan, math.inf, 2 * MEAN_MAX])
def test_a_mean_out_of_range_is_refused(mean: float) -> None:
    with pytest.raises(ValueError, match="Poisson mean"):
        poisson(lambda n: np.full(n, 0.5), mean, 3)


def test_speed() -> None:
    """Of the order of 0.1 µs of processor time a draw; the bound leaves room for a slow, shared machine."""
    source, best = SimulationNoise(1), math.inf
    for _ in range(3):
        start = time.process_time()
        source.skellam(6e4, 1 << 17)
        best = min(best, time.process_time() - start)
    assert best / (1 << 17) < 1e-6
