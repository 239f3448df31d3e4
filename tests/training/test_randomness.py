"""The noise source: its stream, its distributions, its keys. Controls show that each test can reject."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import kstest, norm

from common.crypto.keystream import Keystream
from common.privacy.randomness import SEEDED_LABEL, NoiseSource, SecureNoise, SimulationNoise

# Each test of a distribution: n = 200,000 draws, Kolmogorov-Smirnov, rejects a sound source with probability 1e-9.
# A deviation wrong by 5 % (distance 0.0124 against a threshold of 0.0073) is missed with probability below 1e-4.
DRAWS = 200_000
ALPHA = 1e-9


class FixedBytes(NoiseSource):
    """A source whose stream is one byte for ever: the corners of the uniform."""

    def __init__(self, byte: int) -> None:
        super().__init__(bytes(32))
        self._byte = byte

    def _read(self, size_bytes: int) -> bytes:
        return bytes([self._byte]) * size_bytes


def test_keystream_is_chacha20() -> None:
    """RFC 8439, appendix A.1, test vector 1 (and 2: the next block)."""
    stream = Keystream(bytes(32))
    first, second = stream.read(16), stream.read(48 + 16)[48:]
    assert first.hex() == "76b8e0ada0f13d90405d6ae55386bd28"
    assert second.hex() == "9f07e7be5551387a98ba977c732d080d"


def test_keystream_wants_a_whole_key() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keystream(bytes(16))


@pytest.mark.parametrize(("byte", "extreme"), [(0x00, 2.0**-53), (0xFF, 1 - 2.0**-53)])
def test_uniform_is_never_0_or_1_and_gaussian_always_finite(byte: int, extreme: float) -> None:
    source = FixedBytes(byte)
    assert source.uniform(3).tolist() == [extreme] * 3
    assert abs(source.gaussian(1)[0]) == pytest.approx(8.21, abs=0.01)


def test_extremes_are_symmetric() -> None:
    assert FixedBytes(0xFF).gaussian(1)[0] == pytest.approx(-FixedBytes(0x00).gaussian(1)[0], rel=1e-12)


@pytest.mark.parametrize("source", [SimulationNoise(7), SecureNoise()], ids=["seeded", "secure"])
def test_gaussian_is_gaussian_and_uniform_uniform(source: NoiseSource) -> None:
    assert kstest(source.gaussian(DRAWS), "norm").pvalue > ALPHA
    assert kstest(source.uniform(DRAWS), "uniform").pvalue > ALPHA


@pytest.mark.parametrize("scale", [0.0, 0.5, 0.95])
def test_control_a_wrong_deviation_is_rejected(scale: float) -> None:
    assert kstest(scale * SimulationNoise(7).gaussian(DRAWS), "norm").pvalue < ALPHA


def standardised_correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float((first * second).sum() / np.sqrt(first.size))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (SecureNoise(), SecureNoise()),
        (SimulationNoise(1), SimulationNoise(2)),
        (SimulationNoise(1, "node", 0), SimulationNoise(1, "node", 1)),
        (SimulationNoise(1), SimulationNoise(1, "1")),
        (SimulationNoise(1, 1), SimulationNoise(1, "1")),
    ],
)
def test_sources_are_independent(first: NoiseSource, second: NoiseSource) -> None:
    """n = 200,000: |t| > 6.1 has probability 1e-9."""
    assert abs(standardised_correlation(first.gaussian(DRAWS), second.gaussian(DRAWS))) < norm.isf(ALPHA / 2)


def test_control_one_key_used_twice_is_seen() -> None:
    first, second = SimulationNoise(3, "round", 1), SimulationNoise(3, "round", 1)
    assert standardised_correlation(first.gaussian(DRAWS), second.gaussian(DRAWS)) > 100


def test_successive_draws_go_on_in_one_stream() -> None:
    whole, parts = SimulationNoise(5).uniform(10), SimulationNoise(5)
    assert np.array_equal(whole, np.concatenate([parts.uniform(3), parts.uniform((7,))]))
    assert SimulationNoise(5).gaussian((2, 3)).shape == (2, 3)
    assert SimulationNoise(5).gaussian(0).shape == (0,)


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_bernoulli_hits_its_rate(rate: float) -> None:
    """n = 200,000 coins; 6.1 standard errors: rejected by chance once in 1e9. A rate 20 % off 0.01 lies 9 off."""
    found = SimulationNoise(8).bernoulli(rate, DRAWS).mean()
    assert abs(found - rate) <= norm.isf(ALPHA / 2) * np.sqrt(rate * (1 - rate) / DRAWS)


@pytest.mark.parametrize("rate", [0.0, 2.0**-53, 2.0**-52, 1e-300, 0.01, 1 / 3, 0.5, 1 - 2.0**-53, 1.0])
def test_coins_are_those_of_the_uniforms(rate: float) -> None:
    """Decided on the bits: the same draws, corners included."""
    coins = SimulationNoise(9).bernoulli(rate, 10_000)
    assert np.array_equal(coins, SimulationNoise(9).uniform(10_000) < rate)
    for byte in (0x00, 0x7F, 0x80, 0xFF):
        assert FixedBytes(byte).bernoulli(rate, 2).tolist() == (FixedBytes(byte).uniform(2) < rate).tolist()


@pytest.mark.parametrize("source", [SecureNoise(), SimulationNoise(1)])
def test_a_source_cannot_be_copied(source: NoiseSource) -> None:
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="same noise"):
            duplicate(source)


def test_labels_tell_seeded_from_secure() -> None:
    assert SimulationNoise(1).label == SEEDED_LABEL == "seeded generator: simulation and tests only"
    assert SimulationNoise(1).simulation
    assert "seeded" not in SecureNoise().label
    assert not SecureNoise().simulation


FORK = """
import os
from common.privacy.randomness import SecureNoise, SimulationNoise
for source in (SecureNoise(), SimulationNoise(1)):
    source.uniform(1)
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, repr(source.uniform(1)[0].item()).encode())
        os._exit(0)
    os.wait()
    print(float(os.read(read, 100)) == source.uniform(1)[0].item())
"""


def test_a_forked_process_draws_its_own_noise() -> None:
    """The seeded source is the control: there, parent and child do draw the same."""
    result = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True, timeout=240)
    assert result.stdout.split() == ["False", "True"]
