"""The device's own gate. Owns its consent receipts: verified when they arrive, verified again when they are used.

The rule is ``policies.consent.decide``; this room only brings it the facts. Whatever cannot be read, decoded or
verified is a Refusal: a damaged withdrawal must never bring back the grant before it. Withdrawals are receipts too;
the latest event counts, and of two in the same second the one that permits less. A stop by the owner holds from the
moment it is made, heard by the service or not, until a grant arrives that is newer than it. So does a no in the latest
standing that the service has signed (an objection, a restriction, a kill switch); a later standing or grant ends it.
"""

from __future__ import annotations

import dataclasses
import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from client.pins import Pins
from client.store.database import connect, named_errors, transaction
from client.store.keys import DeviceId
from common.crypto.signing import PublicKey
from common.errors import InvalidReceipt, StoreError, TrustError
from common.taxonomy import AgeBand, ConsentState, Purpose, RefusalReason
from common.wire.documents import open_document
from common.wire.messages import ConsentReceipt, ConsentStanding
from policies.consent import (
    CLOCK_TOLERANCE_S,
    UNKNOWN_SUBJECT,
    ConsentFact,
    ConsentSnapshot,
    Permit,
    Refusal,
    decide,
)
from policies.schema import PurposesPolicy

FORMAT: Final = 2
WHAT: Final = "the store of consent receipts"
_STOPS: Final = """
CREATE TABLE stops (
    device TEXT NOT NULL, purpose TEXT NOT NULL, after INTEGER NOT NULL, time REAL NOT NULL, told INTEGER NOT NULL,
    PRIMARY KEY (device, purpose)) STRICT, WITHOUT ROWID;
CREATE TABLE standings (device TEXT PRIMARY KEY, jws TEXT NOT NULL, after INTEGER NOT NULL) STRICT
"""
_SCHEMA: Final = f"""
CREATE TABLE handles (device TEXT PRIMARY KEY, handle TEXT NOT NULL) STRICT;
CREATE TABLE receipts (
    id INTEGER PRIMARY KEY, device TEXT NOT NULL, jws TEXT NOT NULL, UNIQUE (device, jws)) STRICT;
{_STOPS}
"""
# Of two decisions in the same second, the one that permits less counts.
_PRECEDENCE: Final = {ConsentState.WITHDRAWN: 2, ConsentState.GIVEN: 0}


