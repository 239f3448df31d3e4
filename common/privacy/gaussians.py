"""Standard Gaussians from keystream bytes, fast. Owns the inverse of the normal distribution function on blocks.

The same map as ``ndtri`` of the same uniforms, one Gaussian per 8 bytes, odd in u - 1/2, with a relative error below
1e-6 in the middle and none in the tails: beyond 2.93 standard deviations ``ndtri`` itself is called. Inputs are single
draws, so a stream gives the same numbers whatever the sizes of the calls.

Privacy:
    Noise h(x) instead of x, h monotone with |h(x)/x - 1| < 1e-6, changes the privacy loss of the Gaussian mechanism by
    a sum of independent terms of standard deviation about 1e-6 / z in all, far below what float32 weights round away.

Source: Giles, "Approximating the erfinv function" (GPU Computing Gems, 2011), single precision, central branch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

BLOCK = 1 << 15  # a block and its temporaries fit a processor's second-level cache
_CENTRAL = 5.0  # -ln(1 - x²) up to which the polynomial holds: 99.3 % of all draws
_COEFFICIENTS = np.sqrt(2) * np.array(
    [
        2.81022636e-08,
        3.43273939e-07,
        -3.5233877e-06,
        -4.39150654e-06,
        0.00021858087,
        -0.00125372503,
        -0.00417768164,
        0.246640727,
        1.50140941,
    ]
)
_ALTERNATING = (_COEFFICIENTS * (-1.0) ** np.arange(8, -1, -1)).astype(np.float32)  # of a polynomial in -w


def gaussians(read: Callable[[int], bytes], count: int) -> npt.NDArray[np.float64]:
    """Independent standard Gaussians, float64 ``[count]``.

    Args:
        read: the next so many bytes of a secret stream.
        count: how many.
    """
    result = np.empty(count)
    for start in range(0, count, BLOCK):
        part = result[start : start + BLOCK]
        _fill(part, np.frombuffer(read(8 * part.size), "<u8"))
    return result


def _fill(result: npt.NDArray[np.float64], bits: npt.NDArray[np.uint64]) -> None:
    """Turn 64 random bits each into a Gaussian; the upper 52 count. Few passes: each is over memory in cache."""
    words = bits >> np.uint64(12)
    words |= np.uint64(0x400 << 52)
    odd = words.view(np.float64)  # 2 + bits / 2^51
    odd -= 3
    odd += 2.0**-52  # 2u - 1 for the uniform u of NoiseSource, every step exact
    np.multiply(odd, odd, out=result)
    depth = np.subtract(1, result, out=result).astype(np.float32)
    np.log(depth, out=depth)  # -w of the source
    tails = np.flatnonzero(depth < -_CENTRAL)
    depth += np.float32(_CENTRAL / 2)
    value = depth * _ALTERNATING[0]
    for coefficient in _ALTERNATING[1:-1]:
        value += coefficient
        value *= depth
    value += _ALTERNATING[-1]
    result[:] = value
    result *= odd
    result[tails] = ndtri(((bits[tails] >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)
