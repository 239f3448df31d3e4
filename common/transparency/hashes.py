"""Merkle trees over packed hashes, for logs of millions of entries. Owns building them all at once; one SHA-256 a node.

Every level is one ``bytes``: the nodes of complete subtrees side by side, 32 bytes each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from common.transparency.tree import HASH_BYTES, LEAF_PREFIX, NODE_PREFIX, Node, range_hash

_PAIR: Final = 2 * HASH_BYTES
_PIECE: Final = 2_048 * _PAIR
"""Nodes that are hashed at once: what is made for them stays in the processor's cache."""


def pack_leaves(lines: Sequence[bytes]) -> bytes:
    """Leaf hashes of many lines, side by side."""
    return pack_hashes([LEAF_PREFIX + line for line in lines])


def pack_hashes(prefixed: Iterable[bytes]) -> bytes:
    """SHA-256 of each, side by side."""
    sha256 = hashlib.sha256
    return b"".join([sha256(line).digest() for line in prefixed])


class PackedTree:
    """All complete subtrees of a log.

    Attributes:
        leaves: packed leaf hashes.
        size: how many.
    """

    __slots__ = ("_levels", "leaves", "size")

    def __init__(self, leaves: bytes) -> None:
        """Hash every level above ``leaves``.

        Raises:
            ValueError: not a whole number of hashes.
        """
        if len(leaves) % HASH_BYTES:
            raise ValueError("not a whole number of hashes")
        self.leaves, self.size = leaves, len(leaves) // HASH_BYTES
        self._levels = [leaves]
        while len(self._levels[-1]) >= 2 * HASH_BYTES:
            self._levels.append(_above(self._levels[-1]))

    def __getitem__(self, node: Node) -> bytes:
        """Hash of a complete subtree."""
        start = node.place * HASH_BYTES
        return self._levels[node.level][start : start + HASH_BYTES]

    def leaf(self, seq: int) -> bytes:
        """Hash of one leaf."""
        return self.leaves[seq * HASH_BYTES : (seq + 1) * HASH_BYTES]

    def root(self, size: int) -> bytes:
        """Root of the first ``size`` leaves."""
        return range_hash((0, size), self.__getitem__)


def _above(level: bytes) -> bytes:
    whole = len(level) - len(level) % _PAIR
    return b"".join([_pairs(level[at : min(at + _PIECE, whole)]) for at in range(0, whole, _PIECE)])


def _pairs(level: bytes) -> bytes:
    sha256 = hashlib.sha256
    return b"".join([sha256(NODE_PREFIX + level[at : at + _PAIR]).digest() for at in range(0, len(level), _PAIR)])
