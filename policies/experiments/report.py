"""What the arms of an experiment have shown. Owns its intervals and the check of its split. Pure.

Rates are rewards per view. Two kinds of interval for the difference to the first arm, chosen before the experiment
starts. ``fixed_horizon`` holds for one look, at the end: Agresti and Caffo's. ``sequential`` holds for all looks at
once, however often and for whatever reason somebody looks: an asymptotic confidence sequence, wider at any one look.
Noise of released counts is part of both. Counts of devices that chose by themselves are bounded per device and day, so
their spread is bounded rather than estimated: a cell whose devices add at most m each varies by at most m per count.
Results of one device on different days are taken as independent.

**Source:** Agresti and Caffo 2000 (difference of proportions); Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021
(asymptotic confidence sequences); Lindon and Malek 2022 (anytime-valid multinomial test); Fabijan et al. 2019 (sample
ratio mismatch).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Method = Literal["fixed_horizon", "sequential"]
LEVEL: Final = 0.95
SPLIT_ERROR: Final = 0.001
"""Probability with which a sound split is called broken."""
_VIEWS_AIMED_AT: Final = 10_000
"""Where the confidence sequence is tightest; a public constant, never chosen by looking."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What one arm has: exact where the service chose, noised where devices did.

    Attributes:
        units: decisions, or device-days; what was split.
        views, rewards: counted.
        units_noise, views_noise, rewards_noise: standard deviations of the noise in them; 0 for exact counts.
        views_most, rewards_most: most that one unit adds; 1 for exact counts, whose units are independent.
    """

    units: float
    views: float
    rewards: float
    units_noise: float = 0.0
    views_noise: float = 0.0
    rewards_noise: float = 0.0
    views_most: float = 1.0
    rewards_most: float = 1.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the ends of its interval at ``LEVEL``."""

    value: float
    low: float
    high: float

    @property
    def word(self) -> Literal["better", "worse", "no difference shown"]:
        """What it says of a difference."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no difference shown"


@dataclass(frozen=True, slots=True)
class Split:
    """Whether arms have the shares that they should have.

    Attributes:
        evidence: against the declared shares: e-value for exact counts, 1/p for noised ones.
        broken: it is at least 1 / ``SPLIT_ERROR``; nothing else in the report can then be believed.
    """

    evidence: float
    broken: bool


def rate(counts: Counts) -> float | None:
    """Rewards per view; None where nothing was seen."""
    return counts.rewards / counts.views if counts.views > 0 else None


def difference(base: Counts, other: Counts, method: Method) -> Interval | None:
    """Rate of ``other`` minus rate of ``base``; None where one of them was not seen at all.

    Args:
        base: the arm that others are compared with.
        other: another one.
        method: as the experiment's document says.
    """
    if min(base.views, other.views) < 1:
        return None
    (one, one_variance), (two, two_variance) = _moments(base), _moments(other)
    error = math.sqrt(one_variance + two_variance)
    reach = error * (_normal(LEVEL) if method == "fixed_horizon" else _sequential(base.views + other.views))
    return Interval(two - one, two - one - reach, two - one + reach)


def split(arms: Sequence[Counts], shares: Sequence[float]) -> Split:
    """Whether the units lie as the shares say.

    Exact counts: the mixture likelihood ratio against the shares, valid at every look. Noised counts: a chi-square
    statistic whose variance has the noise in it, valid at one look.

    Args:
        arms: counts of each arm.
        shares: of each, adding up to 1.
    """
    if all(arm.units_noise == 0 for arm in arms):
        evidence = math.exp(min(_log_e_value([arm.units for arm in arms], shares), 700.0))
    else:
        evidence = 1 / max(_noisy_p(arms, shares), 1e-300)
    return Split(evidence, evidence >= 1 / SPLIT_ERROR)


def _moments(counts: Counts) -> tuple[float, float]:
    """Rate with one reward in two views added (Agresti and Caffo), and its variance with bounds and noise."""
    views = counts.views + 2
    value = min(max((counts.rewards + 1) / views, 0.0), 1.0)
    if counts.rewards_most == 1 and counts.views_most == 1:
        spread = value * (1 - value) * views
    else:
        spread = counts.rewards_most * value * views + counts.views_most * value**2 * views
    noise = counts.rewards_noise**2 + (value * counts.views_noise) ** 2
    return value, (spread + noise) / views**2


def _normal(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def _sequential(views: float) -> float:
    """Half width of the confidence sequence in standard errors, after so many views."""
    alpha = 1 - LEVEL
    aim = -2 * math.log(alpha)
    grown = views * (aim + math.log(aim) + 1) / _VIEWS_AIMED_AT
    return math.sqrt(2 * (grown + 1) / grown * math.log(math.sqrt(grown + 1) / alpha))


def _log_e_value(units: Sequence[float], shares: Sequence[float]) -> float:
    """Dirichlet mixture, centred on the shares and worth as many units as there are arms × 50, over the shares."""
    prior = [50.0 * len(shares) * share for share in shares]
    total, mass = sum(units), sum(prior)
    mixture = math.lgamma(mass) - math.lgamma(mass + total)
    for count, alpha in zip(units, prior, strict=True):
        mixture += math.lgamma(alpha + count) - math.lgamma(alpha)
    return mixture - sum(count * math.log(share) for count, share in zip(units, shares, strict=True))


def _noisy_p(arms: Sequence[Counts], shares: Sequence[float]) -> float:
    """P value of the largest deviation of an arm from its share, times the number of arms (Bonferroni)."""
    from scipy.special import ndtr

    total = max(sum(arm.units for arm in arms), 1.0)
    noise = sum(arm.units_noise**2 for arm in arms)
    worst = 0.0
    for arm, share in zip(arms, shares, strict=True):
        variance = total * share * (1 - share) + (1 - 2 * share) * arm.units_noise**2 + share**2 * noise
        worst = max(worst, abs(arm.units - share * total) / math.sqrt(variance))
    return min(1.0, float(2 * ndtr(-worst)) * len(arms))
