"""Shamir's secret sharing over GF(2^16), many secrets at once. Owns the field; never keeps a secret.

Each pair of secret bytes is shared by a polynomial of its own whose other coefficients are uniform, so fewer than
``threshold`` shares say nothing about the secret, whatever the computing power. The field has 65,535 points: one for
each possible neighbour, and shares as long as the secret.

Arithmetic by tables of logarithms: the tables are indexed by share values in the clear, on the device that owns them.
Chosen by measurement (bench/secagg.py) over Python integers modulo a prime beyond 2^256: equal near 100 neighbours,
faster beyond, and shares of 64 bytes rather than 66.

Source: Shamir 1979. Field: x^16 + x^12 + x^3 + x + 1, primitive.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Entropy = Callable[[int], bytes]
SymbolArray = npt.NDArray[np.uint16]
_Exponents = npt.NDArray[np.int32]

POINTS_MAX: Final = 65_535
_POLYNOMIAL: Final = 0x1100B
_ORDER: Final = 65_535
_LOG_ZERO: Final = 2 * _ORDER  # beyond every sum of two logarithms: the exponential of it is zero


def split(secret: bytes, *, threshold: int, count: int, entropy: Entropy) -> list[bytes]:
    """Shares of a secret at the points 1 to ``count``.

    Args:
        secret: an even number of bytes.
        threshold: how many shares are needed, 1 to ``count``.
        count: how many are made, at most ``POINTS_MAX``.
        entropy: cryptographically secure bytes.

    Returns:
        ``count`` shares, each as long as the secret.

    **Privacy:** any ``threshold - 1`` of them are independent of the secret.
    """
    if len(secret) % 2 or not 1 <= threshold <= count <= POINTS_MAX:
        raise ValueError("cannot share: even length, 1 <= threshold <= count <= 65535")
    width = len(secret) // 2
    random = np.frombuffer(entropy((threshold - 1) * width * 2), "<u2").reshape(threshold - 1, width)
    exponential, logarithm = _tables()
    values = np.broadcast_to(np.frombuffer(secret, "<u2"), (count, width)).copy()
    if threshold > 1:
        products = exponential[_powers(count, threshold)[:, :, None] + logarithm[random][None]]
        values ^= np.bitwise_xor.reduce(products, axis=1)
    return [row.tobytes() for row in values.astype("<u2")]


def weights(points: npt.NDArray[np.intp]) -> SymbolArray:
    """Lagrange weights at zero of distinct points in 1..65535, ``[len(points)]``."""
    exponential, logarithm = _tables()
    x = points.astype(np.int64)
    logs = logarithm[x].astype(np.int64)
    differences = logarithm[x[:, None] ^ x[None, :]].astype(np.int64)
    np.fill_diagonal(differences, 0)
    return np.asarray(exponential[((logs.sum() - logs) - differences.sum(axis=1)) % _ORDER], np.uint16)


def combine(points: npt.NDArray[np.intp], shares: SymbolArray) -> bytes:
    """The secret behind at least ``threshold`` shares.

    Args:
        points: distinct, where the shares were made.
        shares: uint16 ``[len(points), len(secret) / 2]``.
    """
    exponential, logarithm = _tables()
    products = exponential[logarithm[weights(points)][:, None] + logarithm[shares]]
    return bytes(np.bitwise_xor.reduce(products, axis=0).astype("<u2").tobytes())


@lru_cache(maxsize=8)
def _powers(count: int, threshold: int) -> _Exponents:
    """Logarithms of x^i, for x = 1..count and i = 1..threshold-1."""
    _, logarithm = _tables()
    logs = logarithm[1 : count + 1].astype(np.int64)
    return (logs[:, None] * np.arange(1, threshold) % _ORDER).astype(np.int32)


@lru_cache(maxsize=1)
def _tables() -> tuple[SymbolArray, _Exponents]:
    """Exponentials and logarithms to the generator 2."""
    powers = [1] * _ORDER
    for i in range(1, _ORDER):
        doubled = powers[i - 1] << 1
        powers[i] = doubled ^ _POLYNOMIAL if doubled & 0x10000 else doubled
    exponential = np.zeros(2 * _LOG_ZERO + 1, np.uint16)
    exponential[:_LOG_ZERO] = powers * 2
    logarithm = np.empty(_ORDER + 1, np.int32)
    logarithm[powers] = np.arange(_ORDER)
    logarithm[0] = _LOG_ZERO
    return exponential, logarithm
