"""``reticent bundle``: the log and everything it speaks of, in one archive. Owns what goes in and in which form.

All of it is read from one snapshot of the database, and the log is covered by a signed checkpoint to its last entry.

**Privacy:** a bundle holds receipts and records, handles included, for whoever may see them; ``personal=False`` leaves
them out and keeps what the proofs need.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from common.crypto.signing import signer_of
from common.errors import InvalidProof
from common.model.manifest import read_manifest
from common.transparency import tree
from common.transparency.hashes import PackedTree
from common.transparency.leaf import text_of
from common.transparency.records import encode_record
from common.wire import evidence as names
from common.wire.evidence import BundleKey, BundleReceipt, EvidenceManifest, seal_manifest
from policies.loader import DOCUMENTS
from server.api.services import Services
from server.evidence import repository
from server.evidence.archive import Archive
from server.evidence.readme import README
from server.ledger import repository as ledger_repository
from server.ledger.told import charge_record
from server.registry.card import card_html, card_json, card_of
from server.reports.figures import AUDIT_FOLDER
from server.storage import Transaction
from server.transparency import key_repository
from server.transparency import repository as log_repository
from server.transparency.repository import StoredCheckpoint

PROOFS_MAX: Final = 10_000
"""Single proofs that go in; the whole log proves the rest."""
STORED_FROM_ENTRIES: Final = 200_000
_LINES: Final = 5_000
_BLOCK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bundled:
    """What went in."""

    entries: int
    records: int
    receipts: int
    charges: int
    checkpoint: str


def write_bundle(services: Services, target: BinaryIO, *, personal: bool = True) -> Bundled:
    """Write the evidence bundle.

    Args:
        services: of this installation.
        target: where the archive goes.
        personal: whether receipts and records about people are in it.

    Raises:
        TrustError: something that is stored does not verify; a bundle of it would prove the opposite.
    """
    writer = _Writer(services, Archive(target), personal=personal)
    with services.database.read() as session:
        repository.snapshot(session)
        return writer.write(session)


def bundle_stream(services: Services, *, personal: bool = True) -> Iterator[bytes]:
    """The evidence bundle for an answer over HTTP. It waits in an unnamed file that is gone when the answer is sent.

    Raises:
        TrustError: as ``write_bundle``; before the first byte.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it has been sent
    try:
        write_bundle(services, file, personal=personal)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return _sent(file)


