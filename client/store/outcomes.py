"""What followed placements on this device. Owns the sealed list of views, clicks, closes and attributed conversions.

Frequency caps count its views; measurement counts it after bounding; nothing of it is ever sent as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from client.store.keys import DeviceId
from client.store.placed import Outcome, Position
from client.store.placed_file import WHAT, PlacedFile, Seal, keep_newest
from common.errors import VaultCorrupt
from common.taxonomy import FollowUp

KEPT_MAX: Final = 5_000
_KIND: Final = "outcomes"
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Outcome).decode


class Outcomes:
    """The outcomes of one node's devices."""

    def __init__(self, file: PlacedFile) -> None:
        """Use the node's file of placements."""
        self._file = file

    def add(self, device: DeviceId, outcome: Outcome) -> bool:
        """Keep one outcome durably; False if this kind was kept for this placement before.

        Raises:
            DeviceErased, WrongKey: the device has no key (any more).
            StoreError: it could not be written.
        """
        seal = self._file.seal_of(device, _KIND)
        row = (device, seal.tag(_name(outcome.kind, outcome.place)), seal.close(_ENCODE(outcome)))
        with self._file.writing() as connection:
            added = connection.execute(
                "INSERT INTO outcomes (device, tag, sealed) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row
            ).rowcount
            keep_newest(connection, _KIND, device, KEPT_MAX)
        return added == 1

    def has(self, device: DeviceId, kind: FollowUp, place: Position) -> bool:
        """Whether this kind was kept for this placement.

        Raises:
            DeviceErased, WrongKey: the device has no key (any more).
        """
        with self._file.reading() as connection:
            if connection is None:
                return False
            tag = self._file.seal_of(device, _KIND).tag(_name(kind, place))
            query = "SELECT 1 FROM outcomes WHERE device = ? AND tag = ?"
            return connection.execute(query, (device, tag)).fetchone() is not None

    def read(self, device: DeviceId, *, since: float = 0.0, until: float = float("inf")) -> list[Outcome]:
        """Outcomes at ``since`` or later and before ``until``, in the order of arrival.

        Raises:
            DeviceErased, WrongKey: the device has no key (any more).
            VaultCorrupt: a record does not authenticate or decode.
        """
        with self._file.reading() as connection:
            rows = _rows(connection, device)
        if not rows:
            return []
        found = _opened(self._file.seal_of(device, _KIND), rows)
        return [one for one in found if since <= one.time < until]

    def delete_before(self, device: DeviceId, time: float) -> int:
        """Delete outcomes older than ``time``; how many there were."""
        with self._file.reading() as connection:
            rows = _rows(connection, device)
        if not rows:
            return 0
        found = _opened(self._file.seal_of(device, _KIND), rows)
        old = [(number,) for (number, _), one in zip(rows, found, strict=True) if one.time < time]
        if old:
            with self._file.writing() as connection:
                connection.executemany("DELETE FROM outcomes WHERE id = ?", old)
        return len(old)


def _name(kind: FollowUp, place: Position) -> str:
    return f"{kind.value}\0{place.text}"


def _rows(connection: sqlite3.Connection | None, device: DeviceId) -> list[tuple[int, bytes]]:
    if connection is None:
        return []
    return connection.execute("SELECT id, sealed FROM outcomes WHERE device = ? ORDER BY id", (device,)).fetchall()


def _opened(seal: Seal, rows: Sequence[tuple[int, bytes]]) -> list[Outcome]:
    try:
        return [_DECODE(seal.open(sealed)) for _, sealed in rows]
    except msgspec.DecodeError:
        raise VaultCorrupt(f"{WHAT} holds a record that does not decode") from None
