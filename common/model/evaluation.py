"""Model quality from one noisy sum over devices. Owns the layout of a device's evaluation vector and how a sum is read.

Layout, ``4 + 2·bins`` coordinates (``sizes.evaluation_length``), each a sum over the device's held-out examples times
one public factor:

    0 examples   1 log loss   2 predictions   3 positives   then positives per bin, then negatives per bin

A device whose examples promise more than ``EXPECTED_POSITIVES`` positives at the public base rate is weighted down to
that many, by its number of examples alone, so that neither one heavy device nor a device's outcomes decide its weight.
The factors make a typical vector's L2 norm about 0.4 and 8 % of vectors longer than 1, which is meant to be the
release's clipping norm. They were chosen on completejourney's held-out weeks (1,712 devices, 0.9 % positives, AUC
0.850), where noise multiplier 4 and 8 bins give, in standard errors by noise and bias by weights, clipping and bins:

    AUC 0.011 (bias -0.005)      log loss 2.7 % (bias +0.5 %)      mean prediction ÷ rate 3 % (bias +3 %)

Errors by noise grow with the multiplier and fall with the number of devices; more bins cost more than they tell: 12
bins a third more error of the AUC, 6 a third less. At 315 devices and multiplier 2 (fewest survivors, all of them
present), 8 bins give the AUC an error of 0.06 and 6 bins 0.04 (three seeds, exact AUC 0.849 to 0.854, bias below 0.01
either way): a reading of 0.72 was once had of a model whose exact AUC on the same rows was 0.847. Intervals cover the
exact figure in 88 to 98 of 100 repetitions. Whoever has many positives is clipped, so that the rate is read a little
low; a larger factor on positives would halve the error again, and read calibration 5 % too high.

Bins are equally wide on the log-odds scale around the base rate: public, the same for every model, and wide enough
(``_SPAN``) for models of any calibration met so far; whatever lies beyond falls into the outermost bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from common.errors import OneClassData, ShapeMismatch
from common.model.sizes import evaluation_length

Vector = npt.NDArray[np.float64]
Values = npt.NDArray[np.floating]

EXPECTED_POSITIVES: Final = 3.0
_COUNT, _MEAN, _POSITIVE, _NEGATIVE = (
    0.3,
    0.3,
    0.5,
    1.0,
)  # factors of examples and loss, of 2 and 3, of either histogram
_SPAN: Final = (-2.5, 3.5)
_DRAWS: Final = 1000
_QUANTILE: Final = 1.959964  # of the normal distribution, for 95 %
_TINY: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, which covers the noise and, for the AUC, the draw of examples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a noisy sum says about a model.

    Attributes:
        auc: area under the ROC curve, of all devices' examples pooled.
        log_loss: mean per example, nats.
        prediction_mean, rate: mean predicted probability, and share of positives.
        calibration: ``prediction_mean / rate``; 1 is right.
    """

    auc: Estimate
    log_loss: Estimate
    prediction_mean: Estimate
    rate: Estimate
    calibration: Estimate


def log_odds(probability: Values | float) -> Vector:
    """ln(p / (1 - p)), finite at 0 and 1."""
    p = np.clip(np.asarray(probability, np.float64), _TINY, 1 - _TINY)
    return np.asarray(np.log(p) - np.log1p(-p), np.float64)


def bin_edges(bins: int, base_rate: float) -> Vector:
    """The inner edges of the histograms, on the log-odds scale, float64 ``[bins - 1]``."""
    return log_odds(base_rate) + np.linspace(*_SPAN, bins - 1)


def evaluation_vector(probabilities: Values, labels: Values, bins: int, *, base_rate: float) -> Vector:
    """One device's vector, float64 ``[4 + 2·bins]``; zeros for a device without examples. Not clipped yet.

    Args:
        probabilities: predictions ``[n]``.
        labels: outcomes ``[n]`` in {0, 1}.
        bins: of either histogram, a public figure of the policy.
        base_rate: the model's public base rate.

    Raises:
        ShapeMismatch: not one label per prediction.
    """
    if probabilities.shape != labels.shape or probabilities.ndim != 1:
        raise ShapeMismatch("evaluation needs one label per prediction")
    p = np.clip(np.asarray(probabilities, np.float64), _TINY, 1 - _TINY)
    y = np.asarray(labels, np.float64)
    place = np.searchsorted(bin_edges(bins, base_rate), log_odds(p), side="right")
    loss = -(y * np.log(p) + (1 - y) * np.log1p(-p)).sum()
    positives, negatives = (np.bincount(place, weights, bins) for weights in (y, 1 - y))
    sums = np.concatenate([[len(p), loss, p.sum(), y.sum()], positives, negatives])
    return np.asarray(example_weight(len(p), base_rate, EXPECTED_POSITIVES) * _factors(bins, base_rate) * sums)


