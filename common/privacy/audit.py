"""Statistics of a privacy audit. Owns the tests that may falsify a claimed (ε, δ); runs no mechanism, draws nothing.

A test here can only ever *falsify* a claim: passing is no proof. Each states the probability with which it rejects a
true claim, and what it would have seen (``power``).

Source: Dong, Roth, Su 2022, "Gaussian differential privacy" (trade-off curves); Nasr et al. 2023, "Tight auditing of
differentially private machine learning" (threshold on one half, Clopper-Pearson on the other; μ-GDP lower bounds).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, gammaincc, gammainccinv, gammaincinv, log_ndtr, ndtr, ndtri

FloatArray = npt.NDArray[np.float64]

# Where the claimed curve is sampled. Fewer points only make the test less strict, never wrong.
CURVE_DELTAS: Final = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
THRESHOLDS: Final = 61
# The point is chosen on half of the scores, so the test does a little worse than at the best point of the curve.
_CHOSEN_WELL: Final = 0.99


@dataclass(frozen=True, slots=True)
class ClaimedCurve:
    """Points (ε, δ) that all hold at once, by the claim: float64 ``[P]`` each; ε may be infinite."""

    epsilons: FloatArray
    deltas: FloatArray

    @property
    def usable(self) -> ClaimedCurve:
        """Points with a finite ε below 50; beyond, e^ε times any probability we can measure is vacuous."""
        finite = self.epsilons < 50
        return ClaimedCurve(self.epsilons[finite], self.deltas[finite])

    def true_positives_max(self, false_positives: FloatArray) -> FloatArray:
        """The highest true-positive rate that the claim allows at each false-positive rate, both ``[N]``."""
        curve = self.usable
        factor, delta = np.exp(curve.epsilons)[:, None], curve.deltas[:, None]
        rate = np.asarray(false_positives, np.float64)[None, :]
        swapped = 1 - np.maximum(0, (1 - rate - delta) / factor)
        bounds = np.concatenate([factor * rate + delta, swapped, np.ones_like(rate)])
        return np.asarray(np.clip(bounds.min(axis=0), 0, 1), np.float64)


def claimed_curve(epsilon_of: Callable[[float], float], deltas: tuple[float, ...] = CURVE_DELTAS) -> ClaimedCurve:
    """The curve as the accountant under audit states it: ε at every δ of ``deltas``."""
    found = [epsilon_of(delta) for delta in deltas]
    # (ε, δ) with ε = 0 holds from its δ upwards: later points with ε = 0 add nothing.
    zeros = found.index(0.0) + 1 if 0.0 in found else len(found)
    return ClaimedCurve(np.array(found[:zeros], np.float64), np.array(deltas[:zeros], np.float64))


def gaussian_delta(mu: float, epsilon: float) -> float:
    """δ(ε) of a Gaussian mechanism with sensitivity ÷ deviation = μ (Balle and Wang 2018, theorem 8)."""
    if mu <= 0:
        return 0.0
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """ε at δ of a μ-GDP mechanism, by bisection to 1e-9; 0 when δ alone covers it."""
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1
    while high - low > 1e-9 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(mu, middle) > delta else (low, middle)
    return high


def rate_low(hits: FloatArray, trials: int, error: float) -> FloatArray:
    """Clopper-Pearson lower bound of a rate, wrong with probability at most ``error``."""
    some = np.maximum(hits, 1.0)
    return np.where(hits > 0, betaincinv(some, trials - some + 1, error), 0.0)


def rate_high(hits: FloatArray, trials: int, error: float) -> FloatArray:
    """Clopper-Pearson upper bound of a rate, wrong with probability at most ``error``."""
    few = np.minimum(hits, trials - 1.0)
    return np.where(hits < trials, betaincinv(few + 1, trials - few, 1 - error), 1.0)


@dataclass(frozen=True, slots=True)
class CurveVerdict:
    """What the f-DP test found.

    Attributes:
        margin: lower confidence bound of TPR - e^ε·FPR - δ at the chosen point; positive falsifies the claim.
        epsilon: and ``delta``: the point of the claimed curve that was tried.
        true_positives_low: and ``false_positives_high``: confidence bounds of the two rates.
        runs: scores judged, with and without the canary together (the other half chose the point).
        error_probability: of rejecting a true claim.
    """

    margin: float
    epsilon: float
    delta: float
    true_positives_low: float
    false_positives_high: float
    runs: int
    error_probability: float

    @property
    def falsified(self) -> bool:
        """Whether the claim cannot stand."""
        return self.margin > 0


def curve_test(present: FloatArray, absent: FloatArray, claim: ClaimedCurve, *, error: float = 0.01) -> CurveVerdict:
    """The f-DP test: along the whole claimed curve, both directions and both signs of the score.

    Args:
        present: independent scores of runs with the canary, ``[n]``.
        absent: of runs without it, ``[m]``.
        claim: what is claimed.
        error: probability of rejecting a true claim; halved between the two Clopper-Pearson bounds (99.5 % each at
            the default).

    Returns:
        The verdict on the second half of the scores, at the point that looked worst in the first.
    """
    claim = claim.usable
    if not claim.epsilons.size:
        return CurveVerdict(-1.0, math.inf, 0.0, 0.0, 1.0, len(present) + len(absent), error)
    (first_in, second_in), (first_out, second_out) = _halves(present), _halves(absent)
    tried = _thresholds(first_in, first_out)
    promising = _margins(*_rates(first_in, first_out, tried, 0.5), claim)
    slack = promising - _margins(*_rates(first_in, first_out, tried, error / 2), claim)
    event, point = np.unravel_index(int((promising / np.maximum(slack, 1e-9)).argmax()), slack.shape)
    low, high = _rates(second_in, second_out, tried, error / 2)
    judged = ClaimedCurve(claim.epsilons[point : point + 1], claim.deltas[point : point + 1])
    margin = _margins(low[event : event + 1], high[event : event + 1], judged)[0, 0]
    return CurveVerdict(
        margin=float(margin),
        epsilon=float(judged.epsilons[0]),
        delta=float(judged.deltas[0]),
        true_positives_low=float(low[event]),
        false_positives_high=float(high[event]),
        runs=len(second_in) + len(second_out),
        error_probability=error,
    )


@dataclass(frozen=True, slots=True)
class AuditedEpsilon:
    """Lower bounds of ε at ``delta``, each true with probability 1 - ``error_probability`` whatever was claimed.

    Attributes:
        distribution_free: from two rates alone; weak by nature: 2n runs can show no more than about ln n.
        gaussian: if the mechanism's trade-off curve is that of a Gaussian; close to the truth when it is.
    """

    distribution_free: float
    gaussian: float
    delta: float
    error_probability: float


def audited_epsilon(present: FloatArray, absent: FloatArray, delta: float, *, error: float = 0.05) -> AuditedEpsilon:
    """Lower bounds of ε from scores with (``[n]``) and without (``[m]``) the canary."""
    (first_in, second_in), (first_out, second_out) = _halves(present), _halves(absent)
    tried = _thresholds(first_in, first_out)

    def free(low: FloatArray, high: FloatArray) -> FloatArray:
        return np.asarray(np.log(np.maximum(low - delta, 1e-300)) - np.log(np.maximum(high, 1e-300)), np.float64)

    def separation(low: FloatArray, high: FloatArray) -> FloatArray:
        return np.asarray(ndtri(np.clip(low, 1e-12, 1 - 1e-12)) - ndtri(np.clip(high, 1e-12, 1 - 1e-12)), np.float64)

    # Each bound has its own two rates: together they are wrong with probability at most ``error``.
    chosen = _rates(first_in, first_out, tried, error / 4)
    judged = _rates(second_in, second_out, tried, error / 4)
    plain = free(*judged)[int(free(*chosen).argmax())]
    mu = separation(*judged)[int(separation(*chosen).argmax())]
    return AuditedEpsilon(max(0.0, float(plain)), gaussian_epsilon(float(mu), delta), delta, error)


@dataclass(frozen=True, slots=True)
class VarianceVerdict:
    """What the noise-variance test found.

    Attributes:
        ratio: measured over declared variance.
        ratio_low: and ``ratio_high``: the ratios that a true claim stays within but with ``error_probability``.
        p_value: two-sided.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    p_value: float
    coordinates: int
    error_probability: float

    @property
    def falsified(self) -> bool:
        """Whether the noise is not what is declared: less breaks the claim, more breaks the description of it."""
        return not self.ratio_low <= self.ratio <= self.ratio_high