class Gate:
    """Answers whether a device's data may be used for a purpose, from that device's live, verified receipts."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        rules: PurposesPolicy,
        *,
        pins: Callable[[], Pins],
        now: Callable[[], float],
    ) -> None:
        """Use ``Gate.open``."""
        self._connection = connection
        self._rules = rules
        self._pins = pins
        self._now = now
        self._cache: dict[DeviceId, _Known | RefusalReason] = {}
        self._seen: tuple[int, Pins] | None = None

    @classmethod
    def open(cls, path: Path, rules: PurposesPolicy, *, pins: Callable[[], Pins], now: Callable[[], float]) -> Gate:
        """Open the receipts at ``path``; an absent file is made.

        Args:
            path: the file.
            rules: purposes and their prerequisites.
            pins: keys and notices that are trusted now.
            now: the device's clock, seconds since the epoch.

        Raises:
            VaultCorrupt: the file is damaged.
        """
        connection = connect(path, _SCHEMA, version=FORMAT, what=WHAT, upgrades={1: _add_stops})
        return cls(connection, rules, pins=pins, now=now)

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def permits(self, device: DeviceId, purpose: Purpose) -> Permit | Refusal:
        """Whether ``purpose`` is permitted on this device now. Never raises for what it cannot read: that is a no."""
        try:
            self._refresh()
            if device not in self._cache:
                self._cache[device] = self._read(device)
            known = self._cache[device]
        except StoreError:
            return Refusal(purpose, RefusalReason.UNAVAILABLE)
        if isinstance(known, RefusalReason):
            return Refusal(purpose, known)
        answer = decide(known.snapshot, purpose, self._now(), self._rules)
        return Refusal(purpose, known.nos[purpose]) if isinstance(answer, Permit) and purpose in known.nos else answer

    def renew(self) -> None:
        """Forget what was decoded: the next question is answered from the file."""
        self._cache.clear()

    def enrol(self, device: DeviceId, handle: str) -> None:
        """Bind the device to its subject handle. Another handle than before is another subject: its receipts go."""
        with transaction(self._connection, WHAT):
            if self.handle(device) not in (None, handle):
                self._forget(device)
            self._connection.execute(
                "INSERT INTO handles VALUES (?, ?) ON CONFLICT (device) DO UPDATE SET handle = excluded.handle",
                (device, handle),
            )
        self._cache.pop(device, None)

    def handle(self, device: DeviceId) -> str | None:
        """The device's subject handle; None before it enrolled."""
        with named_errors(WHAT):
            row = self._connection.execute("SELECT handle FROM handles WHERE device = ?", (device,)).fetchone()
        return None if row is None else str(row[0])

    def store_receipt(self, device: DeviceId, jws: str) -> ConsentReceipt:
        """Verify a receipt and keep it durably; the first one enrols a device that has no handle yet.

        Raises:
            UnknownSigner: signed by a key that is not pinned.
            InvalidReceipt: it does not verify, or is for another subject. Nothing is stored.
        """
        return self.store_receipts([(device, jws)])[0]

    def store_receipts(self, receipts: Iterable[tuple[DeviceId, str]]) -> list[ConsentReceipt]:
        """Verify and keep several receipts in one transaction: all of them, or none."""
        keys = self._pins().keys
        verified = [(device, jws, open_document(jws, ConsentReceipt, keys)) for device, jws in receipts]
        with transaction(self._connection, WHAT):
            for device, jws, receipt in verified:
                if self.handle(device) is None:
                    self.enrol(device, receipt.handle)
                if receipt.handle != self.handle(device):
                    raise InvalidReceipt("this receipt is for another subject than this device's")
                self._connection.execute("INSERT OR IGNORE INTO receipts (device, jws) VALUES (?, ?)", (device, jws))
                self._cache.pop(device, None)
        return [receipt for _, _, receipt in verified]

    def receipts(self, device: DeviceId) -> list[ConsentReceipt]:
        """The device's receipts, verified, oldest first.

        Raises:
            InvalidReceipt, UnknownSigner: one of them does not verify any more.
        """
        return sorted((receipt for _, receipt in self._numbered(device)), key=lambda receipt: receipt.event_time)

    def stop(self, device: DeviceId, purposes: Iterable[Purpose]) -> None:
        """The owner's no, in force here at once and before anybody is told; only a newer grant ends it.

        What is newer is told by the order of arrival, not by anybody's clock.
        """
        with transaction(self._connection, WHAT):
            (last,) = self._connection.execute(
                "SELECT COALESCE(MAX(id), 0) FROM receipts WHERE device = ?", (device,)
            ).fetchone()
            self._connection.executemany(
                "INSERT OR REPLACE INTO stops VALUES (?, ?, ?, ?, 0)",
                [(device, purpose.value, last, self._now()) for purpose in purposes],
            )
        self._cache.pop(device, None)

    def heard(self, device: DeviceId, jws: str) -> ConsentStanding:
        """Verify and keep the service's word on how this device stands; what it refuses is refused here from now on.

        Raises:
            UnknownSigner, TrustError: it does not verify, is for another subject, is not of now, or is older than one
                that was heard before. Nothing is kept.
        """
        standing = open_document(jws, ConsentStanding, self._pins().keys)
        if standing.handle != self.handle(device):
            raise TrustError("this standing is another subject's")
        if not standing.issued_at - CLOCK_TOLERANCE_S <= self._now() < standing.expires_at:
            raise TrustError("this standing is not of now")
        with transaction(self._connection, WHAT):
            held = self._connection.execute("SELECT jws FROM standings WHERE device = ?", (device,)).fetchone()
            if held is not None and standing.issued_at < _issued(held[0], self._pins().keys):
                raise TrustError("this standing is older than one that was heard before")
            self._connection.execute(
                "INSERT OR REPLACE INTO standings VALUES (?1, ?2, (SELECT COALESCE(MAX(id), 0) FROM receipts WHERE "
                "device = ?1))",
                (device, jws),
            )
        self._cache.pop(device, None)
        return standing

    def told(self, device: DeviceId, purposes: Iterable[Purpose]) -> None:
        """Note that the service has heard of these stops."""
        with transaction(self._connection, WHAT):
            self._connection.executemany(
                "UPDATE stops SET told = 1 WHERE device = ? AND purpose = ?", [(device, one.value) for one in purposes]
            )

    def untold(self, device: DeviceId) -> list[Purpose]:
        """Stops that hold here and that the service has not heard of yet."""
        with named_errors(WHAT):
            rows = self._connection.execute(
                "SELECT purpose FROM stops WHERE device = ? AND told = 0 ORDER BY purpose", (device,)
            ).fetchall()
        return [Purpose(purpose) for (purpose,) in rows]

    def forget(self, device: DeviceId) -> None:
        """Delete the device's handle and receipts: from now on every answer is a Refusal."""
        with transaction(self._connection, WHAT):
            self._forget(device)
            self._connection.execute("DELETE FROM handles WHERE device = ?", (device,))
        with named_errors(WHAT):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # nor in what is yet to be merged
        self._cache.pop(device, None)

    def _forget(self, device: DeviceId) -> None:
        for table in ("receipts", "stops", "standings"):
            self._connection.execute(f"DELETE FROM {table} WHERE device = ?", (device,))  # noqa: S608 - our own names

    def _refresh(self) -> None:
        """Drop what was decoded when another process wrote, or when other keys or notices are trusted now."""
        with named_errors(WHAT):
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        state = (version, self._pins())
        if state != self._seen:
            self._cache.clear()
            self._seen = state

    def _read(self, device: DeviceId) -> _Known | RefusalReason:
        handle = self.handle(device)
        if handle is None:
            return _Known(UNKNOWN_SUBJECT, {})
        try:
            numbered = self._numbered(device)
            nos = self._nos(device, numbered)
        except TrustError:
            return RefusalReason.UNVERIFIED
        if any(receipt.handle != handle for _, receipt in numbered):
            return RefusalReason.UNVERIFIED
        known = _snapshot([receipt for _, receipt in numbered], self._pins().notices)
        facts = {**known.facts, **self._stopped(device, numbered)}
        return _Known(dataclasses.replace(known, facts=facts), nos)

    def _numbered(self, device: DeviceId) -> list[tuple[int, ConsentReceipt]]:
        """The device's receipts, verified, each with its number in the order of their arrival."""
        keys = self._pins().keys
        with named_errors(WHAT):
            rows = self._connection.execute(
                "SELECT id, jws FROM receipts WHERE device = ? ORDER BY id", (device,)
            ).fetchall()
        return [(int(number), open_document(jws, ConsentReceipt, keys)) for number, jws in rows]

    def _stopped(self, device: DeviceId, numbered: Iterable[tuple[int, ConsentReceipt]]) -> dict[Purpose, ConsentFact]:
        """The owner's stops that no newer grant has ended, as facts."""
        granted = _granted(numbered)
        with named_errors(WHAT):
            rows = self._connection.execute(
                "SELECT purpose, after, time FROM stops WHERE device = ?", (device,)
            ).fetchall()
        return {
            Purpose(purpose): ConsentFact(ConsentState.WITHDRAWN, time, math.inf, "")
            for purpose, after, time in rows
            if granted.get(Purpose(purpose), 0) <= after
        }

    def _nos(self, device: DeviceId, numbered: Iterable[tuple[int, ConsentReceipt]]) -> dict[Purpose, RefusalReason]:
        """What the latest standing refuses and no newer grant has put right."""
        with named_errors(WHAT):
            row = self._connection.execute("SELECT jws, after FROM standings WHERE device = ?", (device,)).fetchone()
        if row is None:
            return {}
        standing, granted = open_document(row[0], ConsentStanding, self._pins().keys), _granted(numbered)
        return {
            line.purpose: line.reason or RefusalReason.UNAVAILABLE
            for line in standing.purposes
            if not line.permitted and granted.get(line.purpose, 0) <= row[1]
        }


