"""A device's contribution. Owns the last step before egress: a noised update on the integer grid, masked or not.

Only ``NoisedUpdate`` is accepted: a type checker refuses to bring a private delta here. All of it is post-processing
of a protected value, so neither the rounding nor a refusal reveals more than the update itself.
"""

from __future__ import annotations

import numpy as np

from common.errors import NonFiniteValue, OutOfRange
from common.privacy.updates import GRID, GRID_LIMIT, MaskedUpdate, NoisedUpdate
from common.taxonomy import Masking


def contribution(update: NoisedUpdate) -> MaskedUpdate:
    """Round an update to ``GRID`` so that sums over devices are exact in any order.

    Args:
        update: float64 ``[d]``.

    Returns:
        int64 ``[d]``; no masking yet: under ``record_local`` the noise alone protects.

    Raises:
        NonFiniteValue: the update holds NaN or infinity.
        OutOfRange: a component lies beyond ``GRID_LIMIT`` grid units.
    """
    if not np.isfinite(update.vector).all():
        raise NonFiniteValue("the update holds NaN or infinity")
    steps = np.rint(update.vector / GRID)
    if steps.size and float(np.abs(steps).max()) > GRID_LIMIT:
        raise OutOfRange("a component of the update does not fit the grid")
    return MaskedUpdate(steps.astype(np.int64), update.release, Masking.NONE)