def example_weight(examples: int, base_rate: float, expected_positives: float) -> float:
    """The weight of each example of a device with so many: 1, or less where they promise more positives than wanted."""
    return min(1.0, expected_positives / (base_rate * examples)) if examples else 0.0


def read_evaluation(total: Vector, *, bins: int, base_rate: float, noise_stddev: float) -> Evaluation:
    """Quality figures from the noisy sum of all devices' vectors.

    Args:
        total: float64 ``[4 + 2·bins]``.
        bins: as the devices had them.
        base_rate: likewise.
        noise_stddev: standard deviation of the noise on each coordinate of ``total``.

    Raises:
        ShapeMismatch: a sum of another layout.
        OneClassData: the noise hides that there are examples of both outcomes.

    **Privacy:** post-processing of a release that was paid for.
    """
    if total.shape != (evaluation_length(bins),):
        raise ShapeMismatch(f"an evaluation of {bins} bins has {evaluation_length(bins)} numbers")
    factors = _factors(bins, base_rate)
    found = _figures((total / factors)[None], bins)[:, 0]
    if not np.isfinite(found).all():
        raise OneClassData("too few devices for this noise: examples of both outcomes cannot be told from none")
    noise = np.random.default_rng(0).standard_normal((_DRAWS, total.size)) * noise_stddev
    spread = np.nanstd(_figures((total + noise) / factors, bins), axis=1)
    positives, examples = total[3] / factors[3], total[0] / factors[0]
    spread[0] = math.hypot(spread[0], _auc_sampling_stddev(found[0], positives, examples - positives))
    auc, log_loss, mean, rate, ratio = (_around(x, s) for x, s in zip(found, spread, strict=True))
    return Evaluation(Estimate(auc.value, auc.low, min(auc.high, 1.0)), log_loss, mean, rate, ratio)


def _factors(bins: int, base_rate: float) -> Vector:
    """The public factor of every coordinate: counts of positives in units of those expected, others likewise."""
    entropy = -base_rate * math.log(base_rate) - (1 - base_rate) * math.log1p(-base_rate)
    per_example, per_positive = base_rate / EXPECTED_POSITIVES, 1 / EXPECTED_POSITIVES
    head = [_COUNT * per_example, _COUNT * per_example / entropy, _MEAN * per_positive, _MEAN * per_positive]
    return np.array(head + [_POSITIVE * per_positive] * bins + [_NEGATIVE * per_example] * bins, np.float64)


def _figures(sums: Vector, bins: int) -> Vector:
    """AUC, log loss, mean prediction, rate and calibration ``[5, draws]`` of sums ``[draws, 4 + 2·bins]``."""
    examples, loss, predicted, positive = (np.where(sums[:, i] > 0, sums[:, i], np.nan) for i in range(4))
    ups, downs = sums[:, 4 : 4 + bins], sums[:, 4 + bins :]
    pairs = ups.sum(1) * downs.sum(1)
    pairs = np.where((ups.sum(1) > 0) & (downs.sum(1) > 0), pairs, np.nan)
    below = np.cumsum(downs, axis=1) - downs / 2
    # Within an inner bin of width h, calibrated predictions order a pair right with probability 1/2 + h/12.
    width = (_SPAN[1] - _SPAN[0]) / (bins - 2)
    auc = ((ups * below).sum(1) + (ups[:, 1:-1] * downs[:, 1:-1]).sum(1) * width / 12) / pairs
    mean, rate = predicted / examples, positive / examples
    return np.stack([np.clip(auc, 0, 1), loss / examples, mean, rate, mean / rate])


def _auc_sampling_stddev(auc: float, positives: float, negatives: float) -> float:
    """Standard error of an AUC by the draw of examples. **Source:** Hanley and McNeil 1982."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    p, n = max(positives, 1.0), max(negatives, 1.0)
    variance = auc * (1 - auc) + (p - 1) * (q1 - auc**2) + (n - 1) * (q2 - auc**2)
    return math.sqrt(max(variance, 0.0) / (p * n))


def _around(value: float, stddev: float) -> Estimate:
    """None of these figures is negative."""
    return Estimate(float(value), max(0.0, float(value - _QUANTILE * stddev)), float(value + _QUANTILE * stddev))
