"""Pacing: with which probability a campaign's ads may be served in the coming interval. Pure; PI control with a margin.

The controller steers spend along a straight line from the campaign's first interval to its last. It knows spend through
noisy reports that come late, so it never acts on the report itself where money could be lost:

* what is known counts at its upper confidence end: reports plus ``margin`` standard deviations of their noise;
* what is not reported yet counts as if every unreported interval had been a burst;
* the coming interval's probability is capped so that even a burst stays within what is then left.

The cap makes overspending rare; the PI term makes the budget be spent at all. The same inputs give the same answer
everywhere, so nothing has to be remembered between intervals or shared between processes.

**Privacy:** post-processing of releases that were paid for; one probability per campaign, the same for everybody.
**Source:** Karlsson 2020, "Feedback control in programmatic advertising"; Smirnov et al. 2016 on budget pacing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from common.measurement.estimates import ZERO, Noisy


@dataclass(frozen=True, slots=True, kw_only=True)
class PacingRule:
    """Public constants of the controller.

    Attributes:
        proportional, integral: gains on the error, which is counted in intervals' worth of budget.
        margin: standard deviations of noise that are added to what is reported.
        burst: an interval's traffic may be this many times its usual one.
        first: probability while nothing is known.
        window: latest reports from which usual traffic is learnt.
        lag: intervals between the end of one and the interval that its report can steer.
    """

    proportional: float = 0.3
    integral: float = 0.03
    margin: float = 2.5
    burst: float = 4.0
    first: float = 0.01
    window: int = 7
    lag: int = 1


RULE: Final = PacingRule()
_INTEGRAL_MAX: Final = 10.0
_LEAST: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be spent.

    Attributes:
        budget: of the whole campaign, in any unit of money.
        intervals: from its first to its last.
        daily: most that one interval should spend; None: no bound of its own.
    """

    budget: float
    intervals: int
    daily: float | None = None


def serve_probabilities(order: Order, reported: Sequence[Noisy | None], rule: PacingRule = RULE) -> list[float]:
    """The probability of every interval so far, and of the coming one, which is the last in the list.

    Args:
        order: what is to be spent.
        reported: spend of each interval that is over, oldest first; None where no report came.
        rule: public constants.

    Returns:
        ``len(reported) + 1`` numbers in [0, 1]; 0 after the last interval.
    """
    served: list[float] = []
    total_error = 0.0
    for now in range(len(reported) + 1):
        known = [one if j < now - rule.lag else None for j, one in enumerate(reported[:now])]
        probability, error = _next(order, known, served, total_error, rule)
        saturated = probability in {0.0, 1.0}
        if not saturated or (probability == 1.0) != (error > 0):  # no wind-up against a limit
            total_error = min(max(total_error + error, -_INTEGRAL_MAX), _INTEGRAL_MAX)
        served.append(probability)
    return served


def _next(
    order: Order, known: Sequence[Noisy | None], served: Sequence[float], total_error: float, rule: PacingRule
) -> tuple[float, float]:
    """Probability of the interval after ``known``, and the error there, in intervals' worth of budget."""
    now, left = len(known), order.intervals - len(known)
    per_interval = order.budget / order.intervals
    if left <= 0 or per_interval < _LEAST:
        return 0.0, 0.0
    usual, highest = _traffic(known, served, rule)
    if usual is None:
        return min(rule.first, 1.0), 0.0
    spent = sum((one for one in known if one is not None), ZERO)
    waiting = sum(p for p, one in zip(served, known, strict=True) if one is None)
    at_most = spent.value + rule.margin * spent.stddev + highest * waiting
    room = order.budget - max(at_most, 0.0)
    error = (per_interval * now - max(spent.value, 0.0) - usual * waiting) / per_interval
    if room <= 0:
        return 0.0, error
    steady = per_interval / usual
    wanted = steady * (1 + rule.proportional * error + rule.integral * (total_error + error))
    if order.daily is not None:
        wanted = min(wanted, order.daily / usual)
    probability = float(min(max(wanted, 0.0), room / highest, 1.0))
    return (probability if probability >= _LEAST else 0.0), error


def _traffic(known: Sequence[Noisy | None], served: Sequence[float], rule: PacingRule) -> tuple[float | None, float]:
    """Spend of an interval at probability 1: as usual, and in a burst; None while nothing is known."""
    seen = [(one, p) for one, p in zip(known, served, strict=True) if one is not None and p > 0][-rule.window :]
    share = sum(p for _, p in seen)
    if share <= 0:
        return None, math.inf
    spent = sum((one for one, _ in seen), ZERO)
    likely_most = max(spent.value, 0.0) + rule.margin * spent.stddev
    usual = max(spent.value, 0.1 * likely_most) / share
    peak = max((one.value - rule.margin * one.stddev) / p for one, p in seen)
    if usual < _LEAST:
        return None, math.inf
    return usual, max(rule.burst * likely_most / share, peak)