def _sent(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while block := file.read(_BLOCK_BYTES):
            yield block


class _Writer:
    """One bundle."""

    def __init__(self, services: Services, archive: Archive, *, personal: bool) -> None:
        self._services, self._archive, self._personal = services, archive, personal
        self._counts = {"records": 0, "receipts": 0, "charges": 0}
        self._proven: list[int] = []

    def write(self, session: Transaction) -> Bundled:
        """Everything, and the signed list of it last."""
        size = log_repository.size(session)
        checkpoint = self._checkpoint(session, size)
        self._archive.add(names.README, [README.encode()])
        self._keys(session)
        hashes = self._log(session, size)
        self._documents(session)
        self._receipts(session)
        self._charges(session)
        self._proofs(session, PackedTree(hashes), size, checkpoint)
        self._seal(size)
        return Bundled(size, checkpoint=checkpoint.note, **self._counts)

    def _checkpoint(self, session: Transaction, size: int) -> StoredCheckpoint:
        """One of the whole log; of a log that was tampered with, the newest there is: the bundle must show what is."""
        try:
            return self._services.log.checkpoint_at(size)
        except InvalidProof:
            newest = log_repository.newest_checkpoint(session)
            if newest is None:
                raise
            return newest

    # ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _log(self, session: Transaction, size: int) -> bytes:
        """Leaves, the hashes that were stored with them, and what opens them."""
        hashes: list[bytes] = []
        stored = size >= STORED_FROM_ENTRIES

        def leaves() -> Iterator[bytes]:
            for entry in log_repository.entries(session, high=size):
                hashes.append(entry.leaf_hash)
                yield entry.leaf.encode() + b"\n"

        self._archive.add(names.LEAVES, _joined(leaves()), stored=stored)
        self._archive.add(names.HASHES, _joined(hashes), stored=True)
        self._archive.add(names.RECORDS, _joined(self._records(session, size)), stored=stored)
        return b"".join(hashes)

    def _records(self, session: Transaction, size: int) -> Iterator[bytes]:
        for entry in log_repository.entries(session, high=size):
            opening = entry.opening
            if opening is None or (opening.subject is not None and not self._personal):
                continue
            self._counts["records"] += 1
            yield encode_record(
                seq=entry.leaf.seq,
                salt=opening.salt,
                record=opening.record,
                subject=opening.subject,
                subject_salt=opening.subject_salt,
            )

    # ── what the log speaks of ───────────────────────────────────────────────────────────────────────────────────────

    def _keys(self, session: Transaction) -> None:
        found = [
            BundleKey(
                number=stored.number,
                kid=stored.key.kid,
                x=stored.key.x,
                published_at=stored.published_at,
                retired_at=stored.retired_at,
                succession=stored.succession,
            ).model_dump(mode="json")
            for stored in key_repository.every(session)
        ]
        self._archive.add(names.KEYS, [_json(found)])

    def _documents(self, session: Transaction) -> None:
        services, archive = self._services, self._archive
        for name in sorted(services.policies.digests):
            directory = services.settings.policies or DOCUMENTS
            archive.add(f"{names.POLICIES}{name}.yaml", [(directory / f"{name}.yaml").read_bytes()])
        for digest, text in repository.notices(session):
            archive.add(f"{names.NOTICES}{digest}.json", [_json(text)])
        for version, jws in repository.catalogues(session):
            archive.add(f"{names.CATALOGUES}{version}.jws", [jws.encode()])
        for version, jws in repository.manifests(session):
            archive.add(f"{names.MODELS}{version}.jws", [jws.encode()])
            manifest = read_manifest(jws, services.keys)
            if manifest.disclosure is not None:
                card = card_of(manifest, signed_by=signer_of(jws))
                archive.add(f"{names.CARDS}{version}.json", [card_json(card).encode()])
                archive.add(f"{names.CARDS}{version}.html", [card_html(card).encode()])
        for path in _audits(services.settings.state_dir / AUDIT_FOLDER):
            archive.add(f"{names.AUDITS}{path.name}", [path.read_bytes()])

    def _receipts(self, session: Transaction) -> None:
        found = repository.receipts(session) if self._personal else iter(())
        self._archive.add(names.RECEIPTS, _joined(self._line(receipt) for receipt in found))

    def _line(self, receipt: BundleReceipt) -> bytes:
        self._counts["receipts"] += 1
        if receipt.seq is not None:
            self._proven.append(receipt.seq)
        return receipt.model_dump_json().encode() + b"\n"

    def _charges(self, session: Transaction) -> None:
        uses, found = ledger_repository.uses(session), []
        for charge in ledger_repository.charges(session):
            found.append(json.dumps(charge_record(charge, uses) | {"seq": charge.log_seq}).encode() + b"\n")
            if charge.log_seq is not None:
                self._proven.append(charge.log_seq)
        self._counts["charges"] = len(found)
        self._archive.add(names.CHARGES, found)

    # ── proofs ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _proofs(self, session: Transaction, packed: PackedTree, size: int, newest: StoredCheckpoint) -> None:
        notes = {stored.size: stored.note for stored in log_repository.checkpoints(session) if stored.size < size}
        notes[newest.size] = newest.note
        lines = (_json({"size": at, "note": note}) + b"\n" for at, note in notes.items())
        self._archive.add(names.CHECKPOINTS, _joined(lines))
        proven = sorted({seq for seq in self._proven if seq < size})[-PROOFS_MAX:]
        self._archive.add(names.INCLUSION, _joined(_inclusion(packed, seq, size) for seq in proven))
        sizes = [at for at in notes if at][-PROOFS_MAX:]
        self._archive.add(
            names.CONSISTENCY, _joined(_consistency(packed, old, new) for old, new in itertools.pairwise(sizes))
        )

    def _seal(self, size: int) -> None:
        manifest = EvidenceManifest(
            origin=self._services.log.origin,
            made_at=self._services.log.now(),
            entries=size,
            files=self._archive.files,
        )
        self._archive.add(names.MANIFEST, [seal_manifest(manifest, self._services.signer).encode()])
        self._archive.close()


def _inclusion(packed: PackedTree, seq: int, size: int) -> bytes:
    path = [tree.range_hash(bounds, packed.__getitem__) for bounds in tree.inclusion_ranges(seq, size)]
    return _json({"seq": seq, "size": size, "path": [text_of(step) for step in path]}) + b"\n"


def _consistency(packed: PackedTree, old: int, new: int) -> bytes:
    path = [tree.range_hash(bounds, packed.__getitem__) for bounds in tree.consistency_ranges(old, new)]
    return _json({"old": old, "new": new, "path": [text_of(step) for step in path]}) + b"\n"


def _audits(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces."""
    source = iter(lines)
    while part := list(itertools.islice(source, _LINES)):
        yield b"".join(part)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
