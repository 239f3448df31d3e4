"""Private picks that were drawn. Owns what makes a retry the same answer: one row per slot group and epoch, first wins.

An answer is sealed under a subkey of the device's key and bound to its device, slot group and epoch: it goes with that
key. Rows of epochs that are over are deleted, because nobody may be answered from them any more.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from client.store.database import named_errors, transaction
from client.store.keys import DeviceId, KeyStore
from client.store.pick_file import WHAT, open_picks
from common.crypto.aead import Aead, NotAuthentic
from common.crypto.kdf import derive
from common.errors import VaultCorrupt


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
        with open_picks(self._path) as connection, named_errors(WHAT):
            return self._read(connection, device, slot_group, epoch)

    def keep(self, device: DeviceId, slot_group: str, epoch: int, drawn: KeptPick) -> KeptPick | None:
        """Keep an answer durably, unless one was kept before; the one that stands. None: the owner has stopped picks.

        Raises:
            StoreError: it could not be written, so it must not be given.
        """
        sealed = self._box(device).seal(_ENCODE(drawn), _place(device, slot_group, epoch))
        with open_picks(self._path) as connection, transaction(connection, WHAT):
            if _stopped(connection, device):
                return None
            connection.execute("DELETE FROM picks WHERE device = ? AND epoch < ?", (device, epoch - 1))
            connection.execute("INSERT OR IGNORE INTO picks VALUES (?, ?, ?, ?)", (device, slot_group, epoch, sealed))
            return self._read(connection, device, slot_group, epoch) or drawn

    def stop(self, device: DeviceId) -> None:
        """The owner's no to private picks, durably: kept answers are deleted, and none is kept until ``resume``.

        **Privacy:** refunds nothing: what they cost stays in the ledger of picks.
        """
        with open_picks(self._path) as connection, transaction(connection, WHAT):
            connection.execute("INSERT OR IGNORE INTO stopped VALUES (?)", (device,))
            connection.execute("DELETE FROM picks WHERE device = ?", (device,))

    def resume(self, device: DeviceId) -> None:
        """The owner wants picks again."""
        with open_picks(self._path) as connection, transaction(connection, WHAT):
            connection.execute("DELETE FROM stopped WHERE device = ?", (device,))

    def is_stopped(self, device: DeviceId) -> bool:
        """Whether the owner has stopped picks.

        Raises:
            StoreError: it cannot be read, which means that no answer may be given.
        """
        if not self._path.exists():
            return False
        with open_picks(self._path) as connection, named_errors(WHAT):
            return _stopped(connection, device)

    def forget(self, device: DeviceId) -> None:
        """Delete a device's answers and its stop; what they cost stays in the ledger of picks."""
        if self._path.exists():
            with open_picks(self._path) as connection, transaction(connection, WHAT):
                connection.execute("DELETE FROM picks WHERE device = ?", (device,))
                connection.execute("DELETE FROM stopped WHERE device = ?", (device,))

    def _read(self, connection: sqlite3.Connection, device: DeviceId, slot_group: str, epoch: int) -> KeptPick | None:
        query = "SELECT sealed FROM picks WHERE device = ? AND slot_group = ? AND epoch = ?"
        row = connection.execute(query, (device, slot_group, epoch)).fetchone()
        if row is None:
            return None
        try:
            return _DECODE(self._box(device).open(row[0], _place(device, slot_group, epoch)))
        except (NotAuthentic, msgspec.DecodeError):
            raise VaultCorrupt(f"{WHAT} holds a record that does not authenticate") from None

    def _box(self, device: DeviceId) -> Aead:
        return Aead(derive(self._keys.load(device), "picks"))


def _stopped(connection: sqlite3.Connection, device: DeviceId) -> bool:
    return connection.execute("SELECT 1 FROM stopped WHERE device = ?", (device,)).fetchone() is not None


def _place(device: DeviceId, slot_group: str, epoch: int) -> bytes:
    return f"reticent/pick\0{device}\0{slot_group}\0{epoch}".encode()
