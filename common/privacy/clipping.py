"""Clipping of whole updates. Owns the only constructor of ``ClippedUpdate``; adds no noise and knows no profile."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg.blas import ddot

from common.errors import NonFiniteValue
from common.privacy.updates import ClippedUpdate, ModelDelta, Vector


def clip_update(delta: ModelDelta, clipping_norm: float) -> ClippedUpdate:
    """Scale a delta down to L2 norm ``clipping_norm`` if it is longer; never up.

    Args:
        delta: what a device learnt, float64 ``[d]``.
        clipping_norm: bound C > 0, in model-weight units.

    Raises:
        NonFiniteValue: the delta holds NaN or infinity, which no scaling can bound.
        ValueError: C is not positive and finite.

    Privacy:
        Bounds what adding or removing one device can do to a sum of updates: at most C. Spends nothing by itself.
    """
    if not (math.isfinite(clipping_norm) and clipping_norm > 0):
        raise ValueError("the clipping norm must be positive and finite")
    low, high = norm_bounds(delta.vector)
    if high <= clipping_norm:
        return ClippedUpdate(delta.vector.copy(), clipping_norm)
    if low > clipping_norm:
        return ClippedUpdate(delta.vector * (clipping_norm / high), clipping_norm)
    if not np.isfinite(delta.vector).all():
        raise NonFiniteValue("the update holds NaN or infinity")
    vector = delta.vector.copy()
    while (norm := l2_norm(vector)) > clipping_norm:
        # Repeats only where rounding left the norm a last digit above C.
        vector *= math.nextafter(clipping_norm / norm, 0.0)
    return ClippedUpdate(vector, clipping_norm)


def norm_bounds(vector: Vector) -> tuple[float, float]:
    """What the L2 norm certainly lies between, quickly; (0, infinity) for NaN, infinity, and squares out of range.

    A sum of n products is wrong by less than n·2^-52 of itself in any order. The upper bound has as much again to spare
    for the few roundings of scaling by it.
    """
    # numpy's own product would have its warnings switched off, at twice the time; this one refuses no numbers.
    square = float(ddot(vector, vector)) if vector.size else 0.0
    if not 1e-200 < square < 1e200:
        return 0.0, math.inf
    norm, slack = math.sqrt(square), 1 + (vector.size + 8) * 2.0**-51
    return norm / slack, norm * slack


def l2_norm(vector: Vector) -> float:
    """The L2 norm, exact where squares would overflow."""
    return math.hypot(*vector.tolist()) if vector.size else 0.0
