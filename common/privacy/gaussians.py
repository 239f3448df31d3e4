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
# The best polynomial of one degree less on the same branch (Remez; 2.7e-7 off at most), for single precision.
_SHORTER = np.array(
    [
        -4.46372318e-07,
        -4.50552058e-06,
        5.79006624e-06,
        0.00030735957,
        0.00177431687,
        -0.00590612186,
        -0.348803642,
        2.12331322,
    ]
)
_SHIFT = np.float32(_CENTRAL / 2)
_UPPER, _EXPONENT = np.uint64(12), np.uint64(0x400 << 52)
_EXPONENT_AND_ONE = _EXPONENT | np.uint64(1)
Floats = npt.NDArray[np.float64] | npt.NDArray[np.float32]


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
        result: float64 or float32 ``[n]``. The latter is computed in single precision, but for the tails: within a
            relative 1e-6 as well, or 2^-51 of ``scale`` next to 0.
        scale: the standard deviation, or minus it.
    """
    in_single = result.dtype == np.float32
    for start in range(0, result.size, BLOCK):
        part = result[start : start + BLOCK]
        bits = np.frombuffer(read(8 * part.size), "<u8")
        words = np.right_shift(bits, _UPPER)
        tails = _single_block(part, words, scale) if in_single else _double_block(part, words, scale)
        part[tails] = ndtri(((bits[tails] >> _UPPER).astype(np.float64) + 0.5) * 2.0**-52) * scale


def _single_block(result: Floats, words: npt.NDArray[np.uint64], scale: float) -> npt.NDArray[np.intp]:
    """As ``_double_block``; few passes, each over memory in cache. The lowest of the 52 bits counts as 1."""
    single, value = np.empty(result.size, np.float32), np.empty(result.size, np.float32)
    words |= _EXPONENT_AND_ONE
    odd = words.view(np.float64)
    odd -= 3
    single[:] = odd
    odd *= odd
    np.subtract(1, odd, out=odd)
    result[:] = odd
    np.log(result, out=result)
    tails = (result < -_CENTRAL).nonzero()[0]
    result += _SHIFT
    _evaluate((_SHORTER * scale).astype(np.float32), result, value)
    np.multiply(value, single, out=result)
    return tails


def _double_block(result: Floats, words: npt.NDArray[np.uint64], scale: float) -> npt.NDArray[np.intp]:
    """Overwrite ``result`` by the polynomial's Gaussians of 52 bits each, and say where it does not hold."""
    depth, value = np.empty(result.size, np.float32), np.empty(result.size, np.float32)
    words |= _EXPONENT
    odd = words.view(np.float64)  # 2 + bits / 2^51
    odd -= 3
    odd += 2.0**-52  # 2u - 1 for the uniform u of NoiseSource, every step exact
    np.multiply(odd, odd, out=result)
    np.subtract(1, result, out=result)
    depth[:] = result
    np.log(depth, out=depth)  # -w of the source
    tails = (depth < -_CENTRAL).nonzero()[0]
    depth += _SHIFT
    _evaluate(_ALTERNATING, depth, value)
    result[:] = value
    result *= odd
    if scale != 1:
        result *= scale
    return tails


def _evaluate(coefficients: npt.NDArray[np.float32], argument: Floats, value: npt.NDArray[np.float32]) -> None:
    """Overwrite ``value`` with the polynomial, highest coefficient first, by Horner's rule."""
    first, *middle, last = coefficients
    np.multiply(argument, first, out=value)
    for coefficient in middle:
        value += coefficient
        value *= argument
    value += last
