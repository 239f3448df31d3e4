"""The egress journal. Owns one line per message that left a device, or was kept back, in words its owner can read.

It is written before a message is transmitted, so nothing can leave without a line. It holds no content: kind, purpose,
size, digest and what the release cost. It outlives the erasure of behaviour, because it is the owner's evidence.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Final

from client.store.database import connect, named_errors, transaction
from common.wire.journal import SENT, JournalRow

FORMAT: Final = 1
WHAT: Final = "the egress journal"
_SCHEMA: Final = """
CREATE TABLE journal (
    time REAL NOT NULL, device TEXT NOT NULL, kind TEXT NOT NULL, purpose TEXT, size_bytes INTEGER NOT NULL,
    digest TEXT NOT NULL, epsilon REAL NOT NULL, outcome TEXT NOT NULL) STRICT;
CREATE INDEX journal_by_kind ON journal (kind, outcome, time);
CREATE INDEX journal_by_device ON journal (device, time);
"""


class Journal:
    """The journal of one node directory; safe for several processes. A file is open only while it is used."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, rows: Sequence[JournalRow]) -> None:
        """Write all rows durably, or none.

        Raises:
            StoreError: they could not be written; nothing may leave then.
        """
        if not rows:
            return
        with self._open() as connection, transaction(connection, WHAT):
            connection.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(astuple, rows))

    def sent_since(self, kind: str, since: float) -> Mapping[str, int]:
        """How many messages of a kind each device has sent since a moment; devices without any are absent."""
        with self._open() as connection, named_errors(WHAT):
            found = connection.execute(
                "SELECT device, COUNT(*) FROM journal WHERE kind = ? AND outcome = ? AND time >= ? GROUP BY device",
                (kind, SENT, since),
            )
            return dict(found.fetchall())

    def _open(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(connect(self._path, _SCHEMA, version=FORMAT, what=WHAT))


def read_journal(path: Path, device: str | None = None) -> list[JournalRow]:
    """The journal of a node, or of one of its devices, oldest first; empty when there is none yet.

    Raises:
        VaultCorrupt, StoreError: it cannot be read.
    """
    if not path.exists():
        return []
    with contextlib.closing(connect(path, _SCHEMA, version=FORMAT, what=WHAT)) as connection, named_errors(WHAT):
        found = connection.execute(
            "SELECT time, device, kind, purpose, size_bytes, digest, epsilon, outcome FROM journal "
            "WHERE ?1 IS NULL OR device = ?1 ORDER BY time, rowid",
            (device,),
        )
        return [JournalRow(*row) for row in found]
