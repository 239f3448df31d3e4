"""Masks and packing: ChaCha20 expansion of a full 256-bit seed to integers modulo 2^bits. Owns nothing else.

Work happens in the machine word that holds the modulus: 16 bits in uint16, 24 and 32 bits in uint32 (2^24 divides 2^32,
so the reduction may wait until the end). A seed is used for one mask only, with RFC 8439's stream from block 0 and an
all-zero nonce, so no two masks share a block.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from common.crypto.keystream import KEY_BYTES, Keystream
from common.errors import DtypeMismatch, OutOfRange, ShapeMismatch

SEED_BYTES: Final = KEY_BYTES
WordArray = npt.NDArray[np.unsignedinteger[Any]]
IntVector = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]


def word_type(bits: int) -> type[np.uint16 | np.uint32]:
    """The machine word for a modulus."""
    return np.uint16 if bits == 16 else np.uint32


def expand(seed: bytes, length: int, bits: int) -> WordArray:
    """The mask of a seed: ``[length]`` words, uniform modulo 2^bits to whoever does not know the seed.

    Args:
        seed: 32 secret bytes that have no other use.
        length: coordinates.
        bits: modulus.
    """
    word = np.dtype(word_type(bits)).newbyteorder("<")
    return np.frombuffer(Keystream(seed).read(length * word.itemsize), word)


def to_words(vector: IntVector, length: int, bits: int) -> WordArray:
    """A signed integer vector as residues, in words.

    Args:
        vector: int64 ``[length]``, each within ±2^(bits-1).
        length: coordinates that the terms promise.
        bits: modulus.

    Raises:
        DtypeMismatch, ShapeMismatch, OutOfRange: it is not that.
    """
    if getattr(vector, "dtype", None) != np.int64:
        raise DtypeMismatch("a vector to be masked is int64")
    if vector.shape != (length,):
        raise ShapeMismatch(f"a vector to be masked has {length} coordinates, not {vector.shape}")
    half = 1 << (bits - 1)
    if vector.min() < -half or vector.max() >= half:
        raise OutOfRange(f"a coordinate does not fit into {bits} bits")
    return vector.astype(word_type(bits))


def pack(words: WordArray, bits: int) -> bytes:
    """Little-endian bytes, bits/8 for each coordinate."""
    if bits == 24:
        return np.ascontiguousarray(words.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3]).tobytes()
    return words.astype(f"<u{bits // 8}").tobytes()


def unpack(payload: bytes | ByteArray, length: int, bits: int) -> WordArray:
    """Words ``[length]`` of packed bytes.

    Raises:
        DtypeMismatch: an array of something else than bytes.
        ShapeMismatch: another number of bytes.
    """
    data = payload if isinstance(payload, np.ndarray) else np.frombuffer(payload, np.uint8)
    if data.dtype != np.uint8:
        raise DtypeMismatch("a masked vector travels as bytes")
    if data.shape != (length * bits // 8,):
        raise ShapeMismatch(f"a masked vector of {length} coordinates has {length * bits // 8} bytes, not {data.size}")
    if bits == 24:
        wide = np.zeros((length, 4), np.uint8)
        wide[:, :3] = data.reshape(length, 3)
        return wide.view("<u4").reshape(length)
    return np.ascontiguousarray(data).view(f"<u{bits // 8}")


def centred(words: WordArray, bits: int) -> IntVector:
    """Residues as integers in [-2^(bits-1), 2^(bits-1)), int64."""
    half = 1 << (bits - 1)
    residues = words.astype(np.int64) & ((1 << bits) - 1)
    return (residues + half & ((1 << bits) - 1)) - half
