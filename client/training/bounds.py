"""The clipping bound that arithmetic is given. Owns the margin that keeps C itself true in spite of rounding."""

from __future__ import annotations

import torch

# Rounding in the network's precision may lengthen a clipped gradient by a few units in the last place. Clipping to a
# bound this much below C (7.6e-6 of it in float32) keeps the true norm at most C, which the noise is scaled to.
ROUNDING_ULPS = 64


def clip_bound(clipping_norm: float, dtype: torch.dtype) -> float:
    """The bound handed to the clipping arithmetic, so that C itself holds in spite of rounding."""
    return clipping_norm * (1 - ROUNDING_ULPS * torch.finfo(dtype).eps)
