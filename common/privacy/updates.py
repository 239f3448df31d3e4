"""The four update types. Owns the order ModelDelta ▸ ClippedUpdate ▸ NoisedUpdate ▸ MaskedUpdate.

Each is final and frozen, and only ``MaskedUpdate`` has a wire form, so a type checker refuses to send any other.
Under ``record_local`` the noise is added inside DP-SGD, before the delta exists; ``noised_by_dp_sgd`` in
``common.privacy.noise`` is then the only constructor of ``NoisedUpdate``, and it demands the parameters used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from common.privacy.parameters import MechanismUse
from common.taxonomy import Masking

Vector = npt.NDArray[np.float64]

# One grid for all updates: fixed point with 24 fractional bits. Rounding comes after the noise, so it is free
# post-processing, and sums over devices are exact integers whatever their order or grouping.
GRID = 2.0**-24
GRID_LIMIT = 2**52


@final
@dataclass(frozen=True, slots=True)
class ModelDelta:
    """Trained minus received weights, float64 ``[d]``. Private."""

    vector: Vector


@final
@dataclass(frozen=True, slots=True)
class ClippedUpdate:
    """A delta with L2 norm at most ``clipping_norm``. Private still."""

    vector: Vector
    clipping_norm: float


@final
@dataclass(frozen=True, slots=True)
class NoisedUpdate:
    """An update protected by the mechanism it names, float64 ``[d]``."""

    vector: Vector
    release: MechanismUse


@final
@dataclass(frozen=True, slots=True)
class MaskedUpdate:
    """The wire form: int64 ``[d]`` on ``GRID``; ``masking`` says how it is hidden beside its noise."""

    vector: npt.NDArray[np.int64]
    release: MechanismUse
    masking: Masking
