"""The Merkle tree of RFC 9162 §2.1. Owns how hashes are combined, which subtrees a proof needs, and how proofs verify.

A complete subtree never changes once its last leaf is there, so a tree is kept as the hashes of its complete subtrees:
``Node(level, place)`` covers the leaves ``[place·2^level, (place+1)·2^level)``. The root of any size and every proof
are folds of O(log n) such nodes; appending a leaf completes two of them on average.

**Source:** RFC 9162 §2.1 (hashes, proofs, verification); RFC 6962 test vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from common.errors import ContractError, InvalidProof

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
LEAF_PREFIX: Final = b"\x00"
NODE_PREFIX: Final = b"\x01"


class Node(NamedTuple):
    """A complete subtree of 2^level leaves."""

    level: int
    place: int

    @property
    def last(self) -> int:
        """The leaf that completes it."""
        return ((self.place + 1) << self.level) - 1


Range = tuple[int, int]
"""Leaves ``[low, high)``; ``low`` is a multiple of the largest power of two below ``high - low``."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf."""
    return hashlib.sha256(LEAF_PREFIX + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(NODE_PREFIX + left + right).digest()


# ── structure ────────────────────────────────────────────────────────────────────────────────────────────────────────


def peaks(low: int, high: int) -> list[Node]:
    """The complete subtrees that make up a range, from left to right."""
    found, start = [], low
    for level in range((high - low).bit_length() - 1, -1, -1):
        if (high - low) >> level & 1:
            found.append(Node(level, start >> level))
            start += 1 << level
    return found


def merged(size: int) -> list[Node]:
    """The complete subtrees that leaf number ``size`` swallows when it is appended, from right to left."""
    found, level = [], 0
    while size >> level & 1:
        found.append(Node(level, (size >> level) - 1))
        level += 1
    return found


def completed(leaf: bytes, swallowed: Sequence[bytes]) -> bytes:
    """Hashes of all subtrees that a new leaf completes, itself first, 32 bytes each.

    Args:
        leaf: the leaf's hash.
        swallowed: hashes of ``merged(size)``, in its order.
    """
    hashes = [leaf]
    for left in swallowed:
        hashes.append(node_hash(left, hashes[-1]))
    return b"".join(hashes)


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The subtrees whose hashes prove that a leaf is in a tree, from the leaf upwards (RFC 9162 §2.1.3.1).

    Raises:
        ContractError: the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ContractError(f"a log of {size} entries has no entry {index}")
    found: list[Range] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            found.append((middle, high))
            high = middle
        else:
            found.append((low, middle))
            low = middle
    return found[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """The subtrees whose hashes prove that a tree only grew (RFC 9162 §2.1.4.1).

    Raises:
        ContractError: not ``0 < old <= new``.
    """
    if not 0 < old <= new:
        raise ContractError(f"there is no proof from {old} to {new} entries")
    found: list[Range] = []
    low, high, whole = 0, new, True
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            found.append((middle, high))
            high = middle
        else:
            found.append((low, middle))
            low, whole = middle, False
    if not whole:
        found.append((low, high))
    return found[::-1]


def nodes_of(ranges: Iterable[Range]) -> list[Node]:
    """Every complete subtree that is needed to hash these ranges."""
    return [node for low, high in ranges for node in peaks(low, high)]


def range_hash(bounds: Range, nodes: Mapping[Node, bytes] | Callable[[Node], bytes]) -> bytes:
    """Hash of a range, folded from its complete subtrees; that of no leaves is the hash of nothing."""
    fetch = nodes.__getitem__ if isinstance(nodes, Mapping) else nodes
    parts = [fetch(node) for node in peaks(*bounds)]
    if not parts:
        return EMPTY_ROOT
    folded = parts.pop()
    while parts:
        folded = node_hash(parts.pop(), folded)
    return folded


class Frontier:
    """A tree that only grows, kept as its peaks: O(log n) of memory, O(1) amortised per leaf.

    Attributes:
        size: how many leaves it has.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self._peaks: list[bytes] = []
        self.size = 0

    def append(self, leaf: bytes) -> None:
        """Add a leaf, by its hash."""
        folded = leaf
        for _ in merged(self.size):
            folded = node_hash(self._peaks.pop(), folded)
        self._peaks.append(folded)
        self.size += 1

    def root(self) -> bytes:
        """Root of the leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        folded = self._peaks[-1]
        for peak in self._peaks[-2::-1]:
            folded = node_hash(peak, folded)
        return folded


# ── verification ─────────────────────────────────────────────────────────────────────────────────────────────────────


def root_of_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162 §2.1.3.2). Compare it with a signed one.

    Raises:
        InvalidProof: too short or too long for this place in a tree of this size.
    """
    if not 0 <= index < size:
        raise InvalidProof("the proof is for a place outside the tree")
    place, last, folded = index, size - 1, leaf
    for step in path:
        if last == 0:
            raise InvalidProof("the inclusion proof is too long")
        if place & 1 or place == last:
            folded = node_hash(step, folded)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            folded = node_hash(folded, step)
        place, last = place >> 1, last >> 1
    if last:
        raise InvalidProof("the inclusion proof is too short")
    return folded


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf is at its place in the tree of a root.

    Raises:
        InvalidProof: it is not proven.
    """
    if root_of_inclusion(leaf, index, size, path) != root:
        raise InvalidProof("the inclusion proof does not lead to the root")


def verify_consistency(old: int, new: int, path: Sequence[bytes], *, old_root: bytes, new_root: bytes) -> None:
    """Check that the tree of ``new_root`` begins with the whole tree of ``old_root`` (RFC 9162 §2.1.4.2).

    Raises:
        InvalidProof: it is not proven.
    """
    if old == new and old_root == new_root and not path:
        return
    if not 0 < old < new or not path:
        raise InvalidProof("the consistency proof does not fit the two sizes")
    steps = list(path) if old & (old - 1) else [old_root, *path]
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise InvalidProof("the consistency proof is too long")
        if place & 1 or place == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, step)
        place, last = place >> 1, last >> 1
    if last or first != old_root or second != new_root:
        raise InvalidProof("the consistency proof does not lead from the old root to the new one")


def _split(size: int) -> int:
    """The largest power of two smaller than ``size`` (which is 2 or more)."""
    return 1 << ((size - 1).bit_length() - 1)
