"""The device's own gate. Owns its consent receipts: verified when they arrive, verified again when they are used.

The rule is ``policies.consent.decide``; this room only brings it the facts. Whatever cannot be read, decoded or
verified is a Refusal: a damaged withdrawal must never bring back the grant before it. Withdrawals are receipts too;
the latest event counts, and of two in the same second the one that permits less.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from client.pins import Pins
from client.store.database import connect, named_errors, transaction
from client.store.keys import DeviceId
from common.errors import InvalidReceipt, StoreError, TrustError
from common.taxonomy import AgeBand, ConsentState, Purpose, RefusalReason
from common.wire.documents import open_document
from common.wire.messages import ConsentReceipt
from policies.consent import UNKNOWN_SUBJECT, ConsentFact, ConsentSnapshot, Permit, Refusal, decide
from policies.schema import PurposesPolicy

FORMAT: Final = 1
WHAT: Final = "the store of consent receipts"
_SCHEMA: Final = """
CREATE TABLE handles (device TEXT PRIMARY KEY, handle TEXT NOT NULL) STRICT;
CREATE TABLE receipts (
    id INTEGER PRIMARY KEY, device TEXT NOT NULL, jws TEXT NOT NULL, UNIQUE (device, jws)) STRICT
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
        self._cache: dict[DeviceId, ConsentSnapshot | RefusalReason] = {}
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
        return cls(connect(path, _SCHEMA, version=FORMAT, what=WHAT), rules, pins=pins, now=now)

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
        return decide(known, purpose, self._now(), self._rules)

    def enrol(self, device: DeviceId, handle: str) -> None:
        """Bind the device to its subject handle. Another handle than before is another subject: its receipts go."""
        with transaction(self._connection, WHAT):
            if self.handle(device) not in (None, handle):
                self._connection.execute("DELETE FROM receipts WHERE device = ?", (device,))
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
        keys = self._pins().keys
        with named_errors(WHAT):
            rows = self._connection.execute(
                "SELECT jws FROM receipts WHERE device = ? ORDER BY id", (device,)
            ).fetchall()
        found = [open_document(jws, ConsentReceipt, keys) for (jws,) in rows]
        return sorted(found, key=lambda receipt: receipt.event_time)

    def forget(self, device: DeviceId) -> None:
        """Delete the device's handle and receipts: from now on every answer is a Refusal."""
        with transaction(self._connection, WHAT):
            self._connection.execute("DELETE FROM receipts WHERE device = ?", (device,))
            self._connection.execute("DELETE FROM handles WHERE device = ?", (device,))
        self._cache.pop(device, None)

    def _refresh(self) -> None:
        """Drop what was decoded when another process wrote, or when other keys or notices are trusted now."""
        with named_errors(WHAT):
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        state = (version, self._pins())
        if state != self._seen:
            self._cache.clear()
            self._seen = state

    def _read(self, device: DeviceId) -> ConsentSnapshot | RefusalReason:
        handle = self.handle(device)
        if handle is None:
            return UNKNOWN_SUBJECT
        try:
            receipts = self.receipts(device)
        except TrustError:
            return RefusalReason.UNVERIFIED
        if any(receipt.handle != handle for receipt in receipts):
            return RefusalReason.UNVERIFIED
        return _snapshot(receipts, self._pins().notices)


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
        purpose: ConsentFact(r.state, float(r.event_time), float(r.valid_until), r.notice_digest)
        for purpose, r in latest.items()
    }
    return ConsentSnapshot(max(ages)[2], facts, notices)


def _weight(receipt: ConsentReceipt) -> tuple[int, int]:
    return receipt.event_time, _PRECEDENCE.get(receipt.state, 1)
