"""The vector that a device releases about its placements. Owns contribution bounds, factors and the order of cells.

Every cell is a bounded count of one device and one day. Each metric of each cut is scaled by a public factor so that
the whole vector has L2 norm at most 1 whatever happened on the device: a block whose counts have norm at most B within
the bounds gets the factor √share ÷ B, and all shares add up to 1. Clipping to 1 therefore never changes an honest
vector, and noise on the sum is read back as noise on counts.

**Privacy:** the bounds make the clip harmless; the guarantee rests on the clip (``common.privacy.clipping``) alone.
**Source:** contribution bounding as in Google's differential-privacy library and W3C Attribution Level 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from common.errors import ShapeMismatch
from common.taxonomy import Dimension, Metric
from common.wire.measurement import Cut, MeasurementPlan

Vector = npt.NDArray[np.float64]
METRICS: Final[Mapping[Dimension, tuple[Metric, ...]]] = {
    Dimension.CAMPAIGN: (
        Metric.VIEWS,
        Metric.CLICKS,
        Metric.CONVERSIONS,
        Metric.VALUE,
        Metric.REACH,
        Metric.UNSEEN,
    ),
    Dimension.GROUP: (
        Metric.VIEWS,
        Metric.CLICKS,
        Metric.CONVERSIONS,
        Metric.REACH,
        Metric.PREDICTED,
        Metric.DEVICES,
    ),
    Dimension.ARM: (Metric.VIEWS, Metric.CLICKS, Metric.CONVERSIONS, Metric.VALUE, Metric.REACH),
}
# Rare things get the larger part of the norm: their noise counts for most. Public constants, the same everywhere.
_CUT_SHARE: Final = {Dimension.CAMPAIGN: 2.0, Dimension.GROUP: 1.0, Dimension.ARM: 1.0}
_METRIC_SHARE: Final = {
    Metric.VIEWS: 4.0,
    Metric.CLICKS: 6.0,
    Metric.CONVERSIONS: 5.0,
    Metric.VALUE: 2.0,
    Metric.REACH: 4.0,
    Metric.UNSEEN: 1.0,
    Metric.PREDICTED: 1.0,
    Metric.DEVICES: 1.0,
}


class ContributionBounds(BaseModel):
    """How much of one device's day may count at most.

    Attributes:
        views_per_campaign: of one campaign in one day.
        clicks_per_campaign, conversions_per_campaign: likewise.
        views_per_day: of all campaigns together (L1).
        responses_per_day: clicks, and likewise conversions, of all campaigns together (L1).
        value_micros_max: of one conversion; more counts as that much.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    views_per_campaign: int = Field(default=5, ge=1, le=1000)
    clicks_per_campaign: int = Field(default=1, ge=1, le=100)
    conversions_per_campaign: int = Field(default=1, ge=1, le=100)
    views_per_day: int = Field(default=20, ge=1, le=10_000)
    responses_per_day: int = Field(default=3, ge=1, le=100)
    value_micros_max: int = Field(default=50_000_000, ge=1, le=10**12)

    def most(self, metric: Metric, dimension: Dimension) -> float:
        """Most that one device adds to one cell."""
        whole, one = self._caps(metric)
        single = dimension is Dimension.CAMPAIGN or metric is Metric.REACH
        return min(whole, one) if single else whole

    def norm(self, metric: Metric, dimension: Dimension) -> float:
        """Largest L2 norm of one device's block of one metric.

        Counts of at most m each that add up to at most L have norm at most √(m·L); where a device is in one label of
        a cut alone, the norm is that label's count.
        """
        whole, _ = self._caps(metric)
        most = self.most(metric, dimension)
        return math.sqrt(most * whole) if dimension is Dimension.CAMPAIGN else most

    def _caps(self, metric: Metric) -> tuple[float, float]:
        """Caps over all campaigns and for one campaign, in the metric's own units."""
        views, responses = float(self.views_per_day), float(self.responses_per_day)
        match metric:
            case Metric.VIEWS:
                return views, float(min(self.views_per_campaign, self.views_per_day))
            case Metric.CLICKS:
                return responses, float(min(self.clicks_per_campaign, self.responses_per_day))
            case Metric.CONVERSIONS | Metric.VALUE:
                return responses, float(min(self.conversions_per_campaign, self.responses_per_day))
            case Metric.REACH:
                return views, 1.0
            case Metric.DEVICES:
                return 1.0, 1.0
            case Metric.UNSEEN | Metric.PREDICTED:
                return responses, 1.0


@dataclass(frozen=True, slots=True)
class Block:
    """One metric of one cut: ``len(cut.labels)`` cells from ``start``, each a count times ``factor``."""

    cut: Cut
    metric: Metric
    start: int
    factor: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One noisy count over the devices in a sum.

    Attributes:
        value: count, noise included; may be negative. ``value`` cells count in units of ``value_micros_max``.
        stddev: of the noise.
    """

    dimension: Dimension
    label: str
    metric: Metric
    value: float
    stddev: float


def plan_length(plan: MeasurementPlan) -> int:
    """Number of cells."""
    return sum(len(METRICS[cut.dimension]) * len(cut.labels) for cut in plan.cuts)


def blocks(plan: MeasurementPlan, bounds: ContributionBounds) -> Iterator[Block]:
    """All blocks in the order of the vector."""
    whole = sum(_CUT_SHARE[cut.dimension] for cut in plan.cuts)
    start = 0
    for cut in plan.cuts:
        metrics = METRICS[cut.dimension]
        weights = sum(_METRIC_SHARE[metric] for metric in metrics)
        for metric in metrics:
            share = _CUT_SHARE[cut.dimension] / whole * _METRIC_SHARE[metric] / weights
            yield Block(cut, metric, start, math.sqrt(share) / bounds.norm(metric, cut.dimension))
            start += len(cut.labels)


def read_sum(
    total: Vector, plan: MeasurementPlan, bounds: ContributionBounds, *, noise_stddev: float
) -> tuple[Cell, ...]:
    """The cells of a noisy sum over devices, in counts.

    Args:
        total: float64 ``[plan_length]``.
        plan: what was counted.
        bounds: under which.
        noise_stddev: of each coordinate of ``total``.

    Raises:
        ShapeMismatch: a sum of another layout.

    **Privacy:** post-processing of a release that was paid for.
    """
    if total.shape != (plan_length(plan),):
        raise ShapeMismatch(f"this measurement has {plan_length(plan)} numbers")
    return tuple(
        Cell(
            block.cut.dimension,
            label,
            block.metric,
            float(total[block.start + i] / block.factor),
            noise_stddev / block.factor,
        )
        for block in blocks(plan, bounds)
        for i, label in enumerate(block.cut.labels)
    )
