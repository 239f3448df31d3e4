"""Composition of pure ε mechanisms, exactly. Owns the cost of randomised responses; knows no noise.

Any ε-DP mechanism is a post-processing of binary randomised response with the same ε, whatever its own shape is, so
several of them leak at most what as many independent coins with losses ±εᵢ leak. With δ = 0 that is Σ εᵢ and no less.

**Source:** Kairouz, Oh, Viswanath 2015, "The composition theorem for differential privacy", Theorem 3.3 and Lemma 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from common.errors import ContractError
from common.privacy.parameters import MechanismUse
from common.taxonomy import Mechanism

Floats = npt.NDArray[np.float64]
_PRECISION: Final = 1e-9
_OUTCOMES_MAX: Final = 1 << 20


def is_pure(uses: Sequence[MechanismUse]) -> bool:
    """Whether these are randomised responses, all of them."""
    return bool(uses) and all(use.mechanism is Mechanism.TOP_M for use in uses)


def total(uses: Sequence[MechanismUse]) -> float:
    """Σ ε: what all uses together cost at δ = 0."""
    return math.fsum(use.count * (use.epsilon or math.inf) for use in uses)


def epsilon(uses: Sequence[MechanismUse], delta: float) -> float:
    """The smallest ε with which all uses together are (ε, δ)-private; their sum at δ = 0.

    Args:
        uses: randomised responses.
        delta: in [0, 1).
    """
    most = total(uses)
    if delta == 0:
        return most
    low, high = 0.0, most
    losses, mass = _losses(uses)
    if _delta_at(losses, mass, 0.0) <= delta:
        return 0.0
    while high - low > _PRECISION * most:
        middle = (low + high) / 2
        low, high = (low, middle) if _delta_at(losses, mass, middle) <= delta else (middle, high)
    return high


def delta(uses: Sequence[MechanismUse], epsilon: float) -> float:
    """The smallest δ with which all uses together are (ε, δ)-private."""
    return 0.0 if epsilon >= total(uses) else _delta_at(*_losses(uses), epsilon)


def rho(uses: Sequence[MechanismUse]) -> float:
    """ρ of zero-concentrated DP: at most ε²/2 for each.

    **Source:** Bun and Steinke 2016, "Concentrated differential privacy", Proposition 3.3.
    """
    return math.fsum(use.count * (use.epsilon or math.inf) ** 2 / 2 for use in uses)


def _losses(uses: Sequence[MechanismUse]) -> tuple[Floats, Floats]:
    """Values of the total loss with their probabilities under the first input."""
    losses, mass = np.zeros(1), np.ones(1)
    for use in uses:
        value = use.epsilon or math.inf
        k = np.arange(use.count + 1)
        log_p = k * -math.log1p(math.exp(-value)) + (use.count - k) * -math.log1p(math.exp(value))
        choose = gammaln(use.count + 1) - gammaln(k + 1) - gammaln(use.count - k + 1)
        losses = (losses[:, np.newaxis] + (2 * k - use.count) * value).reshape(-1)
        mass = (mass[:, np.newaxis] * np.exp(log_p + choose)).reshape(-1)
        if losses.size > _OUTCOMES_MAX:
            raise ContractError("too many different randomised responses to compose exactly")
    return losses, mass


def _delta_at(losses: Floats, mass: Floats, epsilon: float) -> float:
    above = losses > epsilon
    return float(np.dot(-np.expm1(epsilon - losses[above]), mass[above]))
