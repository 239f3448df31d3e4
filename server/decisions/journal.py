"""The durable path of a decision. Owns batches: what a batch is checked against, its one commit, and who waits for it.

Decisions that arrive while a batch is being committed make up the next one: no timer, no delay added. One thread
writes; in one transaction it reads what everything hangs on (``seen``), judges every row by that, inserts what was
decided and commits with full sync. Only then is anybody told. A row that was decided under something that is no longer
in force is not recorded: its owner decides anew.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, cast

import psycopg
from sqlalchemy import PoolProxiedConnection
from sqlalchemy.exc import SQLAlchemyError

from common.taxonomy import Purpose, RefusalReason
from policies.consent import Permit, Refusal
from server.decisions import repository
from server.decisions.cursor import Cursor
from server.decisions.repository import Row
from server.decisions.seen import Remembered, Seen, read_postgresql, read_sqlite
from server.picks.service import PickClaim
from server.storage import Database, Transaction

BATCH_MAX: Final = 512
_UNFIT: Final = (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, psycopg.DataError, psycopg.IntegrityError)
_LOG = logging.getLogger(__name__)


Charge = Callable[[Transaction, Sequence[PickClaim]], Sequence[RefusalReason | None]]
"""Charges private picks inside a transaction: for each None, or why it may not be used."""


class Outcome(StrEnum):
    """What became of an entry."""

    RECORDED = "recorded"
    OUTDATED = "outdated"
    KEY_ENDED = "key-ended"
    UNAVAILABLE = "unavailable"


@dataclass(slots=True, eq=False)
class Entry:
    """A decision on its way into the journal.

    Attributes:
        handle: whose consent it needs; None where nobody's.
        key_hash: of the API key that it came with, where that was only recalled and must still be valid.
        judge: from what the transaction sees to the verdict; None: the decision was made under something else.
        rows: what is recorded under a verdict.
        claim: a private pick, which is charged before a permit is used.
        outcome, verdict: what became of it; final once ``known``, which it is before its owner is told.
        abandoned: nobody waits any more; it is not recorded unless that has already happened.
    """

    handle: str | None
    key_hash: str | None
    judge: Callable[[Seen], Permit | Refusal | None]
    rows: Callable[[Permit | Refusal], Sequence[Row]]
    claim: PickClaim | None = None
    outcome: Outcome = Outcome.UNAVAILABLE
    verdict: Permit | Refusal | None = None
    known: bool = False
    abandoned: bool = False
    waiting: asyncio.Future[None] | threading.Event | None = None


class Journal:
    """Writes the decisions of one process."""

    def __init__(self, database: Database, clock: Callable[[], float], charge: Charge | None = None) -> None:
        """Write to ``database``; ``clock`` gives seconds since the epoch, ``charge`` charges private picks."""
        self._database, self._clock, self._charge = database, clock, charge
        self._lite = database.engine.dialect.name == "sqlite"
        self._lock, self._busy = threading.Lock(), False
        self._open: deque[Entry] = deque()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="decisions")
        self._own: PoolProxiedConnection | None = None
        self._remembered = Remembered()

    def submit(self, entry: Entry, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Put an entry into the open batch; done once what became of it is known."""
        done: asyncio.Future[None] = loop.create_future()
        entry.waiting = done
        if self._add(entry):
            loop.call_soon(self._begin)  # after whatever else is ready, which then shares the batch
        return done

    def record(self, entry: Entry, timeout_s: float | None = None) -> bool:
        """The same for a caller with a thread of its own: whether it is known in time; else the entry is abandoned."""
        done = entry.waiting = threading.Event()
        if self._add(entry):
            self._begin()
        done.wait(timeout_s)
        entry.abandoned = not entry.known
        return entry.known

    def write(self, cursor: Cursor, entries: Sequence[Entry], session: Transaction | None = None) -> None:
        """Check entries and insert what was decided, in the transaction of this cursor; the caller commits.

        Args:
            cursor: of the transaction.
            entries: what was decided.
            session: over the same transaction; without one no private pick is used.
        """
        handles = list(dict.fromkeys(one.handle for one in entries if one.handle is not None))
        keys = list(dict.fromkeys(one.key_hash for one in entries if one.key_hash is not None))
        now, rows = int(self._clock()), list[Row]()
        if session is None and self._lite:
            seen = self._remembered.read(cursor, handles, keys, now)
        else:
            seen = (read_sqlite if self._lite else read_postgresql)(cursor, handles, keys, now)
        for one in entries:
            if one.abandoned:
                continue
            if one.key_hash is not None and one.key_hash not in seen.keys:
                one.outcome = Outcome.KEY_ENDED
            elif (verdict := one.judge(seen)) is None:
                one.outcome = Outcome.OUTDATED
            else:
                one.outcome, one.verdict = Outcome.RECORDED, verdict
        self._charge_picks(session, [one for one in entries if one.claim is not None])
        for one in entries:
            if one.outcome is Outcome.RECORDED and one.verdict is not None:
                rows += one.rows(one.verdict)
        if rows:
            repository.insert_many(cursor, rows, lite=self._lite)

    def _charge_picks(self, session: Transaction | None, claiming: Sequence[Entry]) -> None:
        """Charge the private picks of permitted decisions; a permit without its charge is none."""
        found = [one for one in claiming if one.outcome is Outcome.RECORDED and isinstance(one.verdict, Permit)]
        if not found:
            return
        reasons: Sequence[RefusalReason | None] = [RefusalReason.UNAVAILABLE] * len(found)
        if session is not None and self._charge is not None:
            reasons = self._charge(session, [one.claim for one in found if one.claim is not None])
        for one, reason in zip(found, reasons, strict=True):
            if reason is not None:
                one.verdict = Refusal(Purpose.PLACE_PERSONALISED, reason)

    def _add(self, entry: Entry) -> bool:
        """Whether somebody has to begin the batch."""
        with self._lock:
            self._open.append(entry)
            begin, self._busy = not self._busy, True
        return begin

    def _begin(self) -> None:
        self._writer.submit(self._run)

    def _run(self) -> None:
        """Commit batches until none is open."""
        while True:
            with self._lock:
                batch = [self._open.popleft() for _ in range(min(len(self._open), BATCH_MAX))]
                self._busy = bool(batch)
            if not batch:
                return
            try:
                self._commit(batch)
            finally:
                _tell(batch)

    def _commit(self, batch: Sequence[Entry]) -> None:
        try:
            if any(one.claim is not None for one in batch):
                with self._database.write() as session:
                    self.write(cast("Cursor", session.connection().connection.cursor()), batch, session)
                return
            with self._transaction() as cursor:
                self.write(cursor, batch)
        except _UNFIT:
            _undo(batch)
            for one in batch if len(batch) > 1 else ():  # one row that fits no table takes no other with it
                self._commit([one])
        except (sqlite3.Error, psycopg.Error, SQLAlchemyError) as error:
            _LOG.error("a batch of decisions could not be recorded: %s", type(error).__name__)
            _undo(batch)
        except Exception as error:  # noqa: BLE001 - nobody may wait for ever, and an error's text may hold a handle
            _LOG.error("a batch of decisions could not be judged: %s", type(error).__name__)
            _undo(batch)

    @contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        """A bare transaction; on SQLite with the write lock from the beginning, on a connection of its own."""
        connection = self._connection()
        try:
            cursor = cast("Cursor", connection.cursor())
            if self._lite:
                cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            connection.commit()
        except BaseException:
            self._own, self._remembered = None, Remembered()
            connection.rollback()
            connection.close()
            raise
        if connection is not self._own:
            connection.close()

    def _connection(self) -> PoolProxiedConnection:
        """SQLite's is kept, and nobody else gets it: what it has read is remembered."""
        if self._own is not None:
            return self._own
        connection = self._database.engine.raw_connection()
        if self._lite:
            connection.detach()
            self._own = connection
        return connection


def _undo(batch: Sequence[Entry]) -> None:
    for one in batch:
        one.outcome, one.verdict = Outcome.UNAVAILABLE, None


def _tell(batch: Sequence[Entry]) -> None:
    """Wake everybody who waits; those of one event loop together."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for one in batch:
        one.known = True
        if isinstance(one.waiting, threading.Event):
            one.waiting.set()
        elif one.waiting is not None:
            loops.setdefault(one.waiting.get_loop(), []).append(one.waiting)
    for loop, waiting in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(resolve, waiting)


def resolve(waiting: Sequence[asyncio.Future[None]]) -> None:
    """Wake those who still wait."""
    for one in waiting:
        if not one.done():
            one.set_result(None)
