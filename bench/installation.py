"""A real installation whose log has a million entries, and the bundle that the service makes of it.

The entries go into the tables as the service leaves them (leaf, subtree hashes, salt, record; receipts in the room of
consent, charges in the ledger), many at a time: one by one they would take minutes. All else is the service's own code.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import insert

from cli.evidence.verify import Report, verify_bundle
from common.crypto.signing import SigningKey
from common.privacy.parameters import MechanismUse
from common.taxonomy import (
    AgeBand,
    ConsentState,
    LogKind,
    Mechanism,
    NeighbouringRelation,
    PrivacyUnit,
    Purpose,
    ReleaseKind,
    Role,
    TrustModel,
)
from common.transparency import tree
from common.transparency.checkpoint import Checkpoint, seal_checkpoint
from common.transparency.leaf import Leaf, Opening
from common.wire.documents import open_document, seal
from common.wire.messages import ConsentChange, ConsentReceipt, SubjectEnrolment
from policies.budget import PlannedRelease
from server.api.services import Services, initialise
from server.consent.tables import ConsentEvent, Subject
from server.evidence.bundle import write_bundle
from server.settings import Settings
from server.transparency.tables import LogCheckpoint, LogEntry, LogRecord

START: Final = 1_800_000_000
BATCH: Final = 1_000
CHARGES: Final = 200
RECEIPTS_EACH: Final = 40
_USE: Final = MechanismUse(
    mechanism=Mechanism.SKELLAM,
    noise_multiplier=2.72,
    unit=PrivacyUnit.USER,
    relation=NeighbouringRelation.ADD_REMOVE,
    trust=TrustModel.DISTRIBUTED,
    sampling_rate=1.0,
    count=1,
    levels=1000,
    dimension=10,
)


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk and the key that signed it."""

    path: Path
    key: SigningKey
    entries: int
    receipts: int


def make_bundle(folder: Path, *, entries: int, receipts: int, seed: int = 1) -> Bundle:
    """An installation with so many entries, four fifths of them about people, and its bundle.

    Args:
        folder: where both go; must be new.
        entries: of the log.
        receipts: how many of them are consent events with a signed receipt each; the others are privileged reads.
        seed: of what is random.
    """
    moment = [float(START)]
    services = initialise(Settings.at(folder / "state"), clock=lambda: moment[0])
    try:
        sample = _sample(services)
        for number in range(CHARGES):
            planned = [PlannedRelease(ReleaseKind.TRAINING_UPDATE, _USE)]
            services.ledger.reserve("run", f"cause-{number}", planned, [b"i%031d" % (number % 50)])
        _Filler(services, sample, random.Random(seed)).fill(entries, receipts)  # noqa: S311 - repeatable test data
        moment[0] += entries
        path = folder / "evidence.zip"
        with path.open("wb") as file:
            done = write_bundle(services, file)
    finally:
        services.database.close()
    return Bundle(path, services.signer, done.entries, done.receipts)


def _sample(services: Services) -> ConsentReceipt:
    """A receipt as the service writes it."""
    enrolment = SubjectEnrolment(
        public_key=SigningKey.generate().public.x, app_id="bench", age_band=AgeBand.ADULT, jurisdiction="CN"
    )
    change = ConsentChange(
        handle=services.consent.enrol(enrolment),
        notice_digest=services.notices.current("en").digest,
        decisions={Purpose.TRAIN_LOCAL: ConsentState.GIVEN},
        locale="en",
        surface="settings/privacy",
    )
    (receipt,) = services.consent.change(change, Role.DEVICE)
    return open_document(receipt.jws, ConsentReceipt, services.keys)


