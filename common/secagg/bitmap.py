"""Sets of devices as bytes: one bit per index, lowest bit of the first byte first; unused bits are zero."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from common.errors import MalformedInput

BoolArray = npt.NDArray[np.bool_]


def pack_bits(members: BoolArray) -> bytes:
    """Bytes of a membership vector, bool ``[size]``."""
    return np.packbits(members, bitorder="little").tobytes()


def bits_of(indices: Iterable[int], size: int) -> bytes:
    """Bytes of a set of indices below ``size``."""
    members = np.zeros(size, np.bool_)
    members[list(indices)] = True
    return pack_bits(members)


def unpack_bits(data: bytes, size: int, what: str) -> BoolArray:
    """Membership vector, bool ``[size]``.

    Raises:
        MalformedInput: another length, or a bit beyond ``size``: a set has one spelling.
    """
    if len(data) != (size + 7) // 8:
        raise MalformedInput(f"{what}: expected one bit for each of {size}, got {len(data)} bytes")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if bits[size:].any():
        raise MalformedInput(f"{what}: a bit beyond the last of {size}")
    return bits[:size].astype(np.bool_)
