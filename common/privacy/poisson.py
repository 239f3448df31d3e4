"""Poisson numbers from given uniforms. Owns the two samplers; owns no randomness.

Small means are inverted through a table of the distribution function; larger ones use Hörmann's transformed rejection
with its squeeze (PTRS), over whole blocks at once. The acceptance test works with deviance and Stirling's series, so
that its error stays below 1e-9 up to the largest mean; log-gamma differences would lose four digits at 1e9.

What a float sampler cannot do: uniforms have 52 bits. Up to a mean of 1e8 the probability of an outcome is right to
1e-11 of itself, which over 2^17 weights and 20 rounds moves ε by at most 1e-4; outcomes less likely than 2^-45 of the
likeliest, beyond 8 standard deviations, are drawn coarsely or not at all. How long a draw takes depends on the numbers
drawn, never on the data they are added to.

**Source:** Hörmann 1993, "The transformed rejection method for generating Poisson random variables", algorithm PTRS;
Loader 2000, "Fast and accurate computation of binomial probabilities" (deviance form).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
MEAN_MAX = 2.0**50

_TABLE_BELOW = 20.0  # PTRS is proved from 10 upwards
_SERIES_ABOVE = 1e4  # the series of Stirling's error is exact to 1e-16 for counts near such a mean
_BLOCK = 1 << 14  # draws at a time: their dozen arrays stay in the processor's cache


def poisson(uniform: Callable[[int], FloatArray], mean: float, count: int) -> IntArray:
    """``count`` independent Poisson numbers, int64 ``[count]``.

    Args:
        uniform: n -> n independent uniforms on the open interval (0, 1).
        mean: at least 0, at most ``MEAN_MAX``.
        count: how many.

    Raises:
        ValueError: the mean is out of range.
    """
    if not 0 <= mean <= MEAN_MAX:
        raise ValueError("a Poisson mean lies between 0 and 2^50")
    if mean == 0:
        return np.zeros(count, np.int64)
    draw = _Table(mean) if mean < _TABLE_BELOW else _Rejection(mean)
    drawn = np.empty(count, np.int64)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        drawn[start:stop] = draw(uniform, stop - start)
    return drawn


class _Table:
    """Inversion: the smallest k whose distribution function reaches the uniform."""

    def __init__(self, mean: float) -> None:
        counts = np.arange(math.ceil(mean + 20 * math.sqrt(mean) + 40))
        self._cumulative = np.cumsum(np.exp(counts * math.log(mean) - mean - gammaln(counts + 1)))
        self._cumulative[-1] = 1.0

    def __call__(self, uniform: Callable[[int], FloatArray], count: int) -> IntArray:
        return np.searchsorted(self._cumulative, uniform(count), side="left").astype(np.int64)


class _Rejection:
    """PTRS: a point under a table-mountain hat, most of which lies surely under the distribution too."""

    def __init__(self, mean: float) -> None:
        self._mean = mean
        self._b = 0.931 + 2.53 * math.sqrt(mean)
        self._a = -0.059 + 0.02483 * self._b
        self._log_hat = math.log(1.1239 + 1.1328 / (self._b - 3.4))
        self._squeeze = 0.9277 - 3.6224 / (self._b - 2)

    def __call__(self, uniform: Callable[[int], FloatArray], count: int) -> IntArray:
        accepted = [np.empty(0, np.int64)]
        missing = count
        while missing > 0:
            found = self._propose(uniform, missing + missing // 5 + 16)
            accepted.append(found[:missing])
            missing -= accepted[-1].size
        return np.concatenate(accepted)

    def _propose(self, uniform: Callable[[int], FloatArray], count: int) -> IntArray:
        """Try ``count`` times; the numbers that were accepted, in order."""
        both = uniform(2 * count)
        u, v = both[:count] - 0.5, both[count:]
        edge = 0.5 - np.abs(u)
        k = np.floor((2 * self._a / edge + self._b) * u + self._mean + 0.43)
        accepted = (edge >= 0.07) & (v <= self._squeeze)
        unsure = np.flatnonzero(~accepted & (k >= 0) & ((edge >= 0.013) | (v <= edge)))
        e = edge[unsure]
        log_v = np.log(v[unsure]) + self._log_hat - np.log(self._a / (e * e) + self._b)
        accepted[unsure] = log_v <= self._log_probability(k[unsure])
        return k[accepted].astype(np.int64)

    def _log_probability(self, k: FloatArray) -> FloatArray:
        mean = self._mean
        if mean < _SERIES_ABOVE:
            return np.asarray(k * math.log(mean) - mean - gammaln(k + 1), np.float64)
        k = np.maximum(k, 1.0)  # 0 has probability e^-10000: any value says "reject"
        x = (k - mean) / mean
        deviance = mean * ((1 + x) * np.log1p(x) - x)
        stirling = 1 / (12 * k) - 1 / (360 * k**3)
        return np.asarray(-deviance - stirling - 0.5 * np.log(2 * math.pi * k), np.float64)
