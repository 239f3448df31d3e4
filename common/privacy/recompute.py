"""A second accountant, to check the first. Owns formulas and numerics of its own; nothing here decides a release.

* Gaussian releases without sampling: the closed form of Balle and Wang, solved here.
* Sampled Gaussians: Opacus' PRV accountant.
* Skellam releases: the exact distribution of the privacy loss when one device's vector points along one axis (or is
  spread evenly, where that costs more), composed by Fourier transforms. It knows nothing of the argument by which the
  ledger's accountant covers all directions, so agreement supports both: it can only lie below, and hardly does.
  ``rdp_epsilon`` is the bound from the other side, by the published theorem, 6 to 10 % above.

**Source:** Balle and Wang 2018, "Improving the Gaussian mechanism", Theorem 8; Koskela, Jälkö, Honkela 2020,
"Computing tight differential privacy guarantees using FFT"; Gopi, Lee, Wutschitz 2021 (PRV, in Opacus); Agarwal,
Kairouz, Liu 2021 (Rényi bound).
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ive, log_ndtr, ndtri

from common.errors import ContractError
from common.privacy import rdp
from common.privacy.parameters import MechanismUse
from common.privacy.top_m import TopM
from common.taxonomy import Mechanism

FloatArray = npt.NDArray[np.float64]

_MULTIPLIER_MIN = 0.15  # below it a shift leaves the range in which Bessel functions are above 1e-300
_POINTS_PER_ROOT = 3200  # per √(number of releases): keeps the error of the grid below 1e-5 of the variance
_POINTS_MAX = 1 << 23
_WINDOW_STDDEVS = 24.0
_SERIES_ABOVE = 1e4
_FINE_GRID_VARIANCE = 1e4  # above it all directions cost the same to four digits


class _Loss(NamedTuple):
    """Privacy loss of one release: values with their probabilities."""

    values: FloatArray
    probabilities: FloatArray


def recompute_epsilon(uses: Sequence[MechanismUse], delta: float) -> float:
    """ε of all uses together at ``delta``, by other formulas than the ledger's accountant.

    Args:
        uses: like releases; order does not matter.
        delta: in (0, 1).

    Returns:
        ε, within 1 % of the accountant's if both are right; infinity when any release had no noise.

    Raises:
        ContractError: sampled releases beside integer noise, which no document of ours declares, or a bad ``delta``.
    """
    if uses and all(use.mechanism is Mechanism.TOP_M for use in uses) and 0 <= delta < 1:
        return math.fsum(use.count * _largest_ratio(use) for use in uses)  # at δ = 0; above it, no more than that
    if not 0 < delta < 1 and (uses or delta != 0):
        raise ContractError("delta lies between 0 and 1")
    if not uses:
        return 0.0
    if any(not use.protects for use in uses):
        return math.inf
    counts: Counter[MechanismUse] = Counter()
    for use in uses:
        counts[use.model_copy(update={"count": 1})] += use.count
    sampled = any(use.mechanism is Mechanism.POISSON_SUBSAMPLED_GAUSSIAN and use.sampling_rate < 1 for use in counts)
    integer = any(use.mechanism is Mechanism.SKELLAM for use in counts)
    if sampled and integer:
        raise ContractError("sampled releases beside integer noise are not accounted for")
    if sampled:
        return _prv(counts, delta)
    if not integer:
        return _gaussian_epsilon(math.sqrt(math.fsum(n / use.noise_multiplier**2 for use, n in counts.items())), delta)
    return max(_skellam_epsilon(counts, delta, spread=spread) for spread in (False, True))


def rdp_epsilon(uses: Sequence[MechanismUse], delta: float) -> float:
    """An upper bound on ε of Skellam and unsampled Gaussian releases by Rényi divergences, for comparison.

    Raises:
        ContractError: another mechanism.
    """
    moment = np.zeros_like(rdp.ORDERS)
    for use in uses:
        if use.mechanism is Mechanism.SKELLAM and use.levels and use.dimension:
            moment += use.count * rdp.skellam_moment(use.noise_multiplier, use.levels, use.dimension)
        elif use.mechanism is Mechanism.GAUSSIAN:
            moment += use.count * rdp.gaussian_moment(use.noise_multiplier)
        else:
            raise ContractError("the Rényi bound is for Skellam and unsampled Gaussian noise")
    return rdp.epsilon_of_moment(moment, delta) if uses else 0.0


def steps(variance: float) -> FloatArray:
    """g(j + 1) - g(j) for j = -1, 0, 1 … of Skellam noise: what ``domination.gaussian_step`` bounds.

    By symmetry the negative side is the same. It ends where the noise has mass below 1e-60 beyond.
    """
    order = np.arange(math.ceil(40 * math.sqrt(variance) + 400), dtype=np.float64)
    probabilities = np.exp(_log_probability(order, variance))
    beyond = np.cumsum(probabilities[::-1])[::-1]  # P[K ≥ j]
    beyond[0] = 0.5 + probabilities[0] / 2
    return np.asarray(np.diff(-ndtri(beyond[beyond > 1e-60])), np.float64)


# ── randomised response ──────────────────────────────────────────────────────────────────────────────────────────────


def _largest_ratio(use: MechanismUse) -> float:
    """The largest logarithm of a ratio between two answers' probabilities, from the weights that are drawn with."""
    high, low = TopM(candidates=use.candidates or 0, chosen=use.chosen or 0, epsilon=use.epsilon or 0).weights
    return math.log(high) - math.log(low)


