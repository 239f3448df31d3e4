"""Standard errors and intervals. Owns the one method that every estimate is given with.

Method: an estimate is, up to smaller terms, a mean of influence values; their cluster-robust standard error (turns of
one decision are one cluster) times a quantile of Student's t with clusters - 1 degrees of freedom. It is asymptotic:
with few clusters that carry weight it is too narrow, which ``diagnostics`` says aloud.

**Source:** Liang and Zeger 1986 (clusters); Owen 2013, "Monte Carlo theory, methods and examples", ch. 9 (weights).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policies.evaluation.sample import Floats, Integers

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval.

    Attributes:
        estimator: its name.
        value: expected reward per turn.
        stderr: standard error; NaN with fewer than two clusters.
        low, high: ends of the interval at ``LEVEL``; it is not clipped to where rewards can lie.
    """

    estimator: str
    value: float
    stderr: float
    low: float
    high: float


def with_interval(estimator: str, value: float, influence: Floats, clusters: Integers) -> Estimate:
    """A value with the interval of its influence values.

    Args:
        estimator: its name.
        value: the estimate.
        influence: of each turn, float64 ``[n]``, mean about 0.
        clusters: int64 ``[n]``.
    """
    error, count = stderr(influence, clusters)
    reach = error * student(count - 1) if count > 1 else math.nan
    return Estimate(estimator, value, error, value - reach, value + reach)


def stderr(influence: Floats, clusters: Integers) -> tuple[float, int]:
    """Cluster-robust standard error of a mean of influence values, and the number of clusters."""
    _, of = np.unique(clusters, return_inverse=True)
    sums = np.bincount(of, influence - influence.mean())
    count = len(sums)
    if count < 2:
        return math.nan, count
    return float(math.sqrt(count / (count - 1) * (sums**2).sum()) / len(influence)), count


def student(degrees: int) -> float:
    """The two-sided quantile of Student's t at ``LEVEL``."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + LEVEL / 2))
