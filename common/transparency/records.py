"""The records beside a log: whether each is what its entry commits to, and which are not there. Pure.

A record that is missing was erased at a person's request or is withheld: the two cannot be told apart, and need not be.
Entries about nobody are never erased, so a missing record of theirs is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from common.errors import MalformedInput
from common.taxonomy import Tampering
from common.transparency.findings import Finding, Gap
from common.transparency.hashes import pack_hashes
from common.transparency.history import History
from common.transparency.leaf import SALT_BYTES, subject_text
from common.transparency.tree import HASH_BYTES

RECORDS: Final = "log/records.jsonl"


class RecordLine(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What opens one entry."""

    seq: int
    salt: bytes
    record: msgspec.Raw
    subject: str | None = None
    subject_salt: bytes | None = None


_DECODER: Final = msgspec.json.Decoder(RecordLine)
Seen = Callable[[Sequence[RecordLine], History], None]
"""Told of records that fit their entries, many at a time."""


@dataclass(frozen=True, slots=True)
class RecordReport:
    """What was found.

    Attributes:
        opened: records that are what their entries commit to.
        finding: the first that is not.
    """

    opened: int
    finding: Finding | None
    gaps: tuple[Gap, ...]


def check_records(chunks: Iterable[bytes], log: History, seen: Seen | None = None) -> RecordReport:
    """Hold every record to its entry.

    Args:
        chunks: JSON lines by ascending number, each chunk made of whole ones.
        log: the entries.
        seen: told of every record that fits.
    """
    there, opened, newest = np.zeros(len(log), np.bool_), 0, -1
    for chunk in chunks:
        try:
            lines = _DECODER.decode_lines(chunk)
        except (msgspec.DecodeError, ValueError):
            return _stopped(opened, newest + 1, "a record that cannot be read stands here")
        if not lines:
            continue
        seqs = np.array([line.seq for line in lines], np.int64)
        if seqs[0] <= newest or (np.diff(seqs) <= 0).any() or seqs[-1] >= len(log):
            return _stopped(opened, newest + 1, "records are not in the order of their entries, or of no entry")
        wrong = _first_wrong(lines, seqs, log)
        if wrong is not None:
            return _stopped(opened + wrong, int(seqs[wrong]), "the record is not the one that its entry commits to")
        newest, opened = int(seqs[-1]), opened + len(lines)
        there[seqs] = True
        if seen is not None:
            seen(lines, log)
    return RecordReport(opened, None, _missing(log, there))


def encode_record(
    *, seq: int, salt: bytes, record: bytes, subject: str | None = None, subject_salt: bytes | None = None
) -> bytes:
    """One line, its end included.

    Raises:
        MalformedInput: the record holds a line break, so it is not canonical JSON.
    """
    if b"\n" in record:
        raise MalformedInput("the record of a log entry is not canonical JSON")
    return msgspec.json.encode(RecordLine(seq, salt, msgspec.Raw(record), subject, subject_salt)) + b"\n"


def _first_wrong(lines: list[RecordLine], seqs: np.ndarray[tuple[int], np.dtype[np.int64]], log: History) -> int | None:
    """The first line that does not open its entry."""
    if set(map(len, [line.salt for line in lines])) != {SALT_BYTES}:
        return next(at for at, line in enumerate(lines) if len(line.salt) != SALT_BYTES)
    payloads = pack_hashes([line.salt + line.record for line in lines])
    subjects = _subjects(lines)
    wrong = None
    for found, committed in ((payloads, log.payloads), (subjects, log.subjects)):
        due = np.frombuffer(committed, np.uint8).reshape(-1, HASH_BYTES)[seqs]
        differing = np.flatnonzero((np.frombuffer(found, np.uint8).reshape(-1, HASH_BYTES) != due).any(axis=1))
        if differing.size:
            wrong = min(int(differing[0]), len(lines) if wrong is None else wrong)
    return wrong


def _subjects(lines: list[RecordLine]) -> bytes:
    """What the lines commit to as whom they are about, packed."""
    about = [line for line in lines if line.subject is not None]
    texts = [subject_text(line.subject or "") for line in about]
    found = pack_hashes([(line.subject_salt or b"") + text for line, text in zip(about, texts, strict=True)])
    if len(about) == len(lines):
        return found
    columns = np.zeros((len(lines), HASH_BYTES), np.uint8)
    columns[[line.subject is not None for line in lines]] = np.frombuffer(found, np.uint8).reshape(-1, HASH_BYTES)
    return columns.tobytes()


def _missing(log: History, there: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[Gap, ...]:
    gone = np.flatnonzero(~there)
    if not gone.size:
        return ()
    subjects = np.frombuffer(log.subjects, np.uint8).reshape(-1, HASH_BYTES)[gone]
    personal = int(subjects.any(axis=1).sum())
    gaps = []
    if personal:
        detail = "records about people are not there: erased at their request, or withheld; their entries stand"
        gaps.append(Gap(RECORDS, personal, detail, expected=True))
    if gone.size > personal:
        first = int(gone[~subjects.any(axis=1)][0])
        detail = f"records about nobody are not there, the first that of entry {first}: no request erases those"
        gaps.append(Gap(RECORDS, int(gone.size) - personal, detail))
    return tuple(gaps)


def _stopped(opened: int, row: int, detail: str) -> RecordReport:
    return RecordReport(opened, Finding(Tampering.EDIT, RECORDS, row, detail), ())
