"""The durable path of a decision. Owns what a batch is checked against, and its one commit.

In one transaction everything is read that the decisions hang on (``seen``), every one is judged by that, what was
decided is inserted and committed with full sync. Only then is anybody told. What was decided under something that is
no longer in force is not recorded: its owner decides anew.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, cast

import psycopg
from sqlalchemy import PoolProxiedConnection
from sqlalchemy.exc import SQLAlchemyError

from common.taxonomy import Purpose, RefusalReason
from policies.consent import Permit, Refusal
from server.decisions import repository
from server.decisions.asking import Ask, Under, rows
from server.decisions.cursor import Cursor
from server.decisions.judging import Judge
from server.decisions.repository import Row
from server.decisions.seen import Remembered, read_postgresql, read_sqlite
from server.storage import Database, Transaction

if TYPE_CHECKING:
    from server.picks.service import PickClaim

BATCH_MAX: Final = 512
_UNFIT: Final = (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, psycopg.DataError, psycopg.IntegrityError)
_LOG = logging.getLogger(__name__)


Charge = Callable[[Transaction, "Sequence[PickClaim]"], Sequence[RefusalReason | None]]
"""Charges private picks inside a transaction: for each None, or why it may not be used."""


class Outcome(StrEnum):
    """What became of an entry."""

    RECORDED = "recorded"
    OUTDATED = "outdated"
    KEY_ENDED = "key-ended"
    UNAVAILABLE = "unavailable"


@dataclass(slots=True, eq=False)
class Entry:
    """A decision on its way into the database.

    Attributes:
        ask: the decision.
        under: what it was made under.
        claim: a private pick, which is charged before a permit is used.
        outcome, verdict, jurisdiction: what became of it; final once ``known``, which it is before its owner is told.
        abandoned: nobody waits any more; it is not recorded unless that has already happened.
        waiting: how its owner is told, once: an event, or what is called in the owner's event loop.
    """

    ask: Ask
    under: Under
    claim: PickClaim | None = None
    outcome: Outcome = Outcome.UNAVAILABLE
    verdict: Permit | Refusal | None = None
    jurisdiction: str | None = None
    known: bool = False
    abandoned: bool = False
    waiting: Callable[[], None] | threading.Event | None = None


class Committer:
    """Commits batches of entries, one at a time.

    Args of the constructor:
        database: where decisions are recorded.
        judge: judges every entry by what the transaction sees.
        clock: seconds since the epoch.
        charge: charges private picks; without it none is used.
    """

    def __init__(
        self, database: Database, judge: Judge, clock: Callable[[], float], charge: Charge | None = None
    ) -> None:
        self._database, self._judge, self._clock, self._charge = database, judge, clock, charge
        self._lite = database.engine.dialect.name == "sqlite"
        self._own: PoolProxiedConnection | None = None
        self._remembered = Remembered()

    def commit(self, batch: Sequence[Entry]) -> None:
        """Judge, insert, commit; every entry then has its outcome. Raises nothing: what fails is ``UNAVAILABLE``."""
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
                self.commit([one])
        except (sqlite3.Error, psycopg.Error, SQLAlchemyError) as error:
            _LOG.error("a batch of decisions could not be recorded: %s", type(error).__name__)
            _undo(batch)
        except Exception as error:  # noqa: BLE001 - nobody may wait for ever, and an error's text may hold a handle
            _LOG.error("a batch of decisions could not be judged: %s", type(error).__name__)
            _undo(batch)

    def write(self, cursor: Cursor, entries: Sequence[Entry], session: Transaction | None = None) -> None:
        """Check entries and insert what was decided, in the transaction of this cursor; the caller commits.

        Args:
            cursor: of the transaction.
            entries: what was decided.
            session: over the same transaction; without one no private pick is used.
        """
        live = [one for one in entries if not one.abandoned]
        handles = list({one.ask.handle: None for one in live if one.ask.handle is not None})
        keys = list({one.ask.key_hash: None for one in live if one.ask.key_hash is not None})
        now, recorded = int(self._clock()), list[Row]()
        if session is None and self._lite:
            seen = self._remembered.read(cursor, handles, keys, now)
        else:
            seen = (read_sqlite if self._lite else read_postgresql)(cursor, handles, keys, now)
        judged = self._judge.verdict
        for one in live:
            key = one.ask.key_hash
            if key is not None and key not in seen.keys:
                one.outcome = Outcome.KEY_ENDED
            elif (found := judged(one.ask, one.under, seen)) is None:
                one.outcome = Outcome.OUTDATED
            else:
                one.outcome, (one.verdict, one.jurisdiction) = Outcome.RECORDED, found
        self._charge_picks(session, [one for one in live if one.claim is not None])
        for one in live:
            if one.outcome is Outcome.RECORDED and one.verdict is not None:
                recorded += rows(one.ask, one.under, one.verdict)
        if recorded:
            repository.insert_many(cursor, recorded, lite=self._lite)

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
