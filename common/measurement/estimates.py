"""Rates from noisy counts, with intervals that include the noise. Owns the statistics of every report. Pure.

A ratio n ÷ d of two noisy counts is what makes n - ρ·d compatible with 0: the set of all ρ with

    (n - ρ·d)² ≤ q²·(σ_n² + ρ²·σ_d² + a·ρ·d + b·ρ²·d)

σ_n and σ_d are the noise. The last two terms bound the sampling variance of Σ(n_i - ρ·d_i) over independent devices
where n_i ≤ a and d_i ≤ b: Σn_i² ≤ a·Σn_i = a·ρ·d and Σd_i² ≤ b·d. It is quadratic in ρ, so the interval is exact for
normal noise even where the denominator is small, and says so (no upper end) where d cannot be told from 0.

**Privacy:** post-processing of releases that were paid for.
**Source:** Fieller 1954 for the ratio; Wilson 1927 for variance under the tested rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

QUANTILE: Final = 1.959964
"""Of the standard normal distribution, for two-sided 95 %."""


@dataclass(frozen=True, slots=True)
class Noisy:
    """A sum of noisy counts over devices and days.

    Attributes:
        value: noise included.
        stddev: of the noise alone; 0 for an exact count.
    """

    value: float
    stddev: float = 0.0

    def __add__(self, other: Noisy) -> Noisy:
        """Sums of independent noise."""
        return Noisy(self.value + other.value, math.hypot(self.stddev, other.stddev))

    def times(self, factor: float) -> Noisy:
        """In other units."""
        return Noisy(self.value * factor, self.stddev * abs(factor))


ZERO: Final = Noisy(0.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % interval; ``high`` may be infinite."""

    value: float
    low: float
    high: float

    @property
    def relative_half_width(self) -> float:
        """Half of the interval's length over the figure; infinite where the figure is 0."""
        return (self.high - self.low) / 2 / self.value if self.value > 0 else math.inf

    def times(self, factor: float) -> Interval:
        """In other units; the factor is positive."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def odds_to_share(self) -> Interval:
        """Odds o as the share o ÷ (1 + o), at the figure and both ends."""
        return Interval(_share(self.value), _share(self.low), _share(self.high))


def total(count: Noisy) -> Interval:
    """How many there were among the devices in the sum; only the noise is uncertain."""
    half = QUANTILE * count.stddev
    return Interval(max(count.value, 0.0), max(count.value - half, 0.0), max(count.value + half, 0.0))


def ratio(
    numerator: Noisy,
    denominator: Noisy,
    *,
    numerator_most: float,
    denominator_most: float,
    high_max: float = math.inf,
) -> Interval:
    """The rate behind two noisy counts of the same devices.

    Args:
        numerator: one count.
        denominator: the other.
        numerator_most: most that one device can add to the first in one day.
        denominator_most: likewise to the second.
        high_max: the largest value that the rate can have.
    """
    n, d, square = max(numerator.value, 0.0), denominator.value, QUANTILE**2
    known = max(d, 0.0)
    lead = d * d - square * (denominator.stddev**2 + denominator_most * known)
    middle = 2 * n * d + square * numerator_most * known
    last = n * n - square * numerator.stddev**2
    value = min(max(n / d, 0.0), high_max) if d > 0 else 0.0
    if lead <= 0:
        return Interval(value, 0.0, high_max)
    root = math.sqrt(max(middle * middle - 4 * lead * last, 0.0))
    low, high = (middle - root) / (2 * lead), (middle + root) / (2 * lead)
    return Interval(value, min(max(low, 0.0), value), max(min(high, high_max), value))


def _share(odds: float) -> float:
    return 1.0 if math.isinf(odds) else odds / (1 + odds)
