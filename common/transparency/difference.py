"""Where a log begins to differ from an authentic copy of its leaf hashes, and what was done there. Pure.

The rules, in this order, at the first row that differs: two rows that changed places were *reordered*; a row whose own
entry is gone while later ones moved up was *deleted*; a row that stands before the one that belongs there was put in:
*back-dated*, for it was written after what follows it; a row that is right in all but a time that was later is
*back-dated* too; a log that stops is *truncated*; anything else is an *edit*. Each is also found where the entries were
renumbered to hide it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from common.taxonomy import Tampering
from common.transparency.findings import Finding
from common.transparency.history import History
from common.transparency.leaf import Leaf
from common.transparency.tree import HASH_BYTES, leaf_hash

Hashes = npt.NDArray[np.uint8]
LEAVES: Final = "log/leaves.jsonl"
TIMES_TRIED_MAX: Final = 200_000
"""How many seconds are tried as the time that an edited entry had."""
PLACES_TRIED_MAX: Final = 20_000
ROWS_PUT_BACK_MAX: Final = 500


def first_difference(hashes: bytes, copy: bytes) -> int | None:
    """The first row in which two columns of hashes differ; None where the shorter is the beginning of the longer."""
    length = min(len(hashes), len(copy)) // HASH_BYTES * HASH_BYTES
    ours, theirs = np.frombuffer(hashes, np.uint8)[:length], np.frombuffer(copy, np.uint8)[:length]
    if np.array_equal(ours, theirs):
        return None
    return int(np.argmax(ours != theirs)) // HASH_BYTES


def put_back(log: History, copy: bytes) -> bytes:
    """The copy of the hashes as it was before rows were moved together with their hashes; empty if none were.

    A row that was renumbered no longer hashes to what was stored with it, but does so under its old number. Whether the
    result is authentic is for the caller to see: it leads to the signed root, or it does not.
    """
    length = min(len(log), len(copy) // HASH_BYTES)
    ours = np.frombuffer(log.tree.leaves, np.uint8).reshape(-1, HASH_BYTES)[:length]
    theirs = np.frombuffer(copy, np.uint8)[: length * HASH_BYTES].reshape(-1, HASH_BYTES)
    rows = [int(row) for row in np.flatnonzero((ours != theirs).any(axis=1))]
    if not 2 <= len(rows) <= ROWS_PUT_BACK_MAX:
        return b""
    mended = bytearray(copy)
    for row in rows:
        leaf, stored = log.leaf(row), theirs[row].tobytes()
        old = (
            None
            if leaf is None
            else next((n for n in rows if leaf_hash(replace(leaf, seq=n).encode()) == stored), None)
        )
        if old is None:
            return b""
        mended[old * HASH_BYTES : (old + 1) * HASH_BYTES] = stored
    return bytes(mended)


def classify(log: History, copy: bytes) -> Finding | None:
    """What was done at the first row that differs from an authentic copy of the hashes.

    Returns:
        None if nothing differs, or the log only goes on after the copy.
    """
    there, were = len(log), len(copy) // HASH_BYTES
    row = first_difference(log.tree.leaves, copy)
    if row is None:
        if there >= were:
            return None
        return Finding(Tampering.TRUNCATION, LEAVES, there, f"the log ends here; {were - there} entries are missing")
    case = _Case(log, copy, row)
    return case.moved() or case.shifted() or case.renumbered() or case.redated() or case.edited()


class _Case:
    """One first difference."""

    def __init__(self, log: History, copy: bytes, row: int) -> None:
        self._log, self._row = log, row
        self._ours = np.frombuffer(log.tree.leaves, np.uint8).reshape(-1, HASH_BYTES)
        self._theirs = np.frombuffer(copy, np.uint8).reshape(-1, HASH_BYTES)
        self._own, self._due = self._hash(self._ours, row), self._hash(self._theirs, row)
        self._from = _place(self._theirs, self._own, row + 1)  # where the row that stands here belongs
        self._to = _place(self._ours, self._due, row + 1)  # where the row that belongs here stands

    def moved(self) -> Finding | None:
        """Rows that changed places, as they were or with new numbers."""
        if self._from is not None and self._to is not None:
            return self._reordered(self._to)
        leaf = self._log.leaf(self._row)
        if leaf is None or len(self._ours) != len(self._theirs):
            return None
        for other in self._differing():
            if leaf_hash(replace(leaf, seq=other).encode()) == self._hash(self._theirs, other):
                return self._reordered(other)
        return None

    def shifted(self) -> Finding | None:
        """Rows that are gone or were put in, with later ones as they were."""
        next_fits = self._hash(self._ours, self._row + 1) == self._hash(self._theirs, self._row + 1)
        if self._from is not None and not next_fits:
            return self._deleted(self._from - self._row)
        if self._to is not None:
            return self._inserted(self._to - self._row)
        return None

    def renumbered(self) -> Finding | None:
        """The same, with later rows renumbered: told by how many there are, and a row that fits its old number."""
        fewer = len(self._theirs) - len(self._ours)
        if fewer > 0 and self._fits(self._row, self._row + fewer):
            return self._deleted(fewer)
        if fewer < 0 and self._fits(self._row - fewer, self._row):
            return self._inserted(-fewer)
        return None

    def redated(self) -> Finding | None:
        """A row that fits under another time."""
        leaf = self._log.leaf(self._row)
        if leaf is None:
            return None
        for moment in self._moments(leaf):
            if leaf_hash(replace(leaf, time=moment).encode()) == self._due:
                later = moment > leaf.time
                kind = Tampering.BACK_DATING if later else Tampering.EDIT
                words = "dated back" if later else "dated forward"
                detail = f"it was {words}: it was written at {moment} and says {leaf.time}"
                return Finding(kind, LEAVES, self._row, detail)
        return None

    def edited(self) -> Finding:
        """Whatever is left."""
        return Finding(Tampering.EDIT, LEAVES, self._row, "it is not the entry that was signed here")

    def _reordered(self, other: int) -> Finding:
        detail = f"the entry that belongs here stands in row {other}"
        return Finding(Tampering.REORDERING, LEAVES, self._row, detail)

    def _deleted(self, count: int) -> Finding:
        return Finding(Tampering.DELETION, LEAVES, self._row, f"{count} entries that were signed here are gone")

    def _inserted(self, count: int) -> Finding:
        detail = f"{count} entries were put in before one that was signed without them"
        return Finding(Tampering.BACK_DATING, LEAVES, self._row, detail)

    def _fits(self, ours: int, theirs: int) -> bool:
        """Whether our row, numbered as theirs, is theirs."""
        leaf = self._log.leaf(ours) if 0 <= ours < len(self._ours) else None
        if leaf is None or theirs >= len(self._theirs):
            return False
        return leaf_hash(replace(leaf, seq=theirs).encode()) == self._hash(self._theirs, theirs)

    def _differing(self) -> Iterator[int]:
        """Later rows that differ too, if they are few."""
        rows = np.flatnonzero((self._ours[self._row + 1 :] != self._theirs[self._row + 1 :]).any(axis=1))
        if rows.size <= PLACES_TRIED_MAX:
            yield from (self._row + 1 + int(row) for row in rows)

    def _moments(self, leaf: Leaf) -> Iterator[int]:
        """Times that the entry may have had: between its neighbours, nearest to the later one first."""
        times, row = self._log.times, self._row
        low = times[row - 1] if row else leaf.time
        high = times[row + 1] if row + 1 < len(times) else leaf.time + TIMES_TRIED_MAX
        yield from range(min(high, low + TIMES_TRIED_MAX), low - 1, -1)

    @staticmethod
    def _hash(column: Hashes, row: int) -> bytes:
        return column[row].tobytes() if 0 <= row < len(column) else b""


def _place(column: Hashes, wanted: bytes, low: int) -> int | None:
    """The first row from ``low`` on that holds a hash."""
    words = np.ascontiguousarray(column[low:]).view(np.uint64)
    rows = np.flatnonzero((words == np.frombuffer(wanted, np.uint64)).all(axis=1))
    return low + int(rows[0]) if rows.size else None
