"""Rényi differential privacy of integer noise. Owns the curve of the Skellam mechanism and the way from curves to ε.

The published way of accounting for it, 6 to 10 % above the truth in ε, kept as an upper check on the ledger's
accountant (``common.privacy.domination``). The theorem is for integer orders. Between them the curve is interpolated,
linearly in (α - 1)·ε(α), which is valid because that is the logarithm of a moment of the privacy loss and hence convex
in α, with value 0 at α = 1.

**Source:** Agarwal, Kairouz, Liu 2021, "The Skellam mechanism for differentially private federated learning",
Corollary 3.6; Canonne, Kamath, Steinke 2020, "The discrete Gaussian for differential privacy", Proposition 12.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def _orders() -> FloatArray:
    """Real orders: α - 1 in steps of 0.5 % from 0.01 to a million; integers among them up to 64."""
    real = 1 + np.geomspace(1e-2, 1e6, 3694)
    return np.unique(np.concatenate([real, np.arange(2.0, 65.0)]))


ORDERS = _orders()
_FLOOR = np.floor(ORDERS)
_UPPER_WEIGHT = ORDERS - _FLOOR
_CONVERSION = np.log1p(-1 / ORDERS)


def skellam_moment(noise_multiplier: float, levels: int, dimension: int) -> FloatArray:
    """Bound on (α - 1)·ε(α) at ``ORDERS`` of one release: L2 norm at most ``levels``, variance (z·levels)² in the sum.

    Args:
        noise_multiplier: z > 0.
        levels: integer bound on the L2 norm of what one device adds, in grid units.
        dimension: length of the vector; with integrality it bounds the L1 norm.

    **Privacy:** of adding or removing one device's whole vector, whatever the other vectors are.
    """
    below = _at_integers(_FLOOR, noise_multiplier, levels, dimension)
    above = _at_integers(_FLOOR + 1, noise_multiplier, levels, dimension)
    return below + _UPPER_WEIGHT * (above - below)


def _at_integers(orders: FloatArray, noise_multiplier: float, levels: int, dimension: int) -> FloatArray:
    variance = (noise_multiplier * levels) ** 2
    l2_squared = float(levels) ** 2
    l1 = l1_bound(levels, dimension)
    correction = np.minimum(
        ((2 * orders - 1) * l2_squared + 6 * l1) / (4 * variance * variance), 3 * l1 / (2 * variance)
    )
    return (orders - 1) * (orders * l2_squared / (2 * variance) + correction)


def l1_bound(levels: int, dimension: int) -> float:
    """Largest L1 norm of an integer vector ``[dimension]`` of L2 norm at most ``levels``: |x| ≤ x² for integers."""
    return min(float(levels) ** 2, math.sqrt(dimension) * levels)


def gaussian_moment(noise_multiplier: float) -> FloatArray:
    """(α - 1)·ε(α) at ``ORDERS`` of one Gaussian release."""
    return (ORDERS - 1) * ORDERS / (2 * noise_multiplier**2)


def epsilon_of_moment(moment: FloatArray, delta: float) -> float:
    """The smallest ε at ``delta`` that a composed bound on (α - 1)·ε(α) at ``ORDERS`` proves; at least 0."""
    values = moment / (ORDERS - 1) + _CONVERSION - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(values.min()))
