"""A whole log, read once. Owns the columns that a verification needs, for millions of entries; judges nothing.

One pass over the lines: each is hashed as it stands (the hash binds every byte of it) and decoded into columns. A line
that does not decode is kept by its hash and named.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from common.taxonomy import LogKind
from common.transparency.hashes import PackedTree, pack_hashes
from common.transparency.leaf import Leaf
from common.transparency.tree import HASH_BYTES, LEAF_PREFIX

NOBODY: Final = bytes(HASH_BYTES)
"""Stands for the commitment of an entry about nobody, in columns."""
_KINDS: Final = tuple(LogKind)
_NUMBER_OF: Final = {kind.value: number for number, kind in enumerate(_KINDS)}
_UNREADABLE: Final = -1
_NUMBER_END: Final = 1 << 53


class Line(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A leaf, decoded."""

    actor: str
    kind: str
    payload_commit: bytes
    seq: int
    subject_commit: bytes | None
    time: int


_BLANK: Final = Line("", LogKind.CONSENT.value, NOBODY, _UNREADABLE, None, 0)
_DECODER: Final = msgspec.json.Decoder(Line)


class History:
    """The columns of a log.

    Attributes:
        tree: over the hashes of the lines as they stand.
        seqs, times: as the lines say; -1 and 0 where a line does not decode.
        payloads: commitments, 32 bytes each.
        subjects: commitments; ``NOBODY`` for entries about nobody.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """Read a log.

        Args:
            chunks: JSON lines, each chunk made of whole ones.
        """
        self.seqs, self.times, self._kinds = array("q"), array("q"), bytearray()
        self._actors, self._actor_of = dict[str, int](), array("l")
        hashes, payloads, subjects = [], [], []
        for chunk in chunks:
            # A line feed is the end of a line and nothing else: every line with the prefix that its hash has.
            raw = (LEAF_PREFIX + chunk).replace(b"\n", b"\n" + LEAF_PREFIX).split(b"\n")
            if len(raw[-1]) == len(LEAF_PREFIX):
                raw.pop()
            hashes.append(pack_hashes(raw))
            columns = _decoded(chunk, raw)
            self.seqs.extend(columns.seqs)
            self.times.extend(columns.times)
            self._kinds += bytes(map(_NUMBER_OF.__getitem__, columns.kinds))
            for actor in set(columns.actors) - self._actors.keys():
                self._actors[actor] = len(self._actors)
            self._actor_of.extend(map(self._actors.__getitem__, columns.actors))
            payloads.append(b"".join(columns.payloads))
            subjects.append(b"".join(columns.subjects))
        self.payloads, self.subjects = b"".join(payloads), b"".join(subjects)
        self.tree = PackedTree(b"".join(hashes))

    def __len__(self) -> int:
        """How many entries there are."""
        return self.tree.size

    def leaf(self, row: int) -> Leaf | None:
        """The entry in a row, as it says it is; None if it does not decode."""
        if self.seqs[row] == _UNREADABLE:
            return None
        at, actors = row * HASH_BYTES, list(self._actors)
        subject = self.subjects[at : at + HASH_BYTES]
        return Leaf(
            seq=self.seqs[row],
            time=self.times[row],
            kind=self.kind(row),
            actor=actors[self._actor_of[row]],
            subject_commit=None if subject == NOBODY else subject,
            payload_commit=self.payloads[at : at + HASH_BYTES],
        )

    def kind(self, row: int) -> LogKind:
        """What an entry is about."""
        return _KINDS[self._kinds[row]]

    def of_kinds(self, rows: Sequence[int], wanted: Iterable[LogKind]) -> list[tuple[int, LogKind]]:
        """Which of some entries are of some kinds: their places among ``rows``, and what they are about."""
        there = np.zeros(len(_KINDS), np.bool_)
        there[[_NUMBER_OF[kind.value] for kind in wanted]] = True
        numbers = np.frombuffer(self._kinds, np.uint8)[np.asarray(rows, np.int64)]
        return [(int(at), _KINDS[numbers[at]]) for at in np.flatnonzero(there[numbers])]


def whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut at the ends of lines."""
    rest = b""
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest += block
    if rest:
        yield rest


class _Columns:
    """Lines by column."""

    __slots__ = ("actors", "kinds", "payloads", "seqs", "subjects", "times")

    def __init__(self, lines: list[Line]) -> None:
        self.seqs, self.times = [line.seq for line in lines], [line.time for line in lines]
        self.kinds, self.actors = [line.kind for line in lines], [line.actor for line in lines]
        self.payloads = [line.payload_commit for line in lines]
        self.subjects = [NOBODY if line.subject_commit is None else line.subject_commit for line in lines]

    @property
    def valid(self) -> bool:
        """Whether every field of every line has its form."""
        if not self.seqs:
            return True
        return (
            set(self.kinds) <= _NUMBER_OF.keys()
            and set(map(len, self.payloads)) == {HASH_BYTES}
            and set(map(len, self.subjects)) == {HASH_BYTES}
            and min(self.seqs) >= 0
            and min(self.times) >= 0
            and max(self.seqs) < _NUMBER_END
            and max(self.times) < _NUMBER_END
        )


def _decoded(chunk: bytes, raw: list[bytes]) -> _Columns:
    try:
        lines = _DECODER.decode_lines(chunk)
    except (msgspec.DecodeError, ValueError):
        lines = []
    if len(lines) == len(raw):
        columns = _Columns(lines)
        if columns.valid:
            return columns
    return _Columns([_one(line[len(LEAF_PREFIX) :]) for line in raw])


def _one(raw: bytes) -> Line:
    try:
        line = _DECODER.decode(raw)
    except (msgspec.DecodeError, ValueError):
        return _BLANK
    return line if _Columns([line]).valid else _BLANK
