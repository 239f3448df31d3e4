"""Recomputing the whole log from what is stored: every leaf, every record, the tree, every checkpoint.

Read page by page, so that neither memory nor a transaction grows with the log, and whoever waits is told how far it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from common.crypto.signing import PublicKey
from common.errors import TrustError
from common.transparency import tree
from common.transparency.checkpoint import open_checkpoint
from server.transparency.repository import StoredEntry
from server.transparency.service import TransparencyLog

PAGE: Final = 5_000


@dataclass(frozen=True, slots=True)
class Recomputed:
    """How far it is, or at the end what was found.

    Attributes:
        entries: how many were recomputed.
        size: how many there are.
        first_bad: the first entry that does not hash to what it should; None if all do.
        bad_checkpoints: sizes of checkpoints that do not fit, or are signed by nobody we know.
        checkpoints: how many were held to it.
        ended: whether this is the result.
    """

    entries: int
    size: int
    seconds: float
    first_bad: int | None
    bad_checkpoints: tuple[int, ...]
    checkpoints: int
    ended: bool = False

    @property
    def good(self) -> bool:
        """Whether everything fits."""
        return self.first_bad is None and not self.bad_checkpoints


def recompute(log: TransparencyLog, keys: Mapping[str, PublicKey]) -> Iterator[Recomputed]:
    """Hash every entry anew, rebuild the tree and compare every signed checkpoint with it; the last word is the result.

    Entries that come while it runs are left for the next time.
    """
    began = time.perf_counter()
    log.checkpoint()
    wanted = {stored.size: stored.note for stored in log.checkpoints()}
    known, size, work = len(wanted), max(wanted, default=0), _Work(log.origin, keys, wanted)
    for low in range(0, size, PAGE):
        for entry in log.between(low, min(low + PAGE, size)):
            work.take(entry)
        yield Recomputed(work.done, size, time.perf_counter() - began, work.first_bad, tuple(work.bad), known)
    bad = tuple(sorted({*work.bad, *wanted}))
    yield Recomputed(work.done, size, time.perf_counter() - began, work.first_bad, bad, known, ended=True)


class _Work:
    """What has been recomputed so far; complete subtrees largest first (RFC 9162, 2.1)."""

    def __init__(self, origin: str, keys: Mapping[str, PublicKey], wanted: dict[int, str]) -> None:
        self._origin, self._keys, self._wanted = origin, keys, wanted
        self._subtrees: list[tuple[int, bytes]] = []
        self.done, self.bad = 0, list[int]()
        self.first_bad: int | None = None

    def take(self, entry: StoredEntry) -> None:
        """The next entry."""
        leaf_hash = tree.leaf_hash(entry.leaf.encode())
        genuine = leaf_hash == entry.leaf_hash and entry.leaf.seq == self.done
        if self.first_bad is None and not (genuine and (entry.opening is None or entry.opening.opens(entry.leaf))):
            self.first_bad = self.done
        self.done += 1
        size, found = 1, leaf_hash
        while self._subtrees and self._subtrees[-1][0] == size:
            found, size = tree.node_hash(self._subtrees.pop()[1], found), size * 2
        self._subtrees.append((size, found))
        if self.done in self._wanted and not self._fits(self._wanted.pop(self.done)):
            self.bad.append(self.done)

    def _fits(self, note: str) -> bool:
        try:
            signed = open_checkpoint(note, self._keys, origin=self._origin).checkpoint
        except TrustError:
            return False
        (_, found), *rest = reversed(self._subtrees)
        for _, left in rest:
            found = tree.node_hash(left, found)
        return signed.root == found and signed.size == self.done
