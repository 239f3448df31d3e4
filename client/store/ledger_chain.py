"""What makes a privacy ledger unable to forget. Owns the chain over its transactions and the anchor kept apart from it.

Every transaction that spends adds a link: a keyed hash of the link before and of a digest of all charges. The anchor,
a small file in the keys directory, holds the key and the newest link. It is written, and on the disk, after the
ledger's transaction and before the charge may be used: an interrupted write leaves it one link behind, which is fine;
a ledger older than its anchor was put back from a copy, and a link that the key does not confirm was forged.

What this cannot see: ledger and anchor put back together from one copy of the whole device. The server's ledger, which
charges the same identities, is what stands against that.

The digest is a sum modulo 2^256 of keyed hashes, one for each charge, so that adding or removing one costs the same
however many there are. **Source:** Bellare and Micciancio 1997 (AdHash), with secret keys as in MSet-Add-Hash, Clarke
et al. 2003.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.crypto.keyfile import write_private
from common.errors import LedgerRolledBack, StoreError

MODULUS: Final = 1 << 256
NOTHING: Final = bytes(32)
RESET: Final = "reset"
_MAGIC: Final = b"RTLEDG01"
_KEY_BYTES: Final = 32
_MARK: Final = struct.Struct("<qq32s")
_SLOT_BYTES: Final = _MARK.size + 32
_HEAD_BYTES: Final = len(_MAGIC) + _KEY_BYTES
_PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a ledger stands: its newest link, that link's number, and the newest budget period it has charged."""

    sequence: int
    period: int
    link: bytes


_START: Final = Mark(0, 0, NOTHING)


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain: what a transaction did, the digest of all charges after it, and the keyed hash."""

    sequence: int
    what: str
    root: bytes
    link: bytes


def seal(key: bytes, *parts: bytes) -> bytes:
    """Keyed hash of a list of byte strings, 32 bytes."""
    hasher = hashlib.blake2b(key=key, digest_size=32)
    for part in parts:
        hasher.update(struct.pack("<q", len(part)))
        hasher.update(part)
    return hasher.digest()


def sum_of_seals(key: bytes, prefix: bytes, texts: Iterable[str]) -> int:
    """Sum modulo 2^256 of the seals of ``prefix`` with each text: a digest of a set, whatever its order."""
    start = hashlib.blake2b(key=key, digest_size=32)
    start.update(struct.pack("<q", len(prefix)) + prefix)
    total = 0
    for text in texts:
        hasher = start.copy()
        hasher.update(text.encode())
        total += int.from_bytes(hasher.digest(), "little")
    return total % MODULUS


def as_bytes(number: int) -> bytes:
    """A number modulo 2^256, 32 bytes."""
    return (number % MODULUS).to_bytes(32, "little")


def as_number(data: bytes) -> int:
    """The inverse of ``as_bytes``."""
    return int.from_bytes(data, "little")


class Anchor:
    """The anchor file: key and newest mark, twice, so that a torn write never loses the one before it."""

    def __init__(self, path: Path) -> None:
        """Use ``path``; nothing is made before ``create``."""
        self.path = path
        self._key: bytes | None = None

    def create(self) -> None:
        """Make the file with a fresh key; one that another process has just made is left alone."""
        self._key = None
        with _named_failures():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = secrets.token_bytes(_KEY_BYTES)
            with contextlib.suppress(FileExistsError):
                write_private(self.path, _MAGIC + key + _slot(key, _START) + bytes(_SLOT_BYTES))
            _sync_directory(self.path.parent)

    @property
    def key(self) -> bytes:
        """The key of the chain.

        Raises:
            LedgerRolledBack: there is no anchor.
        """
        if self._key is None:
            data = self._content()
            if data is None:
                raise _missing()
            self._key = data[len(_MAGIC) : _HEAD_BYTES]
        return self._key

    def read(self) -> Mark | None:
        """The newest mark: number 0 before the first link, None if there is no anchor.

        Raises:
            LedgerRolledBack: the file is there and holds no mark of ours.
        """
        data = self._content()
        if data is None:
            return None
        key = data[len(_MAGIC) : _HEAD_BYTES]
        self._key = key
        return _newest(key, data)[0]

    def write(self, mark: Mark) -> None:
        """Move the anchor on to ``mark``, durably; one that is further on already stays.

        Raises:
            StoreError: it could not be written. The charge stands and may not be used.
        """
        with _named_failures(), self.path.open("r+b", buffering=0) as file:
            _lock(file.fileno())
            found, slot = _newest(self.key, file.read())
            if found.sequence < mark.sequence:
                offset = _HEAD_BYTES + (1 - slot) * _SLOT_BYTES  # the newest mark so far is not touched
                os.pwrite(file.fileno(), _slot(self.key, mark), offset)
                os.fsync(file.fileno())

    def _content(self) -> bytes | None:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"the anchor of the privacy ledger cannot be read ({error.strerror})") from None
        if len(data) != _HEAD_BYTES + 2 * _SLOT_BYTES or not data.startswith(_MAGIC):
            raise LedgerRolledBack("the anchor of the privacy ledger is damaged: nothing may be released")
        return data


class Chain:
    """The links of one ledger, checked against its anchor."""

    def __init__(self, connection: sqlite3.Connection, anchor: Anchor) -> None:
        """Use the table ``chain`` of an opened ledger."""
        self._connection = connection
        self._anchor = anchor
        self._checked: Link | None = None

    def newest(self) -> Link | None:
        """The newest link; None before the first."""
        row = self._connection.execute(
            "SELECT sequence, what, root, link FROM chain ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        return None if row is None else Link(*row)

    def links(self, after: int = 0) -> Iterator[Link]:
        """Links with a number above ``after``, in order."""
        query = "SELECT sequence, what, root, link FROM chain WHERE sequence > ? ORDER BY sequence"
        return (Link(*row) for row in self._connection.execute(query, (after,)))

    def confirm(self, mark: Mark | None) -> Link | None:
        """Check that the ledger is at least as new as ``mark``, which was read before this transaction began.

        Returns:
            The newest link.

        Raises:
            LedgerRolledBack: it is older, or does not continue what was anchored.
        """
        newest = self.newest()
        if newest is not None and newest == self._checked and mark is not None and mark.sequence <= newest.sequence:
            return newest  # this process has seen or made it
        if mark is None:
            if newest is None:
                return None
            raise _missing()
        if mark.sequence and self._link(mark.sequence) != mark.link:
            raise LedgerRolledBack(
                "the privacy ledger is older than what this device has spent, or another device's: nothing may be "
                "released. Put the newest copy back, or run: reticent ledger reset --accept-exhausted"
            )
        before = mark.link
        for link in self.links(mark.sequence):
            if not self.genuine(link, before):
                raise LedgerRolledBack(
                    "the privacy ledger does not continue what was anchored: nothing may be released"
                )
            before = link.link
        self._checked = newest
        return newest

    def genuine(self, link: Link, before: bytes) -> bool:
        """Whether a link was made with the anchor's key, after the one before it (a reset: after none)."""
        start = NOTHING if link.what == RESET else before
        return link.link == self._sealed(link.sequence, link.what, link.root, start)

    def extend(self, what: str, change: int, *, period: int) -> Mark:
        """Add a link after a change of the digest; in the transaction that made the change.

        Args:
            what: what the transaction did, in a word.
            change: seals that were added minus seals that were removed.
            period: newest budget period of the ledger.
        """
        newest = self.newest() or Link(0, "", NOTHING, NOTHING)
        return self._add(newest.sequence + 1, what, as_bytes(as_number(newest.root) + change), newest.link, period)

    def restart(self, root: int, *, period: int, at_least: int) -> Mark:
        """Begin anew after a rollback that the owner accepts: a link past all that were lost, after no other."""
        newest = self.newest() or Link(0, "", NOTHING, NOTHING)
        return self._add(max(newest.sequence, at_least) + 1, RESET, as_bytes(root), NOTHING, period)

    def _add(self, sequence: int, what: str, root: bytes, before: bytes, period: int) -> Mark:
        link = Link(sequence, what, root, self._sealed(sequence, what, root, before))
        self._connection.execute(
            "INSERT INTO chain (sequence, what, root, link) VALUES (?, ?, ?, ?)",
            (link.sequence, link.what, link.root, link.link),
        )
        self._checked = link
        return Mark(sequence, period, link.link)

    def _sealed(self, sequence: int, what: str, root: bytes, before: bytes) -> bytes:
        return seal(self._anchor.key, b"link", sequence.to_bytes(8, "little"), what.encode(), root, before)

    def _link(self, sequence: int) -> bytes | None:
        row = self._connection.execute("SELECT link FROM chain WHERE sequence = ?", (sequence,)).fetchone()
        return None if row is None else bytes(row[0])


