"""Counts of an experiment's arms as devices released them. Owns what of them may be shown."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from common.measurement.layout import ContributionBounds
from common.taxonomy import Dimension, Metric
from policies.experiments.report import Counts
from server.experiments.repository import StoredExperiment
from server.measurement.repository import DAY_S, StoredDay
from server.measurement.service import MeasurementService, Span

_USED: Final = (Metric.REACH, Metric.VIEWS, Metric.CLICKS, Metric.CONVERSIONS)


class ReleasedCounts:
    """Sums of released, paid counts over the days of an experiment.

    **Privacy:** post-processing of releases; nothing is asked of a device. Arms are shown all or none: all, where the
    noisy number of device-days of each reaches the threshold.
    """

    def __init__(self, measurement: MeasurementService, reach_min: float) -> None:
        """Read from ``measurement``; ``reach_min`` is the policy document's threshold."""
        self._measurement, self._reach_min = measurement, reach_min

    def by_arm(self, stored: StoredExperiment, reward: Metric) -> Mapping[str, Counts]:
        """Sums over released days, by arm; empty where nothing was released or an arm is below the threshold."""
        span = Span(stored.starts_at // DAY_S, stored.over_at // DAY_S)
        days = [
            day for day in self._measurement.days(span, dimension=Dimension.ARM) if day.plan.experiment == stored.digest
        ]
        found = _summed(days, reward)
        return found if found and all(counts.units >= self._reach_min for counts in found.values()) else {}


def _summed(days: list[StoredDay], reward: Metric) -> dict[str, Counts]:
    values: dict[tuple[str, Metric], float] = defaultdict(float)
    variances: dict[tuple[str, Metric], float] = defaultdict(float)
    for day in days:
        for cell in day.cells:
            if cell.metric in _USED:
                values[cell.label, cell.metric] += cell.value
                variances[cell.label, cell.metric] += cell.stddev**2
    bounds = [day.bounds for day in days] or [ContributionBounds()]
    views_most = max(one.most(Metric.VIEWS, Dimension.ARM) for one in bounds)
    rewards_most = max(one.most(reward, Dimension.ARM) for one in bounds)
    return {
        name: Counts(
            units=values[name, Metric.REACH],
            views=values[name, Metric.VIEWS],
            rewards=values[name, reward],
            units_noise=math.sqrt(variances[name, Metric.REACH]),
            views_noise=math.sqrt(variances[name, Metric.VIEWS]),
            rewards_noise=math.sqrt(variances[name, reward]),
            views_most=views_most,
            rewards_most=rewards_most,
        )
        for name in {label for label, _ in values}
    }
