"""The vault: encrypted behaviour of the devices that one node hosts. Nothing readable about behaviour is on the disk.

SQLite in WAL mode; every event is one sealed record (``client.store.records``). Keys are elsewhere
(``client.store.keys``). In clear are device names, record numbers and sizes, and keyed fingerprints; no time, kind,
item or text. Erasing a device destroys its key first and its rows after: from the first step on, nobody can read them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from client.behavior.events import KIND_OF, BehaviourEvent
from client.store.database import connect, named_errors, transaction
from client.store.keys import DeviceId, KeyStore
from client.store.records import BadRecord, RecordBox, Summary, check_value, is_key_for
from common.errors import DeviceErased, StoreError, VaultCorrupt, WrongKey
from common.taxonomy import EventKind

FORMAT: Final = 1
WHAT: Final = "the vault"
_SCHEMA: Final = """
CREATE TABLE devices (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, key_check BLOB NOT NULL, summary BLOB NOT NULL,
    next_sequence INTEGER NOT NULL DEFAULT 0, erased INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE events (
    device INTEGER NOT NULL REFERENCES devices(id), sequence INTEGER NOT NULL, tag BLOB NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (device, sequence)) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX event_tags ON events (device, tag);
CREATE TABLE derived (
    device INTEGER NOT NULL REFERENCES devices(id), name TEXT NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (device, name)) STRICT;
"""


@dataclass(frozen=True, slots=True)
class AppendReport:
    """What became of events that were handed in. ``rejected`` counts reasons, never content."""

    stored: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Salvage:
    """What a damaged device still holds: good events in time order, numbers of bad records, and how many are gone."""

    events: list[BehaviourEvent]
    bad_sequences: list[int]
    missing: int


@dataclass(slots=True)
class _Row:
    id: int
    next_sequence: int
    box: RecordBox
    sealed_summary: bytes


class Vault:
    """All devices of one node. Not for use by several threads; several processes may share the file."""

    def __init__(self, connection: sqlite3.Connection, keys: KeyStore) -> None:
        """Use ``Vault.open``."""
        self._connection = connection
        self._keys = keys
        self._boxes: dict[DeviceId, tuple[bytes, RecordBox]] = {}

    @classmethod
    def open(cls, path: Path, keys: KeyStore) -> Vault:
        """Open the vault at ``path``; an absent one is made. Erasures that were interrupted are completed.

        Raises:
            VaultCorrupt: the file is truncated, not a database, or of another format.
        """
        vault = cls(connect(path, _SCHEMA, version=FORMAT, what=WHAT), keys)
        for device in vault.devices():
            if keys.destroyed(device):
                vault.erase(device)
        return vault

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything inside one transaction: a bulk load of many devices is written at once, or not at all."""
        with transaction(self._connection, WHAT):
            yield

    def devices(self) -> list[DeviceId]:
        """Devices that were not erased, by name."""
        with named_errors(WHAT):
            rows = self._connection.execute("SELECT name FROM devices WHERE NOT erased ORDER BY name").fetchall()
        return [DeviceId(name) for (name,) in rows]

    def is_erased(self, device: DeviceId) -> bool:
        """Whether this device was erased and not begun again."""
        with named_errors(WHAT):
            row = self._connection.execute("SELECT erased FROM devices WHERE name = ?", (device,)).fetchone()
        return bool(row and row[0])

    def count(self, device: DeviceId) -> int:
        """Events held; 0 for an unknown or erased device."""
        with named_errors(WHAT):
            return int(
                self._connection.execute(
                    "SELECT COUNT(*) FROM events JOIN devices ON device = id WHERE name = ?", (device,)
                ).fetchone()[0]
            )

    def append(self, device: DeviceId, events: Iterable[BehaviourEvent]) -> AppendReport:
        """Store events in one transaction; duplicates are skipped. A new device gets its key here.

        Cached derivations of the device are dropped when anything was added: they no longer tell its whole story.

        Raises:
            DeviceErased: this device was erased; ``start_again`` begins it anew.
            WrongKey, VaultCorrupt: nothing was stored.
        """
        with transaction(self._connection, WHAT):
            row = self._row(device, create=True)
            summary = self._summary(row)
            seen = 0

            def sealed() -> Iterator[tuple[int, int, bytes, bytes]]:
                nonlocal seen
                for event in events:
                    sequence = row.next_sequence + seen
                    seen += 1
                    _note(summary, event)
                    yield row.id, sequence, row.box.tag(event), row.box.seal_event(event, sequence)

            cursor = self._connection.executemany(
                "INSERT INTO events (device, sequence, tag, sealed) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (device, tag) DO NOTHING",
                sealed(),
            )
            stored = max(cursor.rowcount, 0)
            if stored:
                summary.count += stored
                self._connection.execute("DELETE FROM derived WHERE device = ?", (row.id,))
                self._save(row, summary, next_sequence=row.next_sequence + seen)
        return AppendReport(stored, seen - stored)

    def read(self, device: DeviceId) -> list[BehaviourEvent]:
        """All events in time order; empty for a device that never recorded any.

        Raises:
            VaultCorrupt: a record is damaged or missing; the text names it, and ``salvage`` gives the rest.
            WrongKey: the key is not this device's.
            DeviceErased: there is no key any more.
        """
        found = self._open_all(device, self._sealed)
        if found.bad_sequences:
            raise VaultCorrupt(
                f"record {found.bad_sequences[0]} of this device is damaged ({len(found.bad_sequences)} in all); "
                "the others can be saved by a salvage export"
            )
        if found.missing:
            raise VaultCorrupt(f"{found.missing} records of this device are missing; a salvage export saves the others")
        return found.events

    def salvage(self, device: DeviceId) -> Salvage:
        """Whatever still authenticates, and the numbers of the records that do not.

        Raises:
            WrongKey, DeviceErased: nothing can be read at all.
        """
        try:
            return self._open_all(device, self._sealed)
        except VaultCorrupt:  # the file itself is damaged: ask for every record by its number
            return self._open_all(device, self._sealed_one_by_one)

    def put_derived(self, device: DeviceId, name: str, payload: bytes) -> None:
        """Cache something computed from the device's events, encrypted like them; it goes when they change or go."""
        with transaction(self._connection, WHAT):
            row = self._row(device, create=True)
            self._connection.execute(
                "INSERT OR REPLACE INTO derived (device, name, sealed) VALUES (?, ?, ?)",
                (row.id, name, row.box.seal_derived(payload, name)),
            )

    def drop_derived(self, device: DeviceId) -> None:
        """Delete everything cached of a device: what it is derived from, or by which rule, has changed."""
        with transaction(self._connection, WHAT):
            self._connection.execute(
                "DELETE FROM derived WHERE device = (SELECT id FROM devices WHERE name = ?)", (device,)
            )

    def get_derived(self, device: DeviceId, name: str) -> bytes | None:
        """What was cached under ``name``; None when there is nothing, or nothing genuine: it can be computed again."""
        row = self._find(device)
        if row is None:
            return None
        with named_errors(WHAT):
            found = self._connection.execute(
                "SELECT sealed FROM derived WHERE device = ? AND name = ?", (row.id, name)
            ).fetchone()
        if found is None:
            return None
        try:
            return row.box.open_derived(found[0], name)
        except BadRecord:
            return None

    def oldest(self, device: DeviceId) -> Mapping[EventKind, float]:
        """Earliest event time per kind, without opening a record."""
        row = self._find(device)
        return dict(self._summary(row).oldest) if row else {}

    def delete_before(self, device: DeviceId, limits: Mapping[EventKind, float]) -> int:
        """Delete events older than the limit of their kind, and everything derived from them; return how many."""
        with transaction(self._connection, WHAT):
            row = self._find(device)
            if row is None:
                return 0
            summary, doomed = Summary(), []
            for sequence, sealed in self._sealed(row):
                try:
                    event = row.box.open_event(sealed, sequence)
                except BadRecord:
                    summary.count += 1  # damaged records are for their owner to decide about
                    continue
                if event.time < limits[KIND_OF[type(event)]]:
                    doomed.append((row.id, sequence))
                else:
                    summary.count += 1
                    _note(summary, event)
            if doomed:
                self._connection.executemany("DELETE FROM events WHERE device = ? AND sequence = ?", doomed)
                self._connection.execute("DELETE FROM derived WHERE device = ?", (row.id,))
            self._save(row, summary, next_sequence=row.next_sequence)
        return len(doomed)

    def erase(self, device: DeviceId) -> None:
        """Erase a device for good: key first, rows after. That it was erased is remembered.

        Raises:
            StoreError: this vault has no such device.
        """
        if device not in self.devices() and not self.is_erased(device):
            raise StoreError("this vault has no such device")
        self._keys.destroy(device)
        self._boxes.pop(device, None)
        with transaction(self._connection, WHAT):
            (number,) = self._connection.execute("SELECT id FROM devices WHERE name = ?", (device,)).fetchone()
            self._connection.execute("DELETE FROM events WHERE device = ?", (number,))
            self._connection.execute("DELETE FROM derived WHERE device = ?", (number,))
            self._connection.execute(
                "UPDATE devices SET erased = 1, key_check = x'', summary = x'' WHERE id = ?", (number,)
            )
        if not self._connection.in_transaction:
            with named_errors(WHAT):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def start_again(self, device: DeviceId) -> None:
        """Begin an erased device anew, empty and with a new key. Its privacy spend is the ledger's and stays."""
        with transaction(self._connection, WHAT):
            if not self.is_erased(device):
                raise StoreError("only an erased device can be started again")
            key = self._keys.create(device)
            self._connection.execute(
                "UPDATE devices SET erased = 0, key_check = ?, summary = ? WHERE name = ?",
                (check_value(key), RecordBox(key, device).seal_summary(Summary()), device),
            )

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _row(self, device: DeviceId, *, create: bool) -> _Row:
        row = self._find(device)
        if row is not None:
            return row
        if not create:
            raise StoreError("this vault has no such device")
        try:
            key = self._keys.create(device)
        except FileExistsError:  # a key without rows: the program ended between making the two
            key = self._keys.load(device)
        box = RecordBox(key, device)
        self._connection.execute(
            "INSERT INTO devices (name, key_check, summary) VALUES (?, ?, ?)",
            (device, check_value(key), box.seal_summary(Summary())),
        )
        return self._row(device, create=False)

    def _find(self, device: DeviceId) -> _Row | None:
        with named_errors(WHAT):
            found = self._connection.execute(
                "SELECT id, next_sequence, erased, key_check, summary FROM devices WHERE name = ?", (device,)
            ).fetchone()
        if found is None:
            return None
        number, next_sequence, erased, check, summary = found
        if erased:
            raise DeviceErased("this device was erased: its key is destroyed and nobody can read what it held")
        return _Row(number, next_sequence, self._box(device, check), summary)

    def _box(self, device: DeviceId, check: bytes) -> RecordBox:
        """The device's box; the key is read and checked once per opened vault and check value."""
        held = self._boxes.get(device)
        if held is not None and held[0] == check:
            return held[1]
        key = self._keys.load(device)
        if not is_key_for(key, check):
            raise WrongKey("the key in the key directory is not the one this device's records were sealed with")
        box = RecordBox(key, device)
        self._boxes[device] = (check, box)
        return box

    def _summary(self, row: _Row) -> Summary:
        try:
            return row.box.open_summary(row.sealed_summary)
        except BadRecord:
            raise VaultCorrupt("the summary of this device is damaged; a salvage export saves its records") from None

    def _save(self, row: _Row, summary: Summary, *, next_sequence: int) -> None:
        self._connection.execute(
            "UPDATE devices SET summary = ?, next_sequence = ? WHERE id = ?",
            (row.box.seal_summary(summary), next_sequence, row.id),
        )

    def _sealed(self, row: _Row) -> Iterator[tuple[int, bytes]]:
        """All sealed records in order."""
        with named_errors(WHAT):
            yield from self._connection.execute(
                "SELECT sequence, sealed FROM events WHERE device = ? ORDER BY sequence", (row.id,)
            )

    def _sealed_one_by_one(self, row: _Row) -> Iterator[tuple[int, bytes]]:
        """Every record that the damaged file still gives."""
        for sequence in range(row.next_sequence):
            with contextlib.suppress(sqlite3.DatabaseError):
                found = self._connection.execute(
                    "SELECT sealed FROM events WHERE device = ? AND sequence = ?", (row.id, sequence)
                ).fetchone()
                if found:
                    yield sequence, found[0]

    def _open_all(self, device: DeviceId, records: Callable[[_Row], Iterator[tuple[int, bytes]]]) -> Salvage:
        row = self._find(device)
        if row is None:
            return Salvage([], [], 0)
        events: list[BehaviourEvent] = []
        bad: list[int] = []
        for sequence, sealed in records(row):
            try:
                events.append(row.box.open_event(sealed, sequence))
            except BadRecord:
                bad.append(sequence)
        events.sort(key=_time)
        try:
            missing = max(0, row.box.open_summary(row.sealed_summary).count - len(events) - len(bad))
        except BadRecord:
            missing = 0
        return Salvage(events, bad, missing)


def _time(event: BehaviourEvent) -> float:
    return event.time


def _note(summary: Summary, event: BehaviourEvent) -> None:
    kind = KIND_OF[type(event)]
    if event.time < summary.oldest.get(kind, float("inf")):
        summary.oldest[kind] = event.time
