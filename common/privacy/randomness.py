"""The only source of randomness for privacy. Owns the keyed generator behind every noise and every sampling decision.

Uniforms are odd multiples of 2^-53 (52 keystream bits and a half), hence never 0 or 1; Gaussians are their inverse
normal distribution to a relative 1e-6; their tails end at ±8.2 standard deviations (2^-52 a draw, below any δ in use).
Floating-point noise has the weakness of Mironov (CCS 2012): updates are rounded to a fixed grid after the noise
(``common.privacy.updates.GRID``), which narrows it. Secure aggregation adds integer Skellam noise, which has none of
it (``common.privacy.poisson`` says what remains). Never use torch's, numpy's or random's generators in a mechanism.
"""

from __future__ import annotations

import hashlib
import math
import os

import numpy as np
import numpy.typing as npt

from common.crypto.keystream import KEY_BYTES, Keystream
from common.privacy.gaussians import Floats, fill
from common.privacy.poisson import poisson

FloatArray = npt.NDArray[np.float64]
SEEDED_LABEL = "seeded generator: simulation and tests only"
SECURE_LABEL = "ChaCha20 keyed by the operating system"


def _count(shape: int | tuple[int, ...]) -> int:
    return shape if isinstance(shape, int) else math.prod(shape)


class NoiseSource:
    """Draws from a ChaCha20 keystream. Use ``SecureNoise`` or ``SimulationNoise``; neither can be copied or pickled.

    Attributes:
        label: where the randomness comes from, in words that go into every privacy statement.
        simulation: True if anybody can repeat the draws; a trainer refuses such a source outside simulations.
    """

    label: str
    simulation: bool

    def __init__(self, key: bytes) -> None:
        self._stream = Keystream(key)

    def uniform(self, shape: int | tuple[int, ...]) -> FloatArray:
        """Independent uniforms on the open interval (0, 1), float64 ``shape``."""
        count = _count(shape)
        bits = np.frombuffer(self._read(8 * count), "<u8") >> np.uint64(12)
        return ((bits.astype(np.float64) + 0.5) * 2.0**-52).reshape(shape)

    def gaussian(self, shape: int | tuple[int, ...]) -> FloatArray:
        """Independent standard Gaussians, float64 ``shape``, one per 8 bytes (``common.privacy.gaussians``)."""
        drawn = np.empty(_count(shape))
        self.gaussian_into(drawn, 1.0)
        return drawn.reshape(shape)

    def gaussian_into(self, result: Floats, scale: float) -> None:
        """Overwrite ``result`` ``[n]`` with ``scale`` times the next n draws; the quick way to float32."""
        fill(self._read, result, scale)

    def poisson(self, mean: float, shape: int | tuple[int, ...]) -> npt.NDArray[np.int64]:
        """Independent Poisson numbers, int64 ``shape``.

        Raises:
            ValueError: the mean is negative, not finite, or above 2^50.
        """
        count = _count(shape)
        return poisson(self.uniform, mean, count).reshape(shape)

    def skellam(self, variance: float, shape: int | tuple[int, ...]) -> npt.NDArray[np.int64]:
        """Independent symmetric Skellam numbers of this variance, int64 ``shape``: differences of two Poissons.

        Sums of independent Skellam numbers are Skellam, their variances adding up.

        Raises:
            ValueError: the variance is negative, not finite, or above 2^51.
        """
        both = self.poisson(variance / 2, (2, _count(shape)))
        return np.asarray(both[0] - both[1], np.int64).reshape(shape)

    def below(self, bound: int) -> int:
        """A whole number from 0 to ``bound`` - 1, each exactly as likely: 64-bit words, rejected where they would tilt.

        Raises:
            ValueError: the bound is not between 1 and 2^63.
        """
        if not 1 <= bound <= 1 << 63:
            raise ValueError("the bound lies between 1 and 2^63")
        even = (1 << 64) - (1 << 64) % bound
        while (word := int.from_bytes(self._read(8), "little")) >= even:
            pass
        return word % bound

    def bernoulli(self, probability: float, count: int) -> npt.NDArray[np.bool_]:
        """Independent secret coins, bool ``[count]``: a Poisson sample of ``count`` records.

        Those of ``uniform(count) < probability``, decided on the bits.
        """
        bits = np.frombuffer(self._read(8 * count), "<u8")
        # (b >> 12) + 1/2 < p · 2^52, where the left side is below 2^52.
        bound = math.ceil(min(max(probability, 0.0), 1.0) * 2.0**52 - 0.5)
        return bits >> np.uint64(12) < np.uint64(bound)

    def _read(self, size_bytes: int) -> bytes:
        return self._stream.read(size_bytes)

    def __reduce__(self) -> str:
        raise TypeError("a noise source cannot be copied or pickled: two copies would draw the same noise")


class SecureNoise(NoiseSource):
    """Keyed by the operating system; a forked process gets a key of its own, or both would draw the same noise."""

    label = SECURE_LABEL
    simulation = False

    def __init__(self) -> None:
        super().__init__(os.urandom(KEY_BYTES))
        self._process = os.getpid()

    def _read(self, size_bytes: int) -> bytes:
        if os.getpid() != self._process:
            self._stream, self._process = Keystream(os.urandom(KEY_BYTES)), os.getpid()
        return super()._read(size_bytes)


class SimulationNoise(NoiseSource):
    """Keyed by a public seed: repeatable, hence no protection at all. Says so wherever it is named.

    Args of the constructor:
        seed: any integer.
        path: what the stream is for (node, round …); streams of different paths are unrelated.
    """

    label = SEEDED_LABEL
    simulation = True

    def __init__(self, seed: int, *path: int | str) -> None:
        name = "\x1f".join(f"{type(part).__name__}:{part}" for part in (seed, *path))
        super().__init__(hashlib.blake2b(name.encode(), digest_size=KEY_BYTES, person=b"reticent-seeded").digest())
