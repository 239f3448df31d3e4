"""What was placed on this device, and why. Owns the records behind "why this ad": sealed, bounded, never sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from client.store.decisions import Replayable, insert
from client.store.keys import DeviceId
from client.store.placed import PlacedAd, Position
from client.store.placed_file import WHAT, PlacedFile, keep_newest
from common.errors import VaultCorrupt

KEPT_MAX: Final = 200
_KIND: Final = "placements"
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(PlacedAd).decode


class Placements:
    """The placements of one node's devices."""

    def __init__(self, file: PlacedFile) -> None:
        """Use the node's file of placements."""
        self._file = file

    def write(
        self,
        device: DeviceId,
        placed: Sequence[PlacedAd],
        decision: Replayable | None = None,
    ) -> None:
        """Keep records durably; beyond the newest ``KEPT_MAX`` of a device the oldest go.

        Args:
            device: whose.
            placed: what was chosen.
            decision: what replays it.

        Raises:
            DeviceErased, WrongKey: the device has no key (any more).
            StoreError: they could not be written.
        """
        if not placed and decision is None:
            return
        seal = self._file.seal_of(device, _KIND)
        with self._file.writing() as connection:
            rows = [(device, seal.close(_ENCODE(one))) for one in placed]
            connection.executemany("INSERT INTO placements (device, sealed) VALUES (?, ?)", rows)
            keep_newest(connection, _KIND, device, KEPT_MAX)
            if decision is not None:
                insert(connection, self._file, device, decision)

    def read(self, device: DeviceId, *, newest: int = KEPT_MAX) -> list[PlacedAd]:
        """The newest records of a device, newest first.

        Raises:
            DeviceErased, WrongKey: the device has no key (any more).
            VaultCorrupt: a record does not authenticate or decode.
        """
        with self._file.reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(
                "SELECT sealed FROM placements WHERE device = ? ORDER BY id DESC LIMIT ?", (device, newest)
            ).fetchall()
        if not rows:
            return []
        seal = self._file.seal_of(device, _KIND)
        try:
            return [_DECODE(seal.open(sealed)) for (sealed,) in rows]
        except msgspec.DecodeError:
            raise VaultCorrupt(f"{WHAT} holds a record that does not decode") from None

    def find(self, device: DeviceId, place: Position) -> PlacedAd | None:
        """The ad of one position, if it is still kept."""
        return next((one for one in self.read(device) if one.place == place), None)

    def forget(self, device: DeviceId) -> None:
        """Delete everything of a device in this file."""
        self._file.forget(device)