# ── Gaussian ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _gaussian_epsilon(shift: float, delta: float) -> float:
    """ε between unit Gaussians ``shift`` apart: Φ(m/2 - ε/m) - e^ε·Φ(-m/2 - ε/m) = δ."""

    def excess(epsilon: float) -> float:
        upper = float(log_ndtr(shift / 2 - epsilon / shift))
        lower = epsilon + float(log_ndtr(-shift / 2 - epsilon / shift))
        return upper + math.log(-math.expm1(lower - upper)) - math.log(delta) if lower < upper else -math.inf

    high = shift * shift / 2 + shift * math.sqrt(2 * math.log(2 / delta)) + 1
    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(lambda epsilon: max(excess(epsilon), -1e3), 0.0, high, xtol=1e-12))


def _prv(counts: Counter[MechanismUse], delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    for use, count in counts.items():
        rate = use.sampling_rate if use.mechanism is Mechanism.POISSON_SUBSAMPLED_GAUSSIAN else 1.0
        accountant.history.append((use.noise_multiplier, rate, count))
    with np.errstate(divide="ignore"):  # at the ends of its grid it takes the logarithm of 0, as it should
        rough = float(accountant.get_epsilon(delta))
        return rough if rough > 3 else float(accountant.get_epsilon(delta, eps_error=max(1e-3, rough / 300)))


# ── Skellam ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _skellam_epsilon(counts: Counter[MechanismUse], delta: float, *, spread: bool) -> float:
    """ε along one direction: a device's whole length in one coordinate, or spread over as many as there are."""
    gaussian = 0.0
    losses: list[tuple[_Loss, int]] = []
    for use, count in counts.items():
        variance = (use.noise_multiplier * (use.levels or 1)) ** 2
        if use.mechanism is Mechanism.GAUSSIAN or (use.noise_multiplier < _MULTIPLIER_MIN and variance < _SERIES_ABOVE):
            gaussian += count / use.noise_multiplier**2
        elif use.mechanism is Mechanism.SKELLAM and use.levels and use.dimension:
            even = spread and variance < _FINE_GRID_VARIANCE
            shift = max(1, math.ceil(use.levels / math.sqrt(use.dimension))) if even else use.levels
            losses.append((_loss(variance, shift), count * min(use.dimension, (use.levels // shift) ** 2)))
    if not losses:
        return _gaussian_epsilon(math.sqrt(gaussian), delta)
    return _composed_epsilon(losses, gaussian, delta)


@functools.lru_cache(maxsize=64)
def _loss(variance: float, shift: int) -> _Loss:
    """The loss log p(k)/p(k - shift) with its probabilities p(k), for noise p of this variance."""
    reach = math.ceil(12 * math.sqrt(variance)) + 30 + shift
    log_p = _log_probability(np.arange(reach + shift + 1, dtype=np.float64), variance)
    k = np.arange(-reach, reach + 1)
    kept = log_p[np.abs(k)] > -80
    k = k[kept]
    here, there = log_p[np.abs(k)], log_p[np.abs(k - shift)]
    return _Loss(here - there, np.exp(here))


def _log_probability(k: FloatArray, variance: float) -> FloatArray:
    """Logarithm of the Skellam probability e^-μ·I_k(μ), k ≥ 0; -690 stands for anything less.

    Large variances take two terms of the uniform expansion of the Bessel function (DLMF 10.41.3), exact to 1e-9.
    """
    if variance < _SERIES_ABOVE:
        return np.asarray(np.log(np.maximum(ive(k, variance), 1e-300)), np.float64)
    root = np.hypot(k, variance)
    exponent = k * k / (root + variance) - k * np.arcsinh(k / variance)
    correction = np.log1p((3 / root - 5 * k * k / root**3) / 24)
    return np.asarray(exponent - 0.5 * np.log(2 * math.pi * root) + correction, np.float64)


def _composed_epsilon(losses: Sequence[tuple[_Loss, int]], gaussian: float, delta: float) -> float:
    """ε of independent losses, each so many times, and Gaussian releases with Σ n/z² = ``gaussian``."""
    means = [float(np.dot(loss.values, loss.probabilities)) for loss, _ in losses]
    variances = [
        float(np.dot((loss.values - mean) ** 2, loss.probabilities))
        for (loss, _), mean in zip(losses, means, strict=True)
    ]
    total = math.fsum(n * mean for (_, n), mean in zip(losses, means, strict=True)) + gaussian / 2
    stddev = math.sqrt(math.fsum(n * v for (_, n), v in zip(losses, variances, strict=True)) + gaussian)
    wanted = _POINTS_PER_ROOT * math.sqrt(sum(n for _, n in losses))
    points = min(_POINTS_MAX, 1 << math.ceil(math.log2(max(wanted, 1 << 14))))
    widest = max(float(np.abs(loss.values - mean).max()) for (loss, _), mean in zip(losses, means, strict=True))
    width = max(_WINDOW_STDDEVS * stddev, 2.1 * widest) / points
    spectrum = np.exp(-0.5 * gaussian * (2 * math.pi * np.fft.rfftfreq(points, width)) ** 2).astype(np.complex128)
    for (loss, count), mean in zip(losses, means, strict=True):
        spectrum *= np.fft.rfft(_on_grid(loss, mean, width, points)) ** count
    masses = np.maximum(np.fft.fftshift(np.fft.irfft(spectrum, points)), 0.0)
    values = total + width * (np.arange(points) - points // 2)
    return _epsilon_of_losses(np.asarray(values, np.float64), np.asarray(masses, np.float64), delta)


def _on_grid(loss: _Loss, mean: float, width: float, points: int) -> FloatArray:
    """Probabilities on a periodic grid around the mean; each value is shared between its neighbours, means kept."""
    place = (loss.values - mean) / width
    below = np.floor(place)
    upper = place - below
    index = below.astype(np.int64)
    masses = np.bincount(index % points, loss.probabilities * (1 - upper), points)
    masses += np.bincount((index + 1) % points, loss.probabilities * upper, points)
    return np.asarray(masses, np.float64)


def _epsilon_of_losses(values: FloatArray, masses: FloatArray, delta: float) -> float:
    """The ε with E[(1 - e^(ε - loss))⁺] = δ."""
    kept = values > 0
    values, masses = values[kept], masses[kept]

    def excess(epsilon: float) -> float:
        above = np.searchsorted(values, epsilon)
        return float(np.dot(-np.expm1(epsilon - values[above:]), masses[above:])) - delta

    if not values.size or excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, float(values[-1]), xtol=1e-10))