class _Filler:
    """Writes entries as ``TransparencyLog.append`` does, many at a time."""

    def __init__(self, services: Services, sample: ConsentReceipt, rng: random.Random) -> None:
        self._services, self._sample, self._rng = services, sample, rng
        self._peaks: list[tuple[int, bytes]] = []  # complete subtrees so far: level and hash

    def fill(self, entries: int, receipts: int) -> None:
        """Until the log has so many entries."""
        size = self._services.log.size()
        for entry in list(self._services.log.each()):
            self._grow(entry.leaf_hash)
        people = -(-receipts // RECEIPTS_EACH)
        subjects = [self._rng.randbytes(16).hex()[:22] for _ in range(people)]
        with self._services.database.write() as session:
            for part in _parts([_subject(handle) for handle in subjects]):
                session.connection().execute(insert(Subject), part)
        due = iter(range(receipts))
        while size < entries:
            upto = min(entries, size - size % BATCH + BATCH)
            self._batch(range(size, upto), due, subjects)
            size = upto

    def _batch(self, seqs: range, due: Iterator[int], subjects: Sequence[str]) -> None:
        leaves, records, events = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
        for seq in seqs:
            number = next(due, None) if seq % 5 else None
            if number is None:
                leaf, opening = self._read(seq)
            else:
                leaf, opening, event = self._consent(seq, subjects[number // RECEIPTS_EACH])
                events.append(event)
            leaves.append(_leaf_row(leaf, self._grow(tree.leaf_hash(leaf.encode()))))
            records.append(_record_row(seq, opening))
        size, services = seqs.stop, self._services
        draft = Checkpoint(services.log.origin, size, self._root(), START + size // 20)
        note = seal_checkpoint(draft, services.signer)
        with services.database.write() as session:
            connection = session.connection()
            connection.execute(insert(LogEntry), leaves)
            connection.execute(insert(LogRecord), records)
            if events:
                connection.execute(insert(ConsentEvent), events)
            connection.execute(insert(LogCheckpoint), {"size": size, "time": draft.time, "note": note})

    def _read(self, seq: int) -> tuple[Leaf, Opening]:
        """Somebody in office read something; four fifths about a person."""
        digest = self._rng.randbytes(32).hex()
        subject = digest[:22] if seq % 5 else None
        record = f'{{"key_id":"key_{digest[:16]}","query":"{digest}","what":"GET /v1/consents/{{handle}}"}}'
        return self._entry(seq, LogKind.PRIVILEGED_READ, "privacy_officer:ana", record.encode(), subject)

    def _consent(self, seq: int, handle: str) -> tuple[Leaf, Opening, dict[str, Any]]:
        name, moment = f"rcp_{self._rng.randbytes(16).hex()[:22]}", START + seq // 20
        update = {"receipt_id": name, "handle": handle, "event_time": moment, "valid_until": moment + 180 * 86_400}
        receipt = self._sample.model_copy(update=update)
        jws = seal(receipt, self._services.signer)
        record = {
            "event": "consent",
            "receipt_id": name,
            "receipt_sha256": hashlib.sha256(jws.encode()).hexdigest(),
            "purpose": receipt.purpose.value,
            "state": receipt.state.value,
            "event_time": moment,
            "valid_until": receipt.valid_until,
            "jurisdiction": receipt.jurisdiction,
            "notice_digest": receipt.notice_digest,
            "method": "api",
            "reason": None,
        }
        body = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        leaf, opening = self._entry(seq, LogKind.CONSENT, "device", body, handle)
        return leaf, opening, _event_row(receipt, jws, seq)

    def _entry(self, seq: int, kind: LogKind, actor: str, record: bytes, subject: str | None) -> tuple[Leaf, Opening]:
        salts = self._rng.randbytes(32), None if subject is None else self._rng.randbytes(32)
        opening = Opening(salts[0], record, subject, salts[1])
        moment = START + seq // 20
        return Leaf(seq, moment, kind, actor, opening.subject_commit, opening.payload_commit), opening

    def _grow(self, found: bytes) -> bytes:
        """Hashes of the subtrees that a leaf completes, its own first."""
        hashes, level = [found], 0
        while self._peaks and self._peaks[-1][0] == level:
            found, level = tree.node_hash(self._peaks.pop()[1], found), level + 1
            hashes.append(found)
        self._peaks.append((level, found))
        return b"".join(hashes)

    def _root(self) -> bytes:
        found = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            found = tree.node_hash(left, found)
        return found


def _subject(handle: str) -> dict[str, Any]:
    return {
        "handle": handle,
        "public_key": f"{handle:x<43}",
        "app_id": "bench",
        "age_band": AgeBand.ADULT.value,
        "jurisdiction": "CN",
        "created_day": START // 86_400,
        "objected": False,
        "restricted": False,
    }


def _leaf_row(leaf: Leaf, nodes: bytes) -> dict[str, Any]:
    return {
        "seq": leaf.seq,
        "time": leaf.time,
        "kind": leaf.kind.value,
        "actor": leaf.actor,
        "subject_commit": leaf.subject_commit,
        "payload_commit": leaf.payload_commit,
        "nodes": nodes,
    }


def _record_row(seq: int, opening: Opening) -> dict[str, Any]:
    return {
        "seq": seq,
        "salt": opening.salt,
        "record": opening.record.decode(),
        "subject": opening.subject,
        "subject_salt": opening.subject_salt,
    }


def _event_row(receipt: ConsentReceipt, jws: str, seq: int) -> dict[str, Any]:
    return {
        "receipt_id": receipt.receipt_id,
        "handle": receipt.handle,
        "purpose": receipt.purpose.value,
        "state": receipt.state.value,
        "event_time": receipt.event_time,
        "valid_until": receipt.valid_until,
        "notice_digest": receipt.notice_digest,
        "locale": receipt.locale,
        "surface": "settings/privacy",
        "actor": "device",
        "receipt_jws": jws,
        "method": "api",
        "signals": "{}",
        "reason": None,
        "log_seq": seq,
    }


def _parts(rows: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    yield from (rows[at : at + BATCH] for at in range(0, len(rows), BATCH))


def verified(bundle: Bundle) -> tuple[Report, float]:
    """What ``reticent verify`` finds, and the CPU seconds that it takes."""
    began = time.process_time()
    report = verify_bundle(bundle.path, bundle.key.public)
    return report, time.process_time() - began


if __name__ == "__main__":
    made = make_bundle(Path(sys.argv[1]), entries=int(sys.argv[2]), receipts=int(sys.argv[3]))
    print(made.path, made.key.public.x)
