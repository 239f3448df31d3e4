"""From what happened on a device in one day to its vector. Owns the order in which contributions are cut off. Pure.

Nothing here is noised, clipped or sent. A device on which nothing happened releases its vector of zeros (and its group)
like any other: that it answers says nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from common.measurement.layout import Block, ContributionBounds, Vector, blocks, plan_length
from common.taxonomy import Dimension, Metric
from common.wire.measurement import MeasurementPlan

UNDECLARED: Final = "undeclared"
"""The group of whoever declared none."""


@dataclass(frozen=True, slots=True)
class Happened:
    """One thing that happened.

    Attributes:
        time: seconds since the epoch; the earliest count.
        metric: VIEWS, CLICKS, CONVERSIONS or UNSEEN; the others are derived.
        value_micros: of a conversion.
        predicted: of a view: the score that it was chosen by.
        arm: of the experiment that is measured, in which it was chosen; empty: in none.
    """

    time: float
    campaign: str
    metric: Metric
    value_micros: int = 0
    predicted: float = 0.0
    arm: str = ""


def bounded(happened: Iterable[Happened], bounds: ContributionBounds) -> list[Happened]:
    """What counts of a day: the earliest things within every bound, over all campaigns."""
    per_campaign: dict[tuple[Metric, str], int] = defaultdict(int)
    per_day: dict[Metric, int] = defaultdict(int)
    kept = []
    for one in sorted(happened, key=lambda thing: (thing.time, thing.metric, thing.campaign)):
        whole = int(bounds.most(one.metric, Dimension.GROUP))
        most = int(bounds.most(one.metric, Dimension.CAMPAIGN))
        if per_campaign[one.metric, one.campaign] < most and per_day[one.metric] < whole:
            per_campaign[one.metric, one.campaign] += 1
            per_day[one.metric] += 1
            kept.append(one)
    return kept


def count_vector(
    happened: Iterable[Happened], plan: MeasurementPlan, bounds: ContributionBounds, *, group: str = ""
) -> Vector:
    """One device's vector, float64 ``[plan_length]``, of L2 norm at most 1.

    Args:
        happened: of the plan's day.
        plan: what is counted.
        bounds: contribution bounds.
        group: what the owner has declared; empty: nothing.

    **Privacy:** bounds one device's whole day; the release around it clips, noises, masks and is charged.
    """
    counted = bounded(happened, bounds)
    vector = np.zeros(plan_length(plan))
    for block in blocks(plan, bounds):
        cells = {label: block.start + i for i, label in enumerate(block.cut.labels)}
        if block.metric is Metric.DEVICES:
            if (cell := cells.get(group or UNDECLARED)) is not None:
                vector[cell] = block.factor
            continue
        for label, things in _by_label(counted, block, group or UNDECLARED).items():
            if label in cells:
                vector[cells[label]] = block.factor * _amount(things, block, bounds)
    return vector


def _by_label(counted: Sequence[Happened], block: Block, group: str) -> dict[str, list[Happened]]:
    found: dict[str, list[Happened]] = defaultdict(list)
    arm = next((one.arm for one in counted if one.arm), "")  # a device is in one arm; a second one does not count
    for one in counted:
        match block.cut.dimension:
            case Dimension.CAMPAIGN:
                found[one.campaign].append(one)
            case Dimension.GROUP:
                found[group].append(one)
            case Dimension.ARM:
                if one.arm == arm:
                    found[arm].append(one)
    return found


def _amount(things: Sequence[Happened], block: Block, bounds: ContributionBounds) -> float:
    """The count of one cell, within its bound."""
    views = [one for one in things if one.metric is Metric.VIEWS]
    match block.metric:
        case Metric.REACH:
            amount = float(bool(views))
        case Metric.PREDICTED:
            amount = sum(min(max(one.predicted, 0.0), 1.0) for one in views)
        case Metric.VALUE:
            bought = [one for one in things if one.metric is Metric.CONVERSIONS]
            amount = sum(min(max(one.value_micros, 0), bounds.value_micros_max) for one in bought)
            amount /= bounds.value_micros_max
        case metric:
            amount = float(sum(one.metric is metric for one in things))
    return min(amount, bounds.most(block.metric, block.cut.dimension))
