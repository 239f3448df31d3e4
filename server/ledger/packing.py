"""Compact forms of the server's ledger. Owns how members of a charge and spends of a subject become bytes. Pure.

Numbers are ascending; their differences are written as LEB128 (seven bits a byte) and deflated. Half of a million
numbers, drawn at random, take two and a half bits each; consecutive ones next to nothing.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from common.errors import StoreError

Numbers = npt.NDArray[np.int64]
Spend = tuple[tuple[int, int], ...]
"""What one subject has spent: (use, times), ascending by use."""

_BYTES_MAX: Final = 10
_SIZE_MAX: Final = 1 << 28


def pack_members(numbers: Iterable[int]) -> bytes:
    """A set of positive numbers as bytes."""
    ordered = np.unique(np.fromiter(numbers, np.int64))
    return zlib.compress(_leb128(np.diff(ordered, prepend=0)), 6)


def unpack_members(data: bytes) -> Numbers:
    """The inverse of ``pack_members``, ascending.

    Raises:
        StoreError: not such bytes.
    """
    try:
        return np.cumsum(_from_leb128(zlib.decompressobj().decompress(data, _SIZE_MAX)))
    except zlib.error:
        raise _damaged() from None


def pack_spend(spend: Spend) -> bytes:
    """What one subject has spent as bytes: a few for each use, equal for equal spends."""
    return _leb128(np.array(sorted(spend), np.int64).reshape(-1))


@functools.lru_cache(maxsize=1 << 14)  # devices of one history have equal bytes
def unpack_spend(data: bytes) -> Spend:
    """The inverse of ``pack_spend``.

    Raises:
        StoreError: not such bytes.
    """
    values = _from_leb128(data).tolist()
    if len(values) % 2:
        raise _damaged()
    return tuple(zip(values[::2], values[1::2], strict=True))


def _leb128(values: Numbers) -> bytes:
    """Values in [0, 2^63) as LEB128."""
    groups = [(values >> shift) & 0x7F for shift in range(0, 63, 7)]
    longer = [values >= (1 << shift) for shift in range(7, 63, 7)]
    table = np.stack(groups, axis=1).astype(np.uint8)
    more = np.stack([*longer, np.zeros(len(values), bool)], axis=1)
    table[more] |= 0x80
    present = np.concatenate([np.ones((len(values), 1), bool), more[:, :-1]], axis=1)
    return bytes(table[present])


def _from_leb128(data: bytes) -> Numbers:
    raw = np.frombuffer(data, np.uint8)
    if not raw.size:
        return np.empty(0, np.int64)
    last = np.flatnonzero(raw < 0x80)
    if not last.size or last[-1] != raw.size - 1:
        raise _damaged()
    first = np.concatenate([[0], last[:-1] + 1])
    if int((last - first).max()) >= _BYTES_MAX - 1:
        raise _damaged()
    place = np.arange(raw.size) - np.repeat(first, last - first + 1)
    return np.add.reduceat((raw & 0x7F).astype(np.int64) << (7 * place), first)


def _damaged() -> StoreError:
    return StoreError("a row of the server's privacy ledger is damaged: nothing may be charged to it")
