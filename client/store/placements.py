"""What was placed on this device, and why. Owns the records behind "why this ad": sealed, bounded, never sent.

What was chosen from a person's own history says something about that history, so a record is sealed under a subkey of
the device's key and goes with it. Only the newest are kept.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from client.store.database import connect, named_errors, transaction
from client.store.keys import DeviceId, KeyStore
from common.crypto.aead import Aead, NotAuthentic
from common.crypto.kdf import derive
from common.errors import VaultCorrupt

FORMAT: Final = 1
WHAT: Final = "the store of placements"
KEPT_MAX: Final = 200
_SCHEMA: Final = """
CREATE TABLE placements (id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, sealed BLOB NOT NULL) STRICT;
CREATE INDEX placements_by_device ON placements (device, id)
"""


class SignalEffect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much one group of signals moved a score, in log-odds: without it the score would have been lower by so much.

    Attributes:
        family: kind of behaviour (``bought``, ``viewed``, …).
        attribute: what it had in common with the ad (``item``, ``category``, …; ``activity`` for all of it).
        effect: difference of log-odds; above 0 it spoke for the ad.
    """

    family: str
    attribute: str
    effect: float


class PlacedAd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ad that this device chose, with its main parameters (DSA Art. 26(1)).

    Attributes:
        time: seconds since the epoch.
        score: predicted probability of a response; ``contextual`` is what it would be from the page alone.
        propensity: probability with which the placement policy would show it again.
        signals: groups of own behaviour, the strongest first.
    """

    time: float
    slot_id: str
    creative_id: str
    title: dict[str, str]
    category: str
    advertiser: str
    payer: str
    model_version: int
    policy_digest: str
    score: float
    contextual: float
    propensity: float
    signals: tuple[SignalEffect, ...]


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(PlacedAd).decode


class Placements:
    """The placements of one node's devices. The file is open only while it is used."""

    def __init__(self, path: Path, keys: KeyStore) -> None:
        """Use the file at ``path``; an absent one is made by the first record."""
        self._path = path
        self._keys = keys

    def write(self, device: DeviceId, placed: Sequence[PlacedAd]) -> None:
        """Keep records durably; beyond the newest ``KEPT_MAX`` of a device the oldest go.

        Raises:
            DeviceErased, WrongKey: the device has no key (any more).
            StoreError: they could not be written.
        """
        if not placed:
            return
        box = self._box(device)
        with self._open() as connection, transaction(connection, WHAT):
            rows = [(device, box.seal(_ENCODE(one), _place(device))) for one in placed]
            connection.executemany("INSERT INTO placements (device, sealed) VALUES (?, ?)", rows)
            connection.execute(
                "DELETE FROM placements WHERE device = ?1 AND id NOT IN "
                "(SELECT id FROM placements WHERE device = ?1 ORDER BY id DESC LIMIT ?2)",
                (device, KEPT_MAX),
            )

    def read(self, device: DeviceId, *, newest: int = KEPT_MAX) -> list[PlacedAd]:
        """The newest records of a device, newest first.

        Raises:
            DeviceErased, WrongKey: the device has no key (any more).
            VaultCorrupt: a record does not authenticate or decode.
        """
        if not self._path.exists():
            return []
        with self._open() as connection, named_errors(WHAT):
            rows = connection.execute(
                "SELECT sealed FROM placements WHERE device = ? ORDER BY id DESC LIMIT ?", (device, newest)
            ).fetchall()
        if not rows:
            return []
        box = self._box(device)
        try:
            return [_DECODE(box.open(sealed, _place(device))) for (sealed,) in rows]
        except (NotAuthentic, msgspec.DecodeError):
            raise VaultCorrupt(f"{WHAT} holds a record that does not authenticate") from None

    def forget(self, device: DeviceId) -> None:
        """Delete a device's records."""
        if self._path.exists():
            with self._open() as connection, transaction(connection, WHAT):
                connection.execute("DELETE FROM placements WHERE device = ?", (device,))

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(connect(self._path, _SCHEMA, version=FORMAT, what=WHAT)) as connection:
            yield connection

    def _box(self, device: DeviceId) -> Aead:
        return Aead(derive(self._keys.load(device), "placements"))


def _place(device: DeviceId) -> bytes:
    return f"reticent/placement\0{device}".encode()
