"""Intervals of figures that are shown only if precise enough. Owns what being chosen does to an interval. Pure.

A figure is shown where half of its interval is at most a share of it. That rule looks at the noisy figure, so noise
that makes a figure large also makes it shown: of the figures of a small campaign that pass, nearly all owe it to
noise, and the plain interval misses the truth in most of them. Here each end is tested given that the figure was
shown: along u = n - ρ·d, with what is independent of u held fixed, the rule passes from some point on (or up to one),
and P(u at least as far out | shown) is a ratio of two normal tails. An end is never nearer than the plain one, and
where the rule would have passed anyway it is the plain one.

**Privacy:** post-processing of releases that were paid for.
**Source:** Lee, Sun, Sun and Taylor 2016, "Exact post-selection inference" (conditioning along a line); Zhong and
Prentice 2008 (the winner's curse under a threshold); Fieller 1954 as in ``common.measurement.estimates``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scipy.special import log_ndtr

from common.measurement.estimates import Interval, Noisy, ratio

TAIL: Final = 0.025
_REACH: Final = 9.0
_STEPS: Final = 18
_MOST: Final = 2.0**24
Told = Callable[[Interval], Interval]


def as_it_is(interval: Interval) -> Interval:
    """Told in its own units."""
    return interval


@dataclass(frozen=True, slots=True)
class Rate:
    """Two noisy counts, and the rule that decides whether their ratio is shown.

    Attributes:
        numerator, denominator: the counts.
        numerator_most, denominator_most: most that one device adds to each in one day.
        widest: half of the interval is at most this share of the figure.
        least: the plain interval's lower end is at least this.
        high_max: the largest value that the ratio can have.
        told: in which units the rule looks at it; increasing.
    """

    numerator: Noisy
    denominator: Noisy
    numerator_most: float
    denominator_most: float
    widest: float
    least: float = 0.0
    high_max: float = math.inf
    told: Told = as_it_is

    def plain(self) -> Interval:
        """The interval of the ratio whether it is shown or not."""
        found = self._plain(self.numerator.value, self.denominator.value)
        value = min(found.value, self.high_max)
        return self.told(Interval(value, min(found.low, value), max(min(found.high, self.high_max), value)))

    def interval(self) -> Interval | None:
        """The figure with its interval given that it is shown; None where it is not."""
        plain, known = self._plain(self.numerator.value, self.denominator.value), self.high_max
        if not self._passes(plain):
            return None
        low, high = self._low(plain.low), self._high(plain.high)
        value = min(plain.value, known)
        return self.told(Interval(value, min(low, value), max(min(high, known), value)))

    def _plain(self, n: float, d: float) -> Interval:
        """Without ``high_max``: a rate that is cut off at 1 must not look precise for it."""
        return ratio(
            Noisy(n, self.numerator.stddev),
            Noisy(d, self.denominator.stddev),
            numerator_most=self.numerator_most,
            denominator_most=self.denominator_most,
        )

    def _passes(self, plain: Interval) -> bool:
        if math.isinf(plain.high):
            return False
        return self.told(plain).relative_half_width <= self.widest and plain.low >= self.least

    def _low(self, plain: float) -> float:
        """The smallest ρ under which a shown figure is this far above it with probability ``TAIL``."""
        if self._given_shown(plain, above=True) < TAIL * 1.001:
            return plain
        if self._given_shown(0.0, above=True) >= TAIL:
            return 0.0
        low, high = 0.0, plain
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._given_shown(middle, above=True) >= TAIL else (middle, high)
        return low

    def _high(self, plain: float) -> float:
        """The largest ρ under which a shown figure is this far below it; infinite where there is none."""
        low = high = plain
        while self._given_shown(high, above=False) >= TAIL * 1.001:
            low, high = high, high * 2
            if high > plain * _MOST or high == 0:
                return math.inf
        if low == high:
            return plain
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._given_shown(middle, above=False) >= TAIL else (low, middle)
        return high

    def _given_shown(self, rho: float, *, above: bool) -> float:
        """P(u at least as far out as it is | shown) if the ratio is ρ."""
        n, d, known = self.numerator.value, self.denominator.value, max(self.denominator.value, 0.0)
        of_n = self.numerator.stddev**2 + self.numerator_most * rho * known
        of_d = self.denominator.stddev**2 + self.denominator_most * known
        spread = math.sqrt(of_n + rho * rho * of_d)
        if spread == 0:
            return 0.0
        sign = 1.0 if above else -1.0
        here = sign * (n - rho * d) / spread
        step_n, step_d = sign * of_n / spread, sign * rho * of_d / spread
        first = here - self._to_the_edge(step_n, step_d)
        return math.exp(min(0.0, float(log_ndtr(-here) - log_ndtr(-first))))

    def _to_the_edge(self, step_n: float, step_d: float) -> float:
        """How far back, in standard deviations of u, the figure would still be shown; ``_REACH``: always."""
        n, d = self.numerator.value, self.denominator.value
        if self._passes(self._plain(n - _REACH * step_n, d + _REACH * step_d)):
            return _REACH
        inside, outside = 0.0, _REACH
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            shown = self._passes(self._plain(n - middle * step_n, d + middle * step_d))
            inside, outside = (middle, outside) if shown else (inside, middle)
        return inside


def shown_total(count: Noisy, *, widest: float, least: float = 0.0) -> Interval | None:
    """How many there were among the devices in the sum, given that it is shown; None where it is not.

    Args:
        count: the noisy sum.
        widest: see ``Rate``.
        least: see ``Rate``.
    """
    one = Rate(count, Noisy(1.0), numerator_most=0.0, denominator_most=0.0, widest=widest, least=least)
    return one.interval()
