"""Secrets of running secure aggregations. Owns where a device keeps them between two messages of one session.

On a real node every message is a process of its own, so a session's keys must outlive it: one file per node, each
device's state sealed under a subkey of that device's key and bound to session, stage and roster. A state moves on only
from the stage it is in, durably and before anything is sent, so no stage is ever answered twice. States are deleted at
the last stage, at expiry, at withdrawal and with their device. That a session was seen stays until its invitation has
expired. Never in Flower's ``context.state``: that travels.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from client.store.database import connect, named_errors, transaction
from client.store.keys import DeviceId, KeyStore
from common.crypto.aead import Aead, NotAuthentic
from common.crypto.kdf import derive
from common.errors import OutOfStage, ProtocolViolation, Replayed, StoreError
from common.taxonomy import Stage

FORMAT: Final = 1
WHAT: Final = "the store of round secrets"
_SCHEMA: Final = """
CREATE TABLE sessions (
    session TEXT PRIMARY KEY, invitation TEXT NOT NULL, expires_at INTEGER NOT NULL, roster BLOB) STRICT;
CREATE TABLE states (
    session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, device TEXT NOT NULL, stage TEXT NOT NULL,
    sealed BLOB NOT NULL, PRIMARY KEY (session, device)) STRICT, WITHOUT ROWID
