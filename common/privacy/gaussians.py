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
_ALTERNATING = _COEFFICIENTS * (-1.0) ** np.arange(8, -1, -1)  # of a polynomial in -w
_UPPER, _EXPONENT = np.uint64(12), np.uint64(0x400 << 52)
Floats = npt.NDArray[np.float64] | npt.NDArray[np.float32]
Scratch = tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64], npt.NDArray[np.float32], npt.NDArray[np.float32]]


def gaussians(read: Callable[[int], bytes], count: int) -> npt.NDArray[np.float64]:
    """Independent standard Gaussians, float64 ``[count]``.

    Args:
        read: the next so many bytes of a secret stream.
        count: how many.
    """
    result = np.empty(count)
    fill(read, result, 1.0)
    return result


def fill(read: Callable[[int], bytes], result: Floats, scale: float) -> None:
    """Overwrite ``result`` with ``scale`` times what ``gaussians`` gives for the same bytes.

    Args:
        read: the next so many bytes of a secret stream.
        result: float64 or float32 ``[n]``. The latter is computed in single precision throughout, but for the tails;
            that changes a draw by a few units in its last place.
        scale: the standard deviation, or minus it.
    """
    size = min(result.size, BLOCK)
    words, wide = np.empty(size, np.uint64), np.empty(size)
    single, value = np.empty(size, np.float32), np.empty(size, np.float32)
    for start in range(0, result.size, BLOCK):
        part = result[start : start + BLOCK]
        bits = np.frombuffer(read(8 * part.size), "<u8")
        n = part.size
        _fill_block(part, bits, scale, (words[:n], wide[:n], single[:n], value[:n]))


def _fill_block(result: Floats, bits: npt.NDArray[np.uint64], scale: float, scratch: Scratch) -> None:
    """Turn 64 random bits each into a Gaussian; the upper 52 count. Few passes: each is over memory in cache."""
    words, wide, single, value = scratch
    np.right_shift(bits, _UPPER, out=words)
    np.bitwise_or(words, _EXPONENT, out=words)
    odd = words.view(np.float64)  # 2 + bits / 2^51
    odd -= 3
    odd += 2.0**-52  # 2u - 1 for the uniform u of NoiseSource, every step exact
    np.multiply(odd, odd, out=wide)
    np.subtract(1, wide, out=wide)
    depth = single
    depth[:] = wide
    np.log(depth, out=depth)  # -w of the source
    tails = (depth < -_CENTRAL).nonzero()[0]
    depth += np.float32(_CENTRAL / 2)
    in_single = result.dtype == np.float32
    first, *middle, last = (_ALTERNATING * scale if in_single else _ALTERNATING).astype(np.float32)
    np.multiply(depth, first, out=value)
    for coefficient in middle:
        value += coefficient
        value *= depth
    value += last
    if in_single:
        single[:] = odd
        np.multiply(value, single, out=result)
    else:
        result[:] = value
        result *= odd
        if scale != 1:
            result *= scale
    result[tails] = ndtri(((bits[tails] >> _UPPER).astype(np.float64) + 0.5) * 2.0**-52) * scale
