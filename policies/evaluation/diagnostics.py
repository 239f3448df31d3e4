"""Whether an estimate can be believed. Owns measures of overlap and of the weights' tails, and their warnings.

**Source:** Kong 1992 (effective sample size); Hill 1975 (tail index); Owen 2013 ch. 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policies.evaluation.intervals import stderr
from policies.evaluation.sample import Floats, Sample

EFFECTIVE_MIN = 200
"""Fewer effective turns than this: intervals by the central limit theorem are not to be trusted."""


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What the weights are like.

    Attributes:
        turns: n.
        effective: (Σw)² / Σw², the number of turns that an unweighted sample of equal worth would have.
        weight_mean: with what is left idle; 1 up to chance if the propensities are true and the log covers the target.
        weight_mean_z: its distance from 1 in standard errors.
        weight_max: the largest weight.
        weight_quantiles: 50, 90, 99 and 99.9 %.
        top_share: share of all weight that the heaviest 1 % of turns carry.
        tail_index: Hill's estimate over the heaviest 5 % (at least 20 turns); below 2 the variance is not finite in
            the limit; infinite where the heaviest weights are all alike, NaN where there are too few.
        zero_share: share of turns that the target would never show; they say nothing about it.
        uncovered: mean probability that the target gives to what was never shown; NaN where the log does not say.
    """

    turns: int
    effective: float
    weight_mean: float
    weight_mean_z: float
    weight_max: float
    weight_quantiles: tuple[float, float, float, float]
    top_share: float
    tail_index: float
    zero_share: float
    uncovered: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the estimates, in words; empty if nothing does."""
        found = []
        if self.effective < EFFECTIVE_MIN:
            found.append(f"only {self.effective:.0f} effective turns of {self.turns}")
        if self.uncovered > 0.01:
            found.append(f"{self.uncovered:.0%} of what the policy shows was never shown: no estimator can know it")
        if abs(self.weight_mean_z) > 4:
            found.append(f"the mean weight is {self.weight_mean:.3g}, not 1: propensities are wrong, or overlap lacks")
        if self.top_share > 0.5:
            found.append(f"1 % of turns carry {self.top_share:.0%} of the weight")
        if self.tail_index < 2:
            found.append(f"heavy tail of weights (index {self.tail_index:.1f})")
        return tuple(found)


def diagnose(sample: Sample) -> Diagnostics:
    """Look at the weights of a sample."""
    weights = np.sort(sample.weights)[::-1]
    total, squares = float(weights.sum()), float((weights**2).sum())
    whole = sample.weights + sample.idle
    error, _ = stderr(whole, sample.clusters)
    gap = float(whole.mean()) - 1
    heaviest = max(1, len(weights) // 100)
    return Diagnostics(
        turns=len(weights),
        effective=total**2 / squares if squares else 0.0,
        weight_mean=gap + 1,
        weight_mean_z=gap / error if error > 0 else (0.0 if abs(gap) < 1e-9 else math.copysign(math.inf, gap)),
        weight_max=float(weights[0]),
        weight_quantiles=tuple(float(q) for q in np.quantile(weights, [0.5, 0.9, 0.99, 0.999])),  # type: ignore[arg-type]
        top_share=float(weights[:heaviest].sum()) / total if total else math.nan,
        tail_index=_hill(weights),
        zero_share=float((weights == 0).mean()),
        uncovered=sample.uncovered,
    )


def _hill(descending: Floats) -> float:
    count = len(descending) // 20
    if count < 20 or descending[count] <= 0:
        return math.nan
    mean = float(np.log(descending[:count] / descending[count]).mean())
    return 1 / mean if mean > 1e-12 else math.inf
