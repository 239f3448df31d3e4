"""A whole log, read once. Owns the columns that a verification needs, for millions of entries; judges nothing.

One pass over the lines: each is hashed as it stands (the hash binds every byte of it) and decoded into columns. A line
that does not decode is kept by its hash and named.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from common.taxonomy import LogKind
from common.transparency.hashes import PackedTree, pack_leaves
from common.transparency.leaf import Leaf
from common.transparency.tree import HASH_BYTES

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
            raw = chunk.split(b"\n")
            if not raw[-1]:
                raw.pop()
            hashes.append(pack_leaves(raw))
            lines = _decoded(chunk, raw)
            self.seqs.extend([line.seq for line in lines])
            self.times.extend([line.time for line in lines])
            self._kinds.extend([_NUMBER_OF[line.kind] for line in lines])
            actors = self._actors
            self._actor_of.extend([actors.setdefault(line.actor, len(actors)) for line in lines])
            payloads.append(b"".join([line.payload_commit for line in lines]))
            subjects.append(b"".join([line.subject_commit or NOBODY for line in lines]))
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

    def kinds(self, rows: Iterable[int]) -> list[LogKind]:
        """What some entries are about."""
        numbers = self._kinds
        return [_KINDS[numbers[row]] for row in rows]


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


def _decoded(chunk: bytes, raw: list[bytes]) -> list[Line]:
    try:
        lines = _DECODER.decode_lines(chunk)
    except (msgspec.DecodeError, ValueError):
        lines = []
    if len(lines) == len(raw) and _valid(lines):
        return lines
    return [_one(line) for line in raw]


def _valid(lines: list[Line]) -> bool:
    """Whether every field of every line has its form, looked at column by column."""
    if not lines:
        return True
    seqs, times = [line.seq for line in lines], [line.time for line in lines]
    return (
        {line.kind for line in lines} <= _NUMBER_OF.keys()
        and {len(line.payload_commit) for line in lines} == {HASH_BYTES}
        and {len(line.subject_commit) for line in lines if line.subject_commit is not None} <= {HASH_BYTES}
        and min(seqs) >= 0
        and min(times) >= 0
        and max(seqs) < _NUMBER_END
        and max(times) < _NUMBER_END
    )


def _one(raw: bytes) -> Line:
    try:
        line = _DECODER.decode(raw)
    except (msgspec.DecodeError, ValueError):
        return _BLANK
    return line if _valid([line]) else _BLANK
