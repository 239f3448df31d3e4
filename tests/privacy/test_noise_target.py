"""The noise in every sum that the protocol accepts is at least the declared one; builds that add less are caught.

Two tests: exact arithmetic over every roster and set of survivors, and the variance of sums that were really added up.

The statistical test uses n = 30,000 sums of the shares of the fewest honest survivors, a chi-square test of their
variance against the target, one-sided, and rejects a build that meets the target exactly with probability 1e-9. Noise
whose standard deviation is 5 % too small is missed with probability below 1e-9 (``test_power``).
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, norm, skellam

from common.privacy.distributed import noise_share
from common.privacy.parameters import CohortParameters, UserDpParameters
from common.privacy.randomness import NoiseSource, SimulationNoise
from common.privacy.updates import ClippedUpdate

ALPHA = 1e-9
SUMS = 30_000
ROSTER = 12
COHORT = CohortParameters(devices_min=3, devices_max=4096, dropout_fraction_max=0.3, corrupt_fraction_max=0.17)
SURVIVORS, CORRUPT, HONEST = 9, 2, 7
PARAMETERS = UserDpParameters(clipping_norm=0.5, noise_multiplier=1.5, levels=200)
Build = Callable[[ClippedUpdate, UserDpParameters, CohortParameters, int, NoiseSource], np.ndarray]


def honest(
    update: ClippedUpdate, parameters: UserDpParameters, cohort: CohortParameters, roster: int, rng: NoiseSource
) -> np.ndarray:
    return noise_share([(update, parameters)], cohort, roster, rng).vector


def scaled(factor: float) -> Build:
    """A build whose share has ``factor`` times the deviation."""

    def build(
        update: ClippedUpdate, parameters: UserDpParameters, cohort: CohortParameters, roster: int, rng: NoiseSource
    ) -> np.ndarray:
        wrong = parameters.model_copy(update={"noise_multiplier": parameters.noise_multiplier * factor})
        return noise_share([(update, wrong)], cohort, roster, rng).vector

    return build


def from_a_free_sensitivity(
    update: ClippedUpdate, parameters: UserDpParameters, cohort: CohortParameters, roster: int, rng: NoiseSource
) -> np.ndarray:
    """σ = z · (norm of this very update) instead of z · C."""
    sensitivity = float(np.linalg.norm(update.vector)) / parameters.grid
    variance = (parameters.noise_multiplier * sensitivity) ** 2 / cohort.honest_min(roster)
    whole = np.rint(update.vector / parameters.grid).astype(np.int64)
    return np.asarray(whole + rng.skellam(variance, update.vector.size))


def in_model_units(
    update: ClippedUpdate, parameters: UserDpParameters, cohort: CohortParameters, roster: int, rng: NoiseSource
) -> np.ndarray:
    """σ = z · C where it should be in units of the grid."""
    variance = parameters.noise_stddev**2 / cohort.honest_min(roster)
    whole = np.rint(update.vector / parameters.grid).astype(np.int64)
    return np.asarray(whole + rng.skellam(variance, update.vector.size))


def sums(build: Build, contributors: int = HONEST) -> np.ndarray:
    """Noise of ``SUMS`` coordinates of one sum: vectors on the grid, so that rounding adds nothing."""
    vector = np.zeros(SUMS)
    vector[:100] = 15 * PARAMETERS.grid  # norm 150 of 200 levels
    update = ClippedUpdate(vector, PARAMETERS.clipping_norm)
    parts = [build(update, PARAMETERS, COHORT, ROSTER, SimulationNoise(3, i)) for i in range(contributors)]
    return np.asarray(np.sum(parts, axis=0) - contributors * np.rint(vector / PARAMETERS.grid), np.float64)


def p_too_small(noise: np.ndarray) -> float:
    """p-value of the hypothesis that the variance is at least the target. The kurtosis of this noise is 1e-5 off."""
    return float(chi2.cdf((noise**2).sum() / PARAMETERS.noise_variance_levels, noise.size))


def test_the_cohort_of_these_tests() -> None:
    found = (COHORT.survivors_min(ROSTER), COHORT.corrupt_max(ROSTER), COHORT.honest_min(ROSTER))
    assert found == (SURVIVORS, CORRUPT, HONEST)


@given(
    roster=st.integers(3, 4096),
    dropout=st.floats(0, 0.49),
    corrupt=st.floats(0, 0.3),
    data=st.data(),
    z=st.floats(0.1, 100),
    levels=st.integers(16, 1 << 20),
)
def test_every_accepted_set_of_survivors_meets_the_target(
    roster: int, dropout: float, corrupt: float, data: st.DataObject, z: float, levels: int
) -> None:
    cohort = COHORT.model_copy(update={"dropout_fraction_max": dropout, "corrupt_fraction_max": corrupt})
    if cohort.honest_min(roster) < 1:
        return
    parameters = UserDpParameters(clipping_norm=1.0, noise_multiplier=z, levels=levels)
    survivors = data.draw(st.integers(cohort.survivors_min(roster), roster))
    colluding = data.draw(st.integers(0, cohort.corrupt_max(roster)))
    added = (survivors - colluding) * parameters.share_variance(cohort.honest_min(roster))
    assert added >= (z * levels) ** 2 * (1 - 1e-12)
    assert math.sqrt(added) * parameters.grid >= parameters.noise_stddev * (1 - 1e-12)
    assert survivors >= roster * (1 - dropout) - 1e-6
    assert colluding <= roster * corrupt + 1e-6


def test_the_fewest_honest_survivors_add_exactly_the_target() -> None:
    noise = sums(honest)
    assert p_too_small(noise) > ALPHA
    assert 1 - p_too_small(noise) > ALPHA
    assert abs(noise.mean()) < norm.isf(ALPHA / 2) * noise.std() / math.sqrt(SUMS)


@pytest.mark.parametrize("contributors", [8, SURVIVORS, ROSTER])
def test_more_survivors_add_more(contributors: int) -> None:
    noise = sums(honest, contributors)
    assert p_too_small(noise) > ALPHA
    assert (noise**2).mean() / PARAMETERS.noise_variance_levels == pytest.approx(contributors / HONEST, rel=0.06)


@pytest.mark.parametrize(
    "build",
    [
        scaled(0.0),
        scaled(0.5),
        scaled(0.95),
        scaled(math.sqrt(HONEST / ROSTER)),
        scaled(math.sqrt(HONEST / SURVIVORS)),
        scaled(1 / math.sqrt(2)),
        from_a_free_sensitivity,
        in_model_units,
    ],
    ids=[
        "off", "half", "5 percent", "not inflated for dropout", "not inflated for the corrupt", "one Poisson, not two",
        "free sensitivity", "wrong units",
    ],
)  # fmt: skip
def test_control_too_little_noise_is_caught(build: Build) -> None:
    assert p_too_small(sums(build)) < ALPHA


def test_one_survivor_fewer_than_accepted_is_caught() -> None:
    assert p_too_small(sums(honest, HONEST - 1)) < ALPHA


def test_power() -> None:
    missed = 1 - chi2.cdf(chi2.ppf(ALPHA, SUMS) / 0.95**2, SUMS)
    assert missed < 1e-9


def test_a_share_is_integer_noise_of_the_right_law() -> None:
    """At a variance of 0.7 a rounded float Gaussian has another law; n = 200,000, rejected by chance once in 1e9.

    The cells -4 … 4; the rounded Gaussian's variance is 12 % larger, so it is missed with probability below 1e-9.
    """
    coarse = UserDpParameters(clipping_norm=1.0, noise_multiplier=0.1, levels=22)
    variance = coarse.share_variance(HONEST)
    assert variance == pytest.approx(0.69, abs=0.01)
    update = ClippedUpdate(np.zeros(200), 1.0)
    source = SimulationNoise(5)
    drawn = np.concatenate([honest(update, coarse, COHORT, ROSTER, source) for _ in range(1000)])
    rounded = np.rint(math.sqrt(variance) * source.gaussian(200_000)).astype(np.int64)
    assert fit(drawn, variance) > ALPHA
    assert fit(rounded, variance) < ALPHA


def fit(sample: np.ndarray, variance: float) -> float:
    cells = np.arange(-4, 5)
    expected = sample.size * skellam.pmf(cells, variance / 2, variance / 2)
    found = np.array([(sample == cell).sum() for cell in cells])
    return float(chi2.sf(((found - expected) ** 2 / expected).sum(), cells.size))
