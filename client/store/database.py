"""SQLite as this house uses it. Owns how a database file is made, opened and locked, and how its failures are named."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from common.errors import StoreError, VaultCorrupt

_LOCKED = ("database is locked", "database table is locked")
_REFUSED = ("unable to open", "disk I/O error", "database or disk is full", "readonly database")


@contextlib.contextmanager
def named_errors(what: str) -> Iterator[None]:
    """Translate SQLite's errors: ``VaultCorrupt`` for a damaged file, ``StoreError`` for a busy or unwritable one.

    SQLite's own words go with them (they name pages and tables, never values); what the file holds never does.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if any(sign in text for sign in _LOCKED):
            raise StoreError(f"{what} is in use by another process; try again") from None
        if any(sign in text for sign in _REFUSED):
            raise StoreError(f"{what} cannot be read or written ({text})") from None
        raise VaultCorrupt(
            f"{what} is damaged or not a database ({text}). Nothing was changed: restore the file from a copy, "
            "or move it away to start empty"
        ) from None


def connect(
    path: Path,
    schema: str,
    *,
    version: int,
    what: str,
    full_sync: bool = True,
    upgrades: Mapping[int, Callable[[sqlite3.Connection], None]] | None = None,
) -> sqlite3.Connection:
    """Open a database of ours, made with ``schema`` if there is no file.

    Args:
        path: the file; its directory is made with mode 0700.
        schema: statements that make an empty database of this version.
        version: ``PRAGMA user_version`` that the file must have.
        what: its name in messages to people.
        full_sync: whether each commit waits until it is on the disk.
        upgrades: what brings an older version forward, by version; each runs in one transaction.

    Raises:
        VaultCorrupt: empty, truncated, not a database, or not one of this version.
        StoreError: busy or unreadable.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with named_errors(what):
        if not path.exists():
            _create(path, schema, version)
        if path.stat().st_size == 0:
            raise VaultCorrupt(f"{what} is an empty file: it was truncated. Restore it, or remove it to start empty")
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            _configure(connection, full_sync=full_sync)
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found != version and upgrades and found in upgrades:
                found = _upgrade(connection, upgrades, version, what)
        except BaseException:
            connection.close()
            raise
    if found != version:
        connection.close()
        raise VaultCorrupt(f"{what} has format {found}; this program reads format {version}")
    return connection


def _configure(connection: sqlite3.Connection, *, full_sync: bool) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if full_sync else 'NORMAL'}")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")


def _create(path: Path, schema: str, version: int) -> None:
    """Make the file elsewhere and link it into place: nobody ever sees half of it, and nothing is replaced."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            connection.executescript(f"BEGIN; {schema}; PRAGMA user_version = {version:d}; COMMIT;")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()


def _upgrade(
    connection: sqlite3.Connection,
    upgrades: Mapping[int, Callable[[sqlite3.Connection], None]],
    version: int,
    what: str,
) -> int:
    """Bring a database forward to ``version``; returns the version it then has. Another process may have been first."""
    with transaction(connection, what):
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if found in upgrades:
            upgrades[found](connection)
            connection.execute(f"PRAGMA user_version = {version:d}")
            found = version
    return found


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, what: str) -> Iterator[None]:
    """One write transaction, all or nothing; inside another one it is a part of that, all or nothing by itself."""
    nested = connection.in_transaction
    begin, end = ("SAVEPOINT part", "RELEASE part") if nested else ("BEGIN IMMEDIATE", "COMMIT")
    undo = ("ROLLBACK TO part", "RELEASE part") if nested else ("ROLLBACK",)
    with named_errors(what):
        connection.execute(begin)
        try:
            yield
            connection.execute(end)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                for statement in undo:
                    connection.execute(statement)
            raise