def variance_test(residuals: FloatArray, stddev: float, *, error: float = 1e-3) -> VarianceVerdict:
    """Chi-square test that the noise has the declared standard deviation.

    Args:
        residuals: repeated runs on the same data, float64 ``[runs, coordinates]``; their means are taken off.
        stddev: declared, in the same units.
        error: probability of rejecting a true claim.
    """
    centred = residuals - residuals.mean(axis=0)
    freedom = (residuals.shape[0] - 1) * residuals.shape[1]
    total = float(np.square(centred).sum()) / stddev**2
    low, high = (2 * gammaincinv(freedom / 2, error / 2) / freedom, 2 * gammainccinv(freedom / 2, error / 2) / freedom)
    above = float(gammaincc(freedom / 2, total / 2))
    return VarianceVerdict(
        ratio=total / freedom,
        ratio_low=float(low),
        ratio_high=float(high),
        p_value=2 * min(above, 1 - above),
        coordinates=freedom,
        error_probability=error,
    )


def curve_power(mu: float, claim: ClaimedCurve, runs: int, *, error: float = 0.01) -> float:
    """Probability, about, that ``curve_test`` catches a Gaussian mechanism of separation ``mu`` at the best point.

    Args:
        mu: what the mechanism really is: canary shift over deviation of its noise.
        claim: what is claimed.
        runs: scores with the canary, and as many without; half of them judge.
        error: as of ``curve_test``.
    """
    claim, half = claim.usable, max(runs // 2, 2)
    cuts = np.linspace(-4, 4 + min(mu, 40), 401)
    hit, wrong = ndtr(mu - cuts), ndtr(-cuts)
    low, high = rate_low(hit * half, half, error / 2), rate_high(wrong * half, half, error / 2)
    deviations = [np.sqrt(np.maximum(rate * (1 - rate), 1 / half) / half)[:, None] for rate in (hit, wrong)]
    spread = np.hypot(deviations[0], np.exp(claim.epsilons) * deviations[1])
    return float(ndtr(_margins(low, high, claim) / spread).max())


def detectable_noise(mu: float, claim: ClaimedCurve, runs: int, *, error: float = 0.01) -> float:
    """The largest share of the declared noise that ``curve_test`` still catches with probability 0.9, about."""
    low, high = 0.01, 1.0
    if curve_power(mu / low, claim, runs, error=error) < _CHOSEN_WELL:
        return 0.0
    while high - low > 0.005:
        middle = (low + high) / 2
        good = curve_power(mu / middle, claim, runs, error=error) >= _CHOSEN_WELL
        low, high = (middle, high) if good else (low, middle)
    return low


def detectable_variance(coordinates: int, *, error: float = 1e-3, power: float = 0.9) -> float:
    """The relative error of the noise deviation that ``variance_test`` sees with probability ``power``."""
    return float((-ndtri(error / 2) + ndtri(power)) * math.sqrt(2 / coordinates) / 2)


def _halves(scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Every other score: neighbours come from one run, so both halves see every run."""
    return scores[::2], scores[1::2]


def _thresholds(present: FloatArray, absent: FloatArray) -> FloatArray:
    """Cuts at quantiles of all scores, denser at the ends, ``[T]``."""
    levels = ndtr(np.linspace(-3.2, 3.2, THRESHOLDS))
    return np.asarray(np.unique(np.quantile(np.concatenate([present, absent]), levels)), np.float64)


def _rates(present: FloatArray, absent: FloatArray, cuts: FloatArray, error: float) -> tuple[FloatArray, FloatArray]:
    """Bounds (true positives low, false positives high), ``[4T]`` each: two signs, then the two directions."""
    above_in = len(present) - np.searchsorted(np.sort(present), cuts, side="right")
    above_out = len(absent) - np.searchsorted(np.sort(absent), cuts, side="right")
    n, m = len(present), len(absent)
    seen_in = np.concatenate([above_in, n - above_in]).astype(np.float64)
    seen_out = np.concatenate([above_out, m - above_out]).astype(np.float64)
    low = np.concatenate([rate_low(seen_in, n, error), rate_low(seen_out, m, error)])
    high = np.concatenate([rate_high(seen_out, m, error), rate_high(seen_in, n, error)])
    return low, high


def _margins(low: FloatArray, high: FloatArray, claim: ClaimedCurve) -> FloatArray:
    """TPR - e^ε·FPR - δ of every event and every point of the curve, ``[E, P]``."""
    return np.asarray(low[:, None] - np.exp(claim.epsilons) * high[:, None] - claim.deltas, np.float64)
