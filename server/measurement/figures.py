"""What may be shown of counts. Owns the threshold on the noisy value and the widest interval that still says something.

Whatever is withheld has no value at all in the answer, only the reason.

**Privacy:** post-processing; the threshold looks at noisy counts alone, so that it cannot tell what they hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from common.measurement.estimates import ZERO, Interval, Noisy, ratio, total
from common.measurement.layout import ContributionBounds
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
        interval_max: widest half interval, as a share of the figure.
    """

    reach_min: float
    interval_max: float

    def enough(self, people: Noisy) -> bool:
        """Whether a row stands for enough people, by its noisy count and that count's own noise."""
        return total(people).low >= self.reach_min

    def figure(self, interval: Interval, *, exact: bool = False) -> Figure:
        """A figure, unless its interval says too little."""
        if not exact and not interval.relative_half_width <= self.interval_max:
            return Figure(withheld=Withheld.TOO_NOISY)
        return Figure(value=interval.value, low=interval.low, high=interval.high, exact=exact)


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

    def rate(self, numerator: Metric, denominator: Metric, *, high_max: float = float("inf")) -> Interval:
        """One metric over another."""
        return ratio(
            self.of(numerator),
            self.of(denominator),
            numerator_most=self.bounds.most(numerator, self.dimension),
            denominator_most=self.bounds.most(denominator, self.dimension),
            high_max=high_max,
        )


def device_results(row: Counted, rules: Rules) -> Results:
    """What devices reported of a campaign."""
    if not rules.enough(row.of(Metric.REACH)):
        return all_withheld(_HIDDEN)
    show = rules.figure
    return Results(
        views=show(total(row.of(Metric.VIEWS))),
        clicks=show(total(row.of(Metric.CLICKS))),
        conversions=show(total(row.of(Metric.CONVERSIONS))),
        reach=show(total(row.of(Metric.REACH))),
        click_rate=show(row.rate(Metric.CLICKS, Metric.VIEWS, high_max=1.0)),
        conversion_rate=show(row.rate(Metric.CONVERSIONS, Metric.CLICKS)),
        error_rate=show(row.rate(Metric.UNSEEN, Metric.VIEWS).odds_to_share()),
        cost_per_action_micros=_cost_per_action(row, rules),
        return_on_ad_spend=_return(row, rules),
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
        click_rate=rules.figure(row.rate(Metric.CLICKS, Metric.VIEWS, high_max=1.0)),
        conversion_rate=rules.figure(row.rate(Metric.CONVERSIONS, Metric.CLICKS)),
        error_rate=rules.figure(row.rate(Metric.UNSEEN, Metric.VIEWS).odds_to_share()),
        cost_per_action_micros=_cost_per_action(row, rules),
        return_on_ad_spend=_NOTHING,
    )


def group_figures(group: str, row: Counted, rules: Rules) -> GroupFigures:
    """Exposure and quality of one declared group."""
    if not rules.enough(row.of(Metric.DEVICES)):
        return GroupFigures(group=group, **dict.fromkeys(GROUP_FIELDS, _HIDDEN))
    show = rules.figure
    return GroupFigures(
        group=group,
        people=show(total(row.of(Metric.DEVICES))),
        views_per_person=show(row.rate(Metric.VIEWS, Metric.DEVICES)),
        reached_share=show(row.rate(Metric.REACH, Metric.DEVICES, high_max=1.0)),
        click_rate=show(row.rate(Metric.CLICKS, Metric.VIEWS, high_max=1.0)),
        conversion_rate=show(row.rate(Metric.CONVERSIONS, Metric.CLICKS)),
        predicted_rate=show(row.rate(Metric.PREDICTED, Metric.VIEWS, high_max=1.0)),
        predicted_over_clicked=show(row.rate(Metric.PREDICTED, Metric.CLICKS)),
    )


GROUP_FIELDS: Final = tuple(name for name in GroupFigures.model_fields if name != "group")


def all_withheld(figure: Figure) -> Results:
    """A row of which nothing is shown."""
    return Results(**dict.fromkeys(Results.model_fields, figure))


def _cost_per_action(row: Counted, rules: Rules) -> Figure:
    if row.cost_micros is None or not row.bid_micros_max:
        return _NOTHING
    most = float(row.bid_micros_max)
    return rules.figure(
        ratio(
            row.cost_micros.times(1 / most),
            row.of(Metric.CONVERSIONS),
            numerator_most=row.bounds.most(Metric.CLICKS, row.dimension),
            denominator_most=row.bounds.most(Metric.CONVERSIONS, row.dimension),
        ).times(most)
    )


def _return(row: Counted, rules: Rules) -> Figure:
    if row.cost_micros is None or not row.bid_micros_max:
        return _NOTHING
    most = float(row.bid_micros_max)
    found = ratio(
        row.of(Metric.VALUE),
        row.cost_micros.times(1 / most),
        numerator_most=row.bounds.most(Metric.VALUE, row.dimension),
        denominator_most=row.bounds.most(Metric.CLICKS, row.dimension),
    )
    return rules.figure(found.times(row.bounds.value_micros_max / most))