"""
_STAGES: Final = tuple(Stage)


class Sessions:
    """The running sessions of one node; safe for several processes. The file is open only while it is used."""

    def __init__(self, path: Path, keys: KeyStore, now: Callable[[], float]) -> None:
        self._path = path
        self._keys = keys
        self._now = now

    def begin(self, session: str, invitation: str, expires_at: int) -> None:
        """Remember a session that is about to be answered for the first time.

        Args:
            session: its id.
            invitation: the signed invitation; every later stage must come with the same one.
            expires_at: when the invitation expires, seconds since the epoch.

        Raises:
            Replayed: it was seen before.
        """
        self.sweep()
        with self._open() as connection, transaction(connection, WHAT):
            row = (session, _digest(invitation.encode()), expires_at)
            made = connection.execute(
                "INSERT OR IGNORE INTO sessions (session, invitation, expires_at) VALUES (?, ?, ?)", row
            )
            if made.rowcount != 1:
                raise Replayed("this session was answered before")

    def sweep(self) -> None:
        """Delete the secrets of sessions whose invitation has expired."""
        if self._path.exists():
            with self._open() as connection, transaction(connection, WHAT):
                connection.execute("DELETE FROM sessions WHERE expires_at < ?", (int(self._now()),))

    def resume(self, session: str, invitation: str) -> None:
        """Check that a session is running, and under this very invitation.

        Raises:
            OutOfStage: it never began here, or it has expired.
            ProtocolViolation: it began with another invitation.
        """
        with self._open() as connection, named_errors(WHAT):
            found = connection.execute("SELECT invitation FROM sessions WHERE session = ?", (session,)).fetchone()
        if found is None:
            raise OutOfStage("this session never began here")
        if found[0] != _digest(invitation.encode()):
            raise ProtocolViolation("one session, two invitations")

    def fix_roster(self, session: str, roster: bytes) -> None:
        """Keep the session's roster. It is public, and there is one.

        Raises:
            ProtocolViolation: another roster was handed out before.
        """
        with self._open() as connection, transaction(connection, WHAT):
            connection.execute("UPDATE sessions SET roster = ? WHERE session = ? AND roster IS NULL", (roster, session))
            if self._roster(connection, session) != roster:
                raise ProtocolViolation("one session, two rosters")

    def roster(self, session: str) -> bytes:
        """The session's roster.

        Raises:
            OutOfStage: none has arrived yet.
        """
        with self._open() as connection, named_errors(WHAT):
            found = self._roster(connection, session)
        if found is None:
            raise OutOfStage("this session has no roster yet")
        return found

    def put(self, session: str, states: Mapping[DeviceId, bytes]) -> set[DeviceId]:
        """Keep the states of devices that are about to advertise; those whose key is gone are not kept.

        Returns:
            The devices whose state is kept.
        """
        sealed = self._seal_all(session, Stage.ADVERTISE, "", states)
        with self._open() as connection, transaction(connection, WHAT):
            rows = [(session, device, Stage.ADVERTISE.value, data) for device, data in sealed.items()]
            connection.executemany("INSERT INTO states VALUES (?, ?, ?, ?)", rows)
        return set(sealed)

    def load(self, session: str, stage: Stage) -> dict[DeviceId, bytes]:
        """States of the devices whose last answered stage is ``stage``; one that cannot be opened is left out.

        Raises:
            Replayed: none is, and all that are left have answered a later stage.
            OutOfStage: none is.
        """
        with self._open() as connection, named_errors(WHAT):
            rows = connection.execute(
                "SELECT device, stage, sealed FROM states WHERE session = ? ORDER BY device", (session,)
            ).fetchall()
            roster = "" if stage is Stage.ADVERTISE else _digest(self._roster(connection, session) or b"")
        due = [(DeviceId(device), sealed) for device, found, sealed in rows if found == stage.value]
        if not due:
            later = rows and all(_STAGES.index(Stage(found)) > _STAGES.index(stage) for _, found, _ in rows)
            raise (Replayed if later else OutOfStage)("no device of this node is at this stage of the session")
        opened: dict[DeviceId, bytes] = {}
        for device, sealed in due:
            with contextlib.suppress(StoreError, NotAuthentic):
                opened[device] = self._box(device).open(sealed, _place(session, device, stage, roster))
        return opened

    def advance(self, session: str, after: Stage, states: Mapping[DeviceId, bytes]) -> set[DeviceId]:
        """Move devices from the stage before ``after`` to it; after the last stage their states are gone.

        Returns:
            Those that moved; one that was moved or dropped meanwhile, or has lost its key, is not among them.
        """
        before = _STAGES[_STAGES.index(after) - 1].value
        sealed = self._seal_all(session, after, _digest(self.roster(session)), states)
        moved: set[DeviceId] = set()
        with self._open() as connection, transaction(connection, WHAT):
            for device, data in sealed.items():
                where = (session, device, before)
                if after is _STAGES[-1]:
                    done = connection.execute(
                        "DELETE FROM states WHERE session = ? AND device = ? AND stage = ?", where
                    )
                else:
                    done = connection.execute(
                        "UPDATE states SET stage = ?, sealed = ? WHERE session = ? AND device = ? AND stage = ?",
                        (after.value, data, *where),
                    )
                if done.rowcount == 1:
                    moved.add(device)
        return moved

    def drop(self, session: str, devices: Collection[DeviceId]) -> None:
        """Forget what these devices know of a session: they take no further part in it."""
        if devices:
            with self._open() as connection, transaction(connection, WHAT):
                connection.executemany(
                    "DELETE FROM states WHERE session = ? AND device = ?", [(session, one) for one in devices]
                )

    def forget(self, device: DeviceId) -> None:
        """Forget a device in every session."""
        if self._path.exists():
            with self._open() as connection, transaction(connection, WHAT):
                connection.execute("DELETE FROM states WHERE device = ?", (device,))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(connect(self._path, _SCHEMA, version=FORMAT, what=WHAT)) as connection:
            yield connection

    def _roster(self, connection: sqlite3.Connection, session: str) -> bytes | None:
        row = connection.execute("SELECT roster FROM sessions WHERE session = ?", (session,)).fetchone()
        return row[0] if row else None

    def _box(self, device: DeviceId) -> Aead:
        return Aead(derive(self._keys.load(device), "secagg/session"))

    def _seal_all(
        self, session: str, stage: Stage, roster: str, states: Mapping[DeviceId, bytes]
    ) -> dict[DeviceId, bytes]:
        sealed = {}
        for device, state in states.items():
            with contextlib.suppress(StoreError):
                sealed[device] = self._box(device).seal(state, _place(session, device, stage, roster))
        return sealed


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _place(session: str, device: DeviceId, stage: Stage, roster: str) -> bytes:
    return f"reticent/session\0{session}\0{device}\0{stage.value}\0{roster}".encode()
