"""Private picks that were drawn. Owns what makes a retry the same answer: one row per slot group and epoch, first wins.

An answer is sealed under a subkey of the device's key and bound to its device, slot group and epoch: it goes with that
key. Rows of epochs that are over are deleted, because nobody may be answered from them any more.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from client.store.database import connect, named_errors, transaction
from client.store.keys import DeviceId, KeyStore
from common.crypto.aead import Aead, NotAuthentic
from common.crypto.kdf import derive
from common.errors import VaultCorrupt

FORMAT: Final = 1
WHAT: Final = "the store of private picks"
_SCHEMA: Final = """
CREATE TABLE picks (
    device TEXT NOT NULL, slot_group TEXT NOT NULL, epoch INTEGER NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (device, slot_group, epoch)) STRICT, WITHOUT ROWID
"""


class KeptPick(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One answer, and the list that it is a place in."""

    list_hash: str
    index: int


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(KeptPick).decode


class PickStore:
    """The picks of one node's devices. The file is open only while it is used; several processes may share it."""

    def __init__(self, path: Path, keys: KeyStore) -> None:
        """Use the file at ``path``; an absent one is made by the first pick."""
        self._path, self._keys = path, keys

    def find(self, device: DeviceId, slot_group: str, epoch: int) -> KeptPick | None:
        """The answer that was kept, if there is one.

        Raises:
            DeviceErased, WrongKey: the device has no key (any more).
            VaultCorrupt: the row does not authenticate.
        """
        if not self._path.exists():
            return None
        with self._open() as connection, named_errors(WHAT):
            return self._read(connection, device, slot_group, epoch)

    def keep(self, device: DeviceId, slot_group: str, epoch: int, drawn: KeptPick) -> KeptPick:
        """Keep an answer durably, unless one was kept before; the one that stands.

        Raises:
            StoreError: it could not be written, so it must not be given.
        """
        sealed = self._box(device).seal(_ENCODE(drawn), _place(device, slot_group, epoch))
        with self._open() as connection, transaction(connection, WHAT):
            connection.execute("DELETE FROM picks WHERE device = ? AND epoch < ?", (device, epoch - 1))
            connection.execute("INSERT OR IGNORE INTO picks VALUES (?, ?, ?, ?)", (device, slot_group, epoch, sealed))
            return self._read(connection, device, slot_group, epoch) or drawn

    def forget(self, device: DeviceId) -> None:
        """Delete a device's answers; what they cost stays in the ledger of picks."""
        if self._path.exists():
            with self._open() as connection, transaction(connection, WHAT):
                connection.execute("DELETE FROM picks WHERE device = ?", (device,))

    def _read(self, connection: sqlite3.Connection, device: DeviceId, slot_group: str, epoch: int) -> KeptPick | None:
        query = "SELECT sealed FROM picks WHERE device = ? AND slot_group = ? AND epoch = ?"
        row = connection.execute(query, (device, slot_group, epoch)).fetchone()
        if row is None:
            return None
        try:
            return _DECODE(self._box(device).open(row[0], _place(device, slot_group, epoch)))
        except (NotAuthentic, msgspec.DecodeError):
            raise VaultCorrupt(f"{WHAT} holds a record that does not authenticate") from None

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(connect(self._path, _SCHEMA, version=FORMAT, what=WHAT)) as connection:
            yield connection

    def _box(self, device: DeviceId) -> Aead:
        return Aead(derive(self._keys.load(device), "picks"))


def _place(device: DeviceId, slot_group: str, epoch: int) -> bytes:
    return f"reticent/pick\0{device}\0{slot_group}\0{epoch}".encode()
