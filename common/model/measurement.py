"""Small vectors a device releases beside updates: calibration, the clip bit, feature histograms. Owns their layouts.

Like an evaluation (``common.model.evaluation``), each is a few sums over one device's examples times public factors
that make its L2 norm at most about 1, the clipping norm such a release is meant to have. Pure: nothing is noised here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from common.errors import OneClassData, ShapeMismatch, SpecMismatch
from common.model.evaluation import Estimate, Values, Vector, example_weight
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.model.sizes import CALIBRATION_LENGTH, histogram_length

CALIBRATION_POSITIVES: Final = 10.0
_SUM, _RESIDUAL = 0.3, 0.3
_QUANTILE: Final = 1.959964
_SHIFT_MAX: Final = 3.0


@dataclass(frozen=True, slots=True)
class BiasCorrection:
    """How a model's log-odds are to be moved so that in each view its mean prediction is the rate of positives.

    Attributes:
        shift: to be added to the log-odds of the personal view.
        ratio: rate ÷ mean prediction of that view as it was: what the shift mends.
        contextual_shift, contextual_ratio: the same for the contextual view.
    """

    shift: Estimate
    ratio: Estimate
    contextual_shift: Estimate
    contextual_ratio: Estimate


def calibration_vector(
    probabilities: Values, labels: Values, *, base_rate: float, contextual: Values | None = None
) -> Vector:
    """One device's sums Σp, Σ(y-p), Σ(y-c) and Σp(1-p), float64 ``[4]``; zeros for a device without examples.

    Σ(y-p) rather than Σy: it is the figure that matters, it is small where the model is near right, and so it gets a
    large factor within the same norm. Devices are weighted as in an evaluation, up to ``CALIBRATION_POSITIVES``.

    Args:
        probabilities: predictions p ``[n]`` of the personal view on the examples trained on.
        labels: outcomes y ``[n]`` in {0, 1}.
        base_rate: the model's public base rate.
        contextual: predictions c ``[n]`` of the contextual view; the personal ones where a model has one view.

    Raises:
        ShapeMismatch: not one label per prediction.
    """
    contextual = probabilities if contextual is None else contextual
    if not probabilities.shape == contextual.shape == labels.shape or probabilities.ndim != 1:
        raise ShapeMismatch("calibration needs one label per prediction")
    p, c, y = (np.asarray(column, np.float64) for column in (probabilities, contextual, labels))
    sums = np.array([p.sum(), (y - p).sum(), (y - c).sum(), (p * (1 - p)).sum()])
    return np.asarray(example_weight(len(p), base_rate, CALIBRATION_POSITIVES) * _calibration_factors() * sums)


def bias_correction(total: Vector, *, noise_stddev: float) -> BiasCorrection:
    """The shifts of both views from the noisy sum of all devices' vectors.

    With κ = Σp(1-p) ÷ Σp, the mean prediction grows like exp(κ·shift), so shift = ln(ratio) ÷ κ. The contextual view
    takes the personal view's κ: its predictions are less spread, so its own lies between that and 1. On completejourney
    (1,844 devices, five seeds, user-level ε from 1 to ∞ with everything), mean prediction ÷ rate in later weeks was
    0.98 in the personal and 1.01 to 1.04 in the contextual view, from 0.87 to 0.99 and 0.79 to 1.03 before.

    Args:
        total: float64 ``[4]``.
        noise_stddev: standard deviation of the noise on each coordinate.

    Raises:
        ShapeMismatch: a sum of another layout.
        OneClassData: the noise hides the predictions themselves.

    **Privacy:** post-processing of a release that was paid for.
    """
    if total.shape != (CALIBRATION_LENGTH,):
        raise ShapeMismatch(f"a calibration has {CALIBRATION_LENGTH} numbers")
    predicted, residual, contextual_residual, curvature = total / _calibration_factors()
    contextual_predicted = predicted + residual - contextual_residual
    if min(predicted, contextual_predicted) <= 0:
        raise OneClassData("too few devices for this noise: the predictions cannot be told from none")
    noise = noise_stddev / _calibration_factors()
    slope = min(max(curvature / predicted, 0.05), 1.0)
    slope_noise = noise[3] / predicted
    # The contextual ratio is (Σp + Σ(y-p)) ÷ contextual_predicted, so the noise of its residual is in both parts of it.
    rate_noise = math.hypot(noise[0], noise[1])
    in_both = noise[2] * (predicted + residual) / contextual_predicted
    return BiasCorrection(
        *_shift(predicted, residual, slope, (noise[0], noise[1], slope_noise)),
        *_shift(contextual_predicted, contextual_residual, slope, (rate_noise, in_both, slope_noise)),
    )


def _shift(
    predicted: float, residual: float, slope: float, noise: tuple[float, float, float]
) -> tuple[Estimate, Estimate]:
    """Shift and ratio of one view; ``noise`` is the standard deviation of each of the three."""
    ratio = max(1 + residual / predicted, math.exp(-_SHIFT_MAX))
    spread = math.hypot(noise[1], (ratio - 1) * noise[0]) / predicted
    shift = min(max(math.log(ratio) / slope, -_SHIFT_MAX), _SHIFT_MAX)
    wide = math.hypot(spread / ratio, math.log(ratio) * noise[2] / slope) / slope
    return _around(shift, wide), _around(ratio, spread)


def clip_bit(norm: float, clipping_norm: float) -> Vector:
    """One half if a device's update was within the clip, minus one half if not, float64 ``[1]``.

    The share of devices within is the noisy sum over devices ÷ their number + 1/2. Its own clipping norm is 0.5.
    **Source:** Andrew et al. 2021, algorithm 1.
    """
    return np.array([0.5 if norm <= clipping_norm else -0.5])


def histogram_vector(examples: Examples, spec: FeatureSpec) -> Vector:
    """One device's share of examples per feature bucket, float64 ``[table_rows]``; zeros without examples.

    Every field's shares add up to 1 ÷ √fields, so the L2 norm is at most 1 and every device counts alike. Numeric
    features have no buckets and are not in it.

    Raises:
        SpecMismatch: examples of another specification.
    """
    if examples.spec_digest != spec.digest:
        raise SpecMismatch("the examples were made by another feature specification")
    counts = np.bincount(examples.categorical.reshape(-1), minlength=histogram_length(spec))
    scale = len(examples) * math.sqrt(max(len(spec.categorical), 1))
    return counts / scale if scale else np.zeros(histogram_length(spec))


@dataclass(frozen=True, slots=True)
class FieldHistogram:
    """Shares of one field's buckets, averaged over devices, float64 ``[buckets]``; noise may make one negative.

    Attributes:
        stddev: of the noise on every share.
    """

    shares: Vector
    stddev: float


def read_histogram(
    total: Vector, spec: FeatureSpec, *, devices: int, noise_stddev: float
) -> Mapping[str, FieldHistogram]:
    """Histograms by field name from the noisy sum over ``devices`` devices.

    Raises:
        ShapeMismatch: a sum of another layout.

    **Privacy:** post-processing of a release that was paid for.
    """
    if total.shape != (histogram_length(spec),):
        raise ShapeMismatch(f"a histogram of {spec.name} has {histogram_length(spec)} numbers")
    scale = math.sqrt(max(len(spec.categorical), 1)) / max(devices, 1)
    parts = np.split(total * scale, spec.offsets[1:])
    return {
        field.name: FieldHistogram(part, noise_stddev * scale)
        for field, part in zip(spec.categorical, parts, strict=False)
    }


def _calibration_factors() -> Vector:
    per_positive = 1 / CALIBRATION_POSITIVES
    total, residual = _SUM * per_positive, _RESIDUAL * math.sqrt(per_positive)
    return np.array([total, residual, residual, total])


def _around(value: float, stddev: float) -> Estimate:
    return Estimate(value, value - _QUANTILE * stddev, value + _QUANTILE * stddev)
