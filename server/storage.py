"""The server's database. Owns how a connection is opened and how a transaction begins; knows no table by name.

SQLite (WAL, foreign keys, full sync) and PostgreSQL alike. On SQLite a write transaction takes the write lock when it
begins: a transaction that reads first and writes later would fail at once whenever another writer came between.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, MetaData, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlmodel import Session, SQLModel, create_engine

import server
from common.errors import MalformedInput, StorageUnavailable

Transaction = Session
"""What services hand from one to another: they neither query nor see a row."""
Sessions = Callable[[], AbstractContextManager[Session]]

BUSY_TIMEOUT_MS: Final = 30_000
_UNFIT: Final = "a number is too large, or a text holds what no database takes"
_BEGIN: Final = "reticent_begin"
_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA secure_delete=ON",  # what is deleted is overwritten; ``Database.scrub`` finds what this leaves
)
_CHUNK_BYTES: Final = 64 * 1024 * 1024
_REWRITTEN_BYTES_MAX: Final = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Database:
    """One database and the two kinds of transaction."""

    engine: Engine

    def sessions(self) -> Session:
        """A session whose transactions may write; pass ``database.sessions`` where ``Sessions`` are wanted."""
        return Session(self.engine, expire_on_commit=False)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction, committed at the end or rolled back by any exception."""
        with _named_failures(), self.sessions() as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Reads of committed state; on SQLite one snapshot that never waits for a writer."""
        engine = self.engine.execution_options(**{_BEGIN: "DEFERRED"})
        with _named_failures(), Session(engine, expire_on_commit=False) as session:
            yield session

    def scrub(self, traces: Sequence[bytes] = ()) -> bool:
        """Take deleted rows off the disk as far as this kind of database lets us.

        SQLite overwrites what is deleted, but copies that it made while it rearranged pages stay (about one row in two
        hundred here). So the log is folded in and emptied, and the file is written anew if a trace is still in it.

        Args:
            traces: bytes that must not be there any more; none: write the file anew in any case. For their sake alone
                a file of more than 2 GiB is not written anew while people wait.

        Returns:
            Whether the files of the database hold none of the traces. False on PostgreSQL, whose files are its own:
            there VACUUM FULL, the recycling of its log and the expiry of backups do it.
        """
        if self.engine.dialect.name != "sqlite" or not self._file.is_file():
            return False
        with _named_failures():
            self._fold()
            small = self._file.stat().st_size <= _REWRITTEN_BYTES_MAX
            if not traces or (small and self._holds(traces)):
                self._execute("VACUUM")
                self._fold()
        return not self._holds(traces)

    @property
    def _file(self) -> Path:
        return Path(self.engine.url.database or "")

    def _fold(self) -> None:
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _execute(self, statement: str) -> None:
        """Run one statement outside any transaction."""
        connection = self.engine.raw_connection()
        try:
            connection.cursor().execute(statement).fetchall()
        except sqlite3.OperationalError:
            raise StorageUnavailable("the database does not answer") from None
        finally:
            connection.close()

    def _holds(self, traces: Sequence[bytes]) -> bool:
        """Whether any of these bytes are in the files of an SQLite database, live or freed."""
        path = self._file
        overlap = max((len(trace) for trace in traces), default=1) - 1
        for file in (path, path.with_name(path.name + "-wal")):
            if not file.is_file():
                continue
            with file.open("rb") as opened:
                tail = b""
                while chunk := opened.read(_CHUNK_BYTES):
                    window = tail + chunk
                    if any(trace in window for trace in traces):
                        return True
                    tail = window[-overlap:] if overlap else b""
        return False

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open the database of a SQLAlchemy URL; a bare ``postgresql://`` means psycopg 3."""
    parsed = make_url(url)
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        # Fixed here: in a snapshot of its own (a database may default to that) a decision that has waited for a
        # withdrawal to commit would still not see it.
        isolation = "READ COMMITTED"
        return Database(create_engine(parsed, pool_pre_ping=True, hide_parameters=True, isolation_level=isolation))
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, hide_parameters=True)  # an SQL error must not carry a handle into a log
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return Database(engine)


def exclusive(session: Session, room: str) -> None:
    """Make concurrent transactions over one room wait for each other (on SQLite the write lock already does)."""
    if session.get_bind().dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(f"reticent/{room}".encode()).digest()[:8], "big", signed=True)
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def load_metadata() -> MetaData:
    """The tables of every room of the server: each ``server.<room>.tables`` that exists is imported."""
    for room in pkgutil.iter_modules(server.__path__):
        if room.ispkg and (Path(server.__path__[0]) / room.name / "tables.py").exists():
            importlib.import_module(f"server.{room.name}.tables")
    return SQLModel.metadata


@contextmanager
def _named_failures() -> Iterator[None]:
    """A database that does not answer, or cannot hold a value, is a named error, without the statement that met it."""
    try:
        yield
    except DataError:
        raise MalformedInput(_UNFIT) from None
    except OverflowError as error:
        if "SQLite" not in str(error):
            raise
        raise MalformedInput(_UNFIT) from None
    except (OperationalError, InterfaceError):
        raise StorageUnavailable("the database does not answer") from None


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own connection
    """Begin transactions ourselves (the driver would only begin at the first write) and set what SQLite forgets."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get(_BEGIN, 'IMMEDIATE')}")