@dataclasses.dataclass(frozen=True, slots=True)
class _Known:
    """What a device's answers rest on: its own facts, and what the service has refused since."""

    snapshot: ConsentSnapshot
    nos: Mapping[Purpose, RefusalReason]


def _issued(jws: str, keys: Mapping[str, PublicKey]) -> int:
    return open_document(jws, ConsentStanding, keys).issued_at


def _granted(numbered: Iterable[tuple[int, ConsentReceipt]]) -> dict[Purpose, int]:
    """Number of the latest grant of each purpose, in the order of arrival."""
    return {receipt.purpose: number for number, receipt in numbered if receipt.state is ConsentState.GIVEN}


def _add_stops(connection: sqlite3.Connection) -> None:
    for statement in _STOPS.split(";"):
        connection.execute(statement)


def _snapshot(receipts: Iterable[ConsentReceipt], notices: frozenset[str]) -> ConsentSnapshot:
    """The latest decision per purpose and the latest declared age band."""
    latest: dict[Purpose, ConsentReceipt] = {}
    ages: list[tuple[int, bool, AgeBand]] = []
    for receipt in receipts:
        ages.append((receipt.event_time, receipt.age_band is not AgeBand.ADULT, receipt.age_band))
        held = latest.get(receipt.purpose)
        if held is None or _weight(receipt) >= _weight(held):
            latest[receipt.purpose] = receipt
    if not ages:
        return dataclasses.replace(UNKNOWN_SUBJECT, age_band=AgeBand.UNKNOWN)
    facts = {
        purpose: ConsentFact(r.state, float(r.event_time), float(r.valid_until), r.notice_digest, _opposed(r))
        for purpose, r in latest.items()
    }
    return ConsentSnapshot(max(ages)[2], facts, notices)


def _opposed(receipt: ConsentReceipt) -> bool:
    """Whether a privacy signal that came with the decision opposes its purpose."""
    return receipt.record is not None and receipt.purpose in receipt.record.signals.opposed


def _weight(receipt: ConsentReceipt) -> tuple[int, int]:
    return receipt.event_time, _PRECEDENCE.get(receipt.state, 1)
