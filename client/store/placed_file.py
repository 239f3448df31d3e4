"""The file of placements. Owns its tables, its key and its seal; what is in them belongs to the stores beside it.

In clear are device names, record numbers and sizes, keyed fingerprints, and public documents with their digests. What
was chosen from a person's own history says something about that history: it is sealed under a subkey of the device's
key, bound to its kind and device, and goes with that key.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from client.store.database import connect, named_errors, transaction
from client.store.keys import DeviceId, KeyStore
from common.crypto.aead import Aead, NotAuthentic
from common.crypto.kdf import derive, fingerprint
from common.errors import VaultCorrupt

FORMAT: Final = 2
WHAT: Final = "the store of placements"
_FIRST: Final = """
CREATE TABLE placements (id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, sealed BLOB NOT NULL) STRICT;
CREATE INDEX placements_by_device ON placements (device, id);
"""
_SECOND: Final = """
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, tag BLOB NOT NULL, catalogue TEXT NOT NULL,
    policy TEXT NOT NULL, sealed BLOB NOT NULL, UNIQUE (device, tag)) STRICT;
CREATE TABLE documents (digest TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, tag BLOB NOT NULL, sealed BLOB NOT NULL,
    UNIQUE (device, tag)) STRICT;
CREATE TABLE choices (device TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT
"""
_OF_DEVICES: Final = ("placements", "decisions", "outcomes", "choices")


class PlacedFile:
    """The file of one node. Open only while it is used; an absent one is made by the first record."""

    def __init__(self, path: Path, keys: KeyStore) -> None:
        """Use the file at ``path``."""
        self._path, self._keys = path, keys

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection to read by; None where nothing was ever kept."""
        if not self._path.exists():
            yield None
            return
        with self._open() as connection, named_errors(WHAT):
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection in one transaction, all or nothing."""
        with self._open() as connection, transaction(connection, WHAT):
            yield connection

    def seal_of(self, device: DeviceId, kind: str) -> Seal:
        """The seal of one kind of record of one device.

        Raises:
            DeviceErased, WrongKey: the device has no key (any more).
        """
        return Seal(self._keys.load(device), device, kind)

    def forget(self, device: DeviceId) -> None:
        """Delete everything of a device, and the documents that nobody's decision needs any more."""
        if not self._path.exists():
            return
        with self.writing() as connection:
            for table in _OF_DEVICES:
                connection.execute(f"DELETE FROM {table} WHERE device = ?", (device,))  # noqa: S608 - our own names
            drop_unused_documents(connection)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        schema = f"{_FIRST}{_SECOND}"
        with contextlib.closing(
            connect(self._path, schema, version=FORMAT, what=WHAT, upgrades={1: _add_second})
        ) as connection:
            yield connection


class Seal:
    """Seals and opens one kind of record of one device."""

    def __init__(self, key: bytes, device: DeviceId, kind: str) -> None:
        """Use the device's key."""
        self._aead = Aead(derive(key, "placements"))
        self._tag_key = derive(key, f"placements/{kind}/tag")
        # The first kind keeps the place that its records were sealed for before there were others.
        self._place = f"reticent/{'placement' if kind == 'placements' else kind}\0{device}".encode()

    def close(self, body: bytes) -> bytes:
        """The record, sealed."""
        return self._aead.seal(body, self._place)

    def open(self, sealed: bytes) -> bytes:
        """The record again.

        Raises:
            VaultCorrupt: it does not authenticate.
        """
        try:
            return self._aead.open(sealed, self._place)
        except NotAuthentic:
            raise VaultCorrupt(f"{WHAT} holds a record that does not authenticate") from None

    def tag(self, name: str) -> bytes:
        """By which a record is found without opening all."""
        return fingerprint(self._tag_key, name.encode())


def keep_newest(connection: sqlite3.Connection, table: str, device: DeviceId, most: int) -> None:
    """Delete a device's oldest rows beyond the newest ``most``."""
    connection.execute(
        f"DELETE FROM {table} WHERE device = ?1 AND id NOT IN "  # noqa: S608 - our own names
        f"(SELECT id FROM {table} WHERE device = ?1 ORDER BY id DESC LIMIT ?2)",
        (device, most),
    )


def drop_unused_documents(connection: sqlite3.Connection) -> None:
    """Delete documents that no kept decision was made under."""
    connection.execute(
        "DELETE FROM documents WHERE digest NOT IN (SELECT catalogue FROM decisions UNION SELECT policy FROM decisions)"
    )


def _add_second(connection: sqlite3.Connection) -> None:
    for statement in _SECOND.split(";"):
        connection.execute(statement)
