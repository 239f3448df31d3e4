"""The file of private picks. Owns its tables and how an older file comes forward; what is in them is the stores'."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from client.store.database import connect

FORMAT: Final = 2
WHAT: Final = "the store of private picks"
_FIRST: Final = """
CREATE TABLE picks (
    device TEXT NOT NULL, slot_group TEXT NOT NULL, epoch INTEGER NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (device, slot_group, epoch)) STRICT, WITHOUT ROWID
"""
_SECOND: Final = """
CREATE TABLE caps (
    id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL, epsilon_max REAL, jws TEXT NOT NULL) STRICT;
CREATE TABLE stopped (device TEXT PRIMARY KEY) STRICT, WITHOUT ROWID
"""


@contextlib.contextmanager
def open_picks(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the file at ``path``, which is made where there is none.

    Raises:
        VaultCorrupt: it is damaged, or of another format.
    """
    schema = f"{_FIRST};{_SECOND}"
    opened = connect(path, schema, version=FORMAT, what=WHAT, upgrades={1: _add_second})
    with contextlib.closing(opened) as connection:
        yield connection


def _add_second(connection: sqlite3.Connection) -> None:
    for statement in _SECOND.split(";"):
        connection.execute(statement)
