"""Skellam noise in the words of Gaussian differential privacy. Owns the one number that links the two.

Let F be the distribution function of symmetric Skellam noise of variance μ and g = Φ⁻¹∘F on the integers. Then

1. Skellam probabilities are log-concave, so the best tests between the noise and the noise shifted by s are thresholds
   and their trade-off curve is piecewise linear with a vertex for each integer j. The curve lies above that of two unit
   Gaussians m apart if its vertices do, that curve being convex; and the vertex of j does if g(j) - g(j - s) ≤ m.
2. g(j) - g(j - s) is a sum of s steps of g, hence at most s·γ, γ(μ) = max over j of g(j + 1) - g(j).
3. So coordinate i of an integer vector x is hidden as well as by a Gaussian |xᵢ|·γ away, and trade-off curves multiply
   in order: the whole vector is hidden as well as by Gaussians ‖x‖₂·γ apart, whatever its direction.

The largest step is the middle one: γ·√μ = 1 + 1/(6μ) + O(1/μ²). ``STEP_SLACK`` doubles that correction. That it covers
every vertex is checked numerically: over a grid of variances by the tests, at the variances in use by
``common.privacy.recompute``, which also computes ε along single directions exactly, without any of this.

**Source:** own (docs/adr/0010-distributed-noise.md); Dong, Roth, Su 2022, "Gaussian differential privacy", §3 (products
keep the order of trade-off curves; adaptive composition; Gaussians compose to one); Smith and Thakurta 2022 (filters);
log-concavity is that of Poisson probabilities, which convolution preserves.
"""

from __future__ import annotations

import math

from common.errors import ContractError
from common.privacy.parameters import MechanismUse

STEP_SLACK = 1 / 3
"""γ(μ) ≤ (1 + STEP_SLACK/μ)/√μ for every μ ≥ 1/100."""

_VARIANCE_MIN = 0.01


def gaussian_step(variance: float) -> float:
    """A bound on γ(μ): how far apart two unit Gaussians are that are as hard to tell as noise shifted by 1."""
    if variance < _VARIANCE_MIN:
        raise ContractError(f"Skellam noise of variance below {_VARIANCE_MIN} is not accounted for")
    return (1 + STEP_SLACK / variance) / math.sqrt(variance)


def equivalent_multiplier(use: MechanismUse) -> float:
    """The noise multiplier of a Gaussian release that costs at least as much as this Skellam release, and hardly more.

    Args:
        use: Skellam noise; its integer vectors have L2 norm at most ``levels``, and the noise in the sum has variance
            (z·levels)² or more.

    Raises:
        ContractError: the use names no levels, or its noise has a variance below 0.01 grid units.
    """
    if use.levels is None:
        raise ContractError("Skellam noise is described by its levels")
    return 1 / (use.levels * gaussian_step((use.noise_multiplier * use.levels) ** 2))
