"""What may be shown of counts. Owns the threshold on the noisy value and the widest interval that still says something.

Whatever is withheld has no value at all in the answer, only the reason.

**Privacy:** post-processing; the threshold looks at noisy counts alone, so that it cannot tell what they hide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from common.measurement.estimates import ZERO, Interval, Noisy, total
from common.measurement.layout import ContributionBounds
from common.measurement.shown import Rate, shown_total
from common.taxonomy import Dimension, Metric
from server.measurement.schemas import Figure, GroupFigures, Results, Withheld

Sums = Mapping[Metric, Noisy]
_HIDDEN: Final = Figure(withheld=Withheld.BELOW_THRESHOLD)
_NOTHING: Final = Figure(withheld=Withheld.NOT_COUNTED)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is shown.

    Attributes:
        reach_min: a row is shown only where the lower end of its devices (where the service counted: its views) is at
            least this: noise alone must not carry a row over the threshold.
        interval_max: widest half interval, as a share of the figure, before it is known that it is shown.
    """

    reach_min: float
    interval_max: float

    def enough(self, people: Noisy) -> bool:
        """Whether a row stands for enough people, by its noisy count and that count's own noise."""
        return total(people).low >= self.reach_min

    def figure(self, shown: Interval | None, *, exact: bool = False) -> Figure:
        """A figure that the rule lets through (``common.measurement.shown``), unless nothing bounds it."""
        if shown is None or math.isinf(shown.high):
            return Figure(withheld=Withheld.TOO_NOISY)
        return Figure(value=shown.value, low=shown.low, high=shown.high, exact=exact)


@dataclass(frozen=True, slots=True)
class Counted:
    """Sums of one row and what bounds them.

    Attributes:
        cost_micros: clicks times bids; None: nothing is offered for a click.
        bid_micros_max: the highest of those bids.
    """

    sums: Sums
    bounds: ContributionBounds
    dimension: Dimension
    cost_micros: Noisy | None = None
    bid_micros_max: int = 0

    def of(self, metric: Metric) -> Noisy:
        """One sum."""
        return self.sums.get(metric, ZERO)

    def against(self, numerator: Metric, denominator: Metric, *, widest: float, high_max: float = math.inf) -> Rate:
        """One metric over another, and the rule that it is shown by."""
        return Rate(
            self.of(numerator),
            self.of(denominator),
            numerator_most=self.bounds.most(numerator, self.dimension),
            denominator_most=self.bounds.most(denominator, self.dimension),
            widest=widest,
            high_max=high_max,
        )


def device_results(row: Counted, rules: Rules) -> Results:
    """What devices reported of a campaign."""
    if not rules.enough(row.of(Metric.REACH)):
        return all_withheld(_HIDDEN)
    return Results(
        views=_total(row, rules, Metric.VIEWS),
        clicks=_total(row, rules, Metric.CLICKS),
        conversions=_total(row, rules, Metric.CONVERSIONS),
        reach=_total(row, rules, Metric.REACH, least=rules.reach_min),
        return_on_ad_spend=_return(row, rules),
        **_rates(row, rules),
    )


def served_results(row: Counted, rules: Rules) -> Results:
    """What the service counted by tokens. Counts are exact, rates have the interval of a sample."""
    if not rules.enough(row.of(Metric.VIEWS)):
        return all_withheld(_HIDDEN)
    return Results(
        views=rules.figure(total(row.of(Metric.VIEWS)), exact=True),
        clicks=rules.figure(total(row.of(Metric.CLICKS)), exact=True),
        conversions=rules.figure(total(row.of(Metric.CONVERSIONS)), exact=True),
        reach=_NOTHING,
        return_on_ad_spend=_NOTHING,
        **_rates(row, rules),
    )


def group_figures(group: str, row: Counted, rules: Rules) -> GroupFigures:
    """Exposure and quality of one declared group."""
    if not rules.enough(row.of(Metric.DEVICES)):
        return GroupFigures(group=group, **dict.fromkeys(GROUP_FIELDS, _HIDDEN))
    return GroupFigures(
        group=group,
        people=_total(row, rules, Metric.DEVICES, least=rules.reach_min),
        views_per_person=_rate(row, rules, Metric.VIEWS, Metric.DEVICES),
        reached_share=_rate(row, rules, Metric.REACH, Metric.DEVICES, high_max=1.0),
        click_rate=_rate(row, rules, Metric.CLICKS, Metric.VIEWS, high_max=1.0),
        conversion_rate=_rate(row, rules, Metric.CONVERSIONS, Metric.CLICKS),
        predicted_rate=_rate(row, rules, Metric.PREDICTED, Metric.VIEWS, high_max=1.0),
        predicted_over_clicked=_rate(row, rules, Metric.PREDICTED, Metric.CLICKS),
    )


GROUP_FIELDS: Final = tuple(name for name in GroupFigures.model_fields if name != "group")


def all_withheld(figure: Figure) -> Results:
    """A row of which nothing is shown."""
    return Results(**dict.fromkeys(Results.model_fields, figure))


def _total(row: Counted, rules: Rules, metric: Metric, *, least: float = 0.0) -> Figure:
    return rules.figure(shown_total(row.of(metric), widest=rules.interval_max, least=least))


def _rate(row: Counted, rules: Rules, over: Metric, under: Metric, *, high_max: float = math.inf) -> Figure:
    return rules.figure(row.against(over, under, widest=rules.interval_max, high_max=high_max).interval())


def _rates(row: Counted, rules: Rules) -> dict[str, Figure]:
    unseen = row.against(Metric.UNSEEN, Metric.VIEWS, widest=rules.interval_max)
    return {
        "click_rate": _rate(row, rules, Metric.CLICKS, Metric.VIEWS, high_max=1.0),
        "conversion_rate": _rate(row, rules, Metric.CONVERSIONS, Metric.CLICKS),
        "error_rate": rules.figure(replace(unseen, told=Interval.odds_to_share).interval()),
        "cost_per_action_micros": _cost_per_action(row, rules),
    }


def _cost_per_action(row: Counted, rules: Rules) -> Figure:
    if row.cost_micros is None or not row.bid_micros_max:
        return _NOTHING
    most = float(row.bid_micros_max)
    one = Rate(
        row.cost_micros.times(1 / most),
        row.of(Metric.CONVERSIONS),
        numerator_most=row.bounds.most(Metric.CLICKS, row.dimension),
        denominator_most=row.bounds.most(Metric.CONVERSIONS, row.dimension),
        widest=rules.interval_max,
    )
    return rules.figure(_times(one.interval(), most))


def _return(row: Counted, rules: Rules) -> Figure:
    if row.cost_micros is None or not row.bid_micros_max:
        return _NOTHING
    most = float(row.bid_micros_max)
    one = Rate(
        row.of(Metric.VALUE),
        row.cost_micros.times(1 / most),
        numerator_most=row.bounds.most(Metric.VALUE, row.dimension),
        denominator_most=row.bounds.most(Metric.CLICKS, row.dimension),
        widest=rules.interval_max,
    )
    return rules.figure(_times(one.interval(), row.bounds.value_micros_max / most))


def _times(interval: Interval | None, factor: float) -> Interval | None:
    return None if interval is None else interval.times(factor)
