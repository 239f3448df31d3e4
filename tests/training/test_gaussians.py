"""The fast inverse of the normal distribution function is ``ndtri``, whatever the sizes of the calls."""

import io

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import kstest

from common.privacy.gaussians import BLOCK, fill, gaussians
from common.privacy.randomness import SimulationNoise


def test_it_is_ndtri_of_the_same_uniforms() -> None:
    """n = 2,000,000 draws and every power of two towards both ends."""
    found = gaussians(SimulationNoise(1)._read, 2_000_000)
    expected = ndtri(SimulationNoise(1).uniform(2_000_000))
    assert np.abs(found / expected - 1).max() < 1e-6
    far = np.abs(expected) > 3
    assert far.sum() > 1000
    np.testing.assert_array_equal(found[far], expected[far])


def from_upper_bits(bits: np.ndarray) -> np.ndarray:
    words = (bits.astype(np.uint64) << np.uint64(12)).astype("<u8").tobytes()
    return gaussians(io.BytesIO(words).read, len(bits))


def test_corners_are_finite_odd_and_ordered() -> None:
    near = np.array([0, 1, 2, 3, *(2**k for k in range(2, 52))])
    low, high = from_upper_bits(near), from_upper_bits(2**52 - 1 - near)
    np.testing.assert_allclose(low, -high, rtol=1e-12)
    np.testing.assert_allclose(low, ndtri((near + 0.5) * 2.0**-52), rtol=1e-6)
    assert low[0] == pytest.approx(-8.21, abs=0.01)
    grid = np.unique(np.linspace(0, 2**52 - 1, 200_001).astype(np.int64))
    assert (np.diff(from_upper_bits(grid)) > 0).all()  # across the seams between middle and tails, too


def test_the_sizes_of_calls_do_not_matter() -> None:
    one, many = SimulationNoise(2), SimulationNoise(2)
    whole = gaussians(one._read, 2 * BLOCK + 77)
    parts = [gaussians(many._read, size) for size in (1, 1000, BLOCK, BLOCK - 924)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert gaussians(one._read, 0).shape == (0,)


@pytest.mark.parametrize("scale", [-0.013, 2.5])
def test_float32_is_the_same_draws_scaled(scale: float) -> None:
    """Over a block's end, tails included; float64 is exact."""
    expected = scale * gaussians(SimulationNoise(4)._read, BLOCK + 5000)
    single, double = np.empty(expected.size, np.float32), np.empty(expected.size)
    fill(SimulationNoise(4)._read, single, scale)
    fill(SimulationNoise(4)._read, double, scale)
    assert np.abs(single / expected - 1).max() < 1e-6
    np.testing.assert_allclose(double, expected, rtol=1e-15)


def test_it_is_gaussian() -> None:
    """n = 200,000, Kolmogorov-Smirnov at 1e-9; a deviation 5 % off is missed with probability below 1e-4."""
    drawn = gaussians(SimulationNoise(3)._read, 200_000)
    assert kstest(drawn, "norm").pvalue > 1e-9
    assert kstest(0.95 * drawn, "norm").pvalue < 1e-9
