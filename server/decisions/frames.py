"""What a worker and the sequencer say to each other. Owns the frames: four bytes of length, then MessagePack.

A worker says first by which rules it decides. Then each of its frames is a batch of asks, and each frame that comes
back is what became of that batch, in the same order.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from common.taxonomy import Purpose, RefusalReason
from policies import consent, schema
from policies.consent import Permit, Refusal
from server.decisions import asking, committing, judging, repository, seen
from server.decisions.asking import Ask, Under
from server.decisions.committing import Entry, Outcome

FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
_REFUSALS: Final = {reason: Refusal(Purpose.PLACE_PERSONALISED, reason) for reason in RefusalReason}
_LENGTH: Final = struct.Struct(">I")
_JUDGING: Final = (asking, committing, consent, judging, repository, schema, seen)


def _digest(*files: str | None) -> str:
    """SHA-256 over sources as they are on the disk now."""
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files if file is not None)).hexdigest()


CODE: Final = _digest(__file__, *(module.__file__ for module in _JUDGING))
"""What judges and writes decisions, as it was loaded: two installations of the software in one place do not mix."""


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """By which rules a worker decides; only a sequencer of the same commits for it.

    Attributes:
        code: ``CODE``.
        database: its URL.
        rules: digest of the purposes document.
    """

    code: str
    database: str
    rules: str


class Word(msgspec.Struct, frozen=True, array_like=True):
    """What became of one ask.

    Attributes:
        reason: of a refusal; None with a permit or without a verdict.
        valid_until, notice_digest: of a permit.
    """

    outcome: Outcome
    reason: RefusalReason | None = None
    valid_until: float | None = None
    notice_digest: str = ""
    jurisdiction: str | None = None


class Batch(msgspec.Struct, array_like=True):
    """Asks, each with the place of what it was made under."""

    unders: list[Under]
    asks: list[tuple[int, Ask]]


_encode: Final = msgspec.msgpack.Encoder().encode
_hello: Final = msgspec.msgpack.Decoder(Hello).decode
_batch: Final = msgspec.msgpack.Decoder(Batch).decode
_words: Final = msgspec.msgpack.Decoder(list[Word]).decode


class FrameError(Exception):
    """What arrived is no frame of this form."""


class Inbox:
    """Puts frames together out of what arrives in pieces."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def frames(self, data: bytes) -> Iterator[bytes]:
        """The frames that these bytes complete.

        Raises:
            FrameError: a frame is longer than any may be.
        """
        self._bytes += data
        while len(self._bytes) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._bytes)[0]
            if end > FRAME_BYTES_MAX:
                raise FrameError("a frame is too long")
            if len(self._bytes) < end:
                return
            frame = bytes(self._bytes[_LENGTH.size : end])
            del self._bytes[:end]
            yield frame


def greeting(hello: Hello) -> bytes:
    """A worker's first frame."""
    return _framed(_encode(hello))


def read_greeting(frame: bytes) -> Hello:
    """Its meaning.

    Raises:
        FrameError: it is none.
    """
    try:
        return _hello(frame)
    except msgspec.MsgspecError:
        raise FrameError("no greeting") from None


def asked(entries: Sequence[Entry]) -> bytes:
    """A batch of asks."""
    places: dict[int, int] = {}
    unders: list[Under] = []
    asks: list[tuple[int, Ask]] = []
    for one in entries:
        place = places.get(id(one.under))
        if place is None:
            place = places[id(one.under)] = len(unders)
            unders.append(one.under)
        asks.append((place, one.ask))
    return _framed(_encode(Batch(unders, asks)))


def read_asked(frame: bytes) -> list[Entry]:
    """The entries of a batch.

    Raises:
        FrameError: it is none.
    """
    try:
        read = _batch(frame)
        return [Entry(ask, read.unders[place]) for place, ask in read.asks]
    except (msgspec.MsgspecError, IndexError):
        raise FrameError("no batch of asks") from None


def answered(entries: Sequence[Entry]) -> bytes:
    """What became of a batch."""
    return _framed(_encode([_word(one) for one in entries]))


def settle(frame: bytes, entries: Sequence[Entry]) -> None:
    """Tell the entries of a batch what became of them.

    Raises:
        FrameError: these are no words about this batch.
    """
    try:
        words = _words(frame)
    except msgspec.MsgspecError:
        raise FrameError("no words about a batch") from None
    if len(words) != len(entries):
        raise FrameError("words about another batch")
    for word, one in zip(words, entries, strict=True):
        if word.reason is not None:
            one.verdict = _REFUSALS[word.reason]
        elif word.valid_until is not None:
            one.verdict = Permit(Purpose.PLACE_PERSONALISED, word.valid_until, word.notice_digest)
        one.outcome, one.jurisdiction = word.outcome, word.jurisdiction


def _word(entry: Entry) -> Word:
    verdict, outcome = entry.verdict, entry.outcome
    if isinstance(verdict, Refusal):
        return Word(outcome, verdict.reason, jurisdiction=entry.jurisdiction)
    if isinstance(verdict, Permit):
        return Word(outcome, None, verdict.valid_until, verdict.notice_digest, entry.jurisdiction)
    return Word(outcome)


def _framed(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + payload