def _slot(key: bytes, mark: Mark) -> bytes:
    body = _MARK.pack(mark.sequence, mark.period, mark.link)
    return body + seal(key, b"anchor", body)


def _open_slot(key: bytes, data: bytes, index: int) -> Mark | None:
    start = _HEAD_BYTES + index * _SLOT_BYTES
    body, found = data[start : start + _MARK.size], data[start + _MARK.size : start + _SLOT_BYTES]
    return Mark(*_MARK.unpack(body)) if found == seal(key, b"anchor", body) else None


def _newest(key: bytes, data: bytes) -> tuple[Mark, int]:
    """The newest mark of an anchor's content and the slot it is in."""
    marks = [(mark, index) for index in (0, 1) if (mark := _open_slot(key, data, index))]
    if not marks:
        raise LedgerRolledBack("the anchor of the privacy ledger is damaged: nothing may be released")
    return max(marks, key=lambda pair: pair[0].sequence)


def _missing() -> LedgerRolledBack:
    return LedgerRolledBack(
        "the anchor of the privacy ledger is not in the keys directory: nothing may be released. Put it back, or run: "
        "reticent ledger reset --accept-exhausted"
    )


def _lock(descriptor: int) -> None:
    """Wait for other processes that write the same anchor."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise StoreError("the anchor of the privacy ledger is in use by another process; try again") from None
            time.sleep(0.005)
        else:
            return


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _named_failures() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise _missing() from None
    except OSError as error:
        raise StoreError(f"the anchor of the privacy ledger cannot be written ({error.strerror})") from None
