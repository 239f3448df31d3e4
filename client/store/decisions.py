"""Decisions of g as they were made on this device, to be replayed. Owns their records, and the documents they name.

A record is sealed. The signed catalogue and the policy document are public and the same for everybody: they are kept
once, in clear, by digest, as long as a record names them.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from client.store.keys import DeviceId
from client.store.placed import KeptDecision
from client.store.placed_file import WHAT, PlacedFile, drop_unused_documents, keep_newest
from common.errors import VaultCorrupt

KEPT_MAX: Final = 200
DOCUMENT_BYTES_MAX: Final = 64 << 20
_KIND: Final = "decisions"
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(KeptDecision).decode


class Replayable(NamedTuple):
    """A decision with everything that replays it: its id, its record, and the documents that this names, by digest."""

    decision_id: str
    kept: KeptDecision
    documents: Mapping[str, str]


class Decisions:
    """The decisions of one node's devices; ``Placements.write`` adds them, with what they placed."""

    def __init__(self, file: PlacedFile) -> None:
        """Use the node's file of placements."""
        self._file = file

    def find(self, device: DeviceId, decision_id: str) -> KeptDecision | None:
        """One decision, if it is still kept.

        Raises:
            DeviceErased, WrongKey: the device has no key (any more).
            VaultCorrupt: the record does not authenticate or decode.
        """
        with self._file.reading() as connection:
            if connection is None:
                return None
            seal = self._file.seal_of(device, _KIND)
            row = connection.execute(
                "SELECT sealed FROM decisions WHERE device = ? AND tag = ?", (device, seal.tag(decision_id))
            ).fetchone()
        if row is None:
            return None
        try:
            return _DECODE(seal.open(row[0]))
        except msgspec.DecodeError:
            raise VaultCorrupt(f"{WHAT} holds a record that does not decode") from None

    def document(self, digest: str) -> str | None:
        """A document's text, by digest; whoever uses it checks it as if it had just arrived."""
        with self._file.reading() as connection:
            row = connection and connection.execute("SELECT body FROM documents WHERE digest = ?", (digest,)).fetchone()
        if not row:
            return None
        try:
            opened = zlib.decompressobj()
            return opened.decompress(row[0], DOCUMENT_BYTES_MAX).decode()
        except (zlib.error, UnicodeDecodeError):
            raise VaultCorrupt(f"{WHAT} holds a document that does not decode") from None


def insert(
    connection: sqlite3.Connection,
    file: PlacedFile,
    device: DeviceId,
    replayable: Replayable,
) -> None:
    """Add a decision inside the caller's transaction; one that is kept already stays as it is."""
    decision_id, kept, documents = replayable
    seal = file.seal_of(device, _KIND)
    known = {digest for (digest,) in connection.execute("SELECT digest FROM documents")}
    connection.executemany(
        "INSERT INTO documents VALUES (?, ?)",
        [(digest, zlib.compress(text.encode())) for digest, text in documents.items() if digest not in known],
    )
    connection.execute(
        "INSERT INTO decisions (device, tag, catalogue, policy, sealed) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (device, seal.tag(decision_id), kept.catalogue, kept.policy, seal.close(_ENCODE(kept))),
    )
    keep_newest(connection, _KIND, device, KEPT_MAX)
    drop_unused_documents(connection)
