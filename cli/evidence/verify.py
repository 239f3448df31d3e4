"""``reticent verify``: is this bundle what was signed, and is all of it there? Owns the order of the steps.

It needs the bundle and one public key, nothing of the installation: no database, no network, no clock.

1. The list of contents, signed by the given key or one that it leads to. 2. The keys. 3. The log, read once. 4. Its
checkpoints, those that were kept elsewhere among them. 5. The records. 6. Everything that the records speak of.
7. Every file against the list. A log that is not what was signed is named at its first bad row; what hangs
on it is not judged.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cli.evidence.archive import EvidenceArchive
from cli.evidence.documents import Documents
from cli.evidence.kept import Kept, read_kept
from cli.evidence.promises import Promises
from cli.evidence.trust import predecessors, read_keys, successors
from common.crypto.signing import PublicKey
from common.errors import TrustError
from common.taxonomy import Tampering
from common.transparency.checkpoint import SignedCheckpoint, open_checkpoint
from common.transparency.findings import Finding, Gap
from common.transparency.history import History, whole_lines
from common.transparency.judge import Evidence, Judgement, judge
from common.transparency.records import RecordReport, check_records
from common.wire import evidence as names
from common.wire.evidence import BundleKey, EvidenceManifest, open_evidence


@dataclass(slots=True)
class Report:
    """What a verification has found.

    Attributes:
        findings: integrity: what is not what was signed.
        gaps: completeness: what is not there.
        entries, covered: of the log; how many the newest fitting checkpoint covers.
        signed_at: when that was, seconds since the epoch.
        counts: good ones of each kind.
        keys: how many keys are trusted.
        kept: how many checkpoints from elsewhere were held beside it.
        signatures: of how many receipts the own signature was verified, beside the digests of all in the signed log.
        seconds: how long it took.
    """

    origin: str = ""
    made_at: int = 0
    entries: int = 0
    covered: int = 0
    signed_at: int = 0
    keys: int = 0
    kept: int = 0
    signatures: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def genuine(self) -> bool:
        """Integrity."""
        return not self.findings

    @property
    def complete(self) -> bool:
        """Completeness: nothing is missing but what may be."""
        return all(gap.expected for gap in self.gaps)


def verify_bundle(path: Path, key: PublicKey, kept: Sequence[Path] = (), *, every_signature: bool = False) -> Report:
    """Verify an evidence bundle.

    Args:
        path: the archive.
        key: the public key, from elsewhere than the bundle.
        kept: files with checkpoints that were kept elsewhere.
        every_signature: verify the signature of every receipt, however many there are.

    Raises:
        InputError: there is no such archive, or it is not one.
        TrustError: a kept checkpoint was never signed by a trusted key: it is not of this log, or damaged.
    """
    began = time.perf_counter()
    with EvidenceArchive(path) as archive:
        report = _Verification(archive, key, every_signature=every_signature).run(kept)
    report.seconds = time.perf_counter() - began
    return report


class _Verification:
    """One verification."""

    def __init__(self, archive: EvidenceArchive, key: PublicKey, *, every_signature: bool) -> None:
        self._every_signature = every_signature
        self._archive, self._key, self._report = archive, key, Report()

    def run(self, kept_paths: Sequence[Path]) -> Report:
        """All steps."""
        report, archive = self._report, self._archive
        # (1), (2) the signed list and the keys
        manifest, keys = self._trust()
        # (3) the log
        log = History(whole_lines(archive.blocks(names.LEAVES)))
        # (4) its checkpoints
        kept = read_kept(kept_paths, keys)
        own = self._checkpoints(keys, manifest)
        judgement = judge(
            log,
            Evidence(own=own, kept=kept.signed, stored=_whole(archive.read(names.HASHES)), witness=kept.hashes),
        )
        # (5) the records
        promises = Promises()
        records = check_records(whole_lines(archive.blocks(names.RECORDS)), log, promises.hear)
        self._settle(log, judgement, records, own, kept)
        # (6) what they speak of
        if not judgement.findings and records.finding is None:
            documents = Documents(archive, promises, log, keys, every_signature=self._every_signature)
            documents.check()
            report.findings += documents.findings
            report.gaps += documents.gaps
            report.counts |= documents.counts
            report.signatures = documents.signatures
        # (7) the files
        self._files(manifest)
        return report

    def _trust(self) -> tuple[EvidenceManifest | None, Mapping[str, PublicKey]]:
        listed = read_keys(self._archive.read(names.KEYS))
        trusted: Mapping[str, PublicKey] = successors(self._key, listed)
        manifest = self._manifest(trusted)
        if manifest is not None and self._as_listed(manifest, names.KEYS):
            trusted = predecessors(trusted, listed)
        self._report.keys = len(trusted)
        self._unknown(listed, trusted)
        return manifest, trusted

    def _manifest(self, trusted: Mapping[str, PublicKey]) -> EvidenceManifest | None:
        try:
            found = open_evidence(self._archive.read(names.MANIFEST).decode("ascii", "replace"), trusted)
        except TrustError as error:
            detail = f"the list of the bundle's contents is not signed by the key that was given ({error})"
            self._report.findings.append(Finding(Tampering.FORGERY, names.MANIFEST, 0, detail))
            return None
        self._report.origin, self._report.made_at = found.origin, found.made_at
        return found

    def _unknown(self, listed: Sequence[BundleKey], trusted: Mapping[str, PublicKey]) -> None:
        for row, key in enumerate(listed):
            if key.kid not in trusted:
                detail = "no chain of successions joins this key to the one that was given"
                self._report.findings.append(Finding(Tampering.FORGERY, names.KEYS, row, detail))
                return

    def _checkpoints(self, keys: Mapping[str, PublicKey], manifest: EvidenceManifest | None) -> list[SignedCheckpoint]:
        found = []
        origin = None if manifest is None else manifest.origin
        for row, line in enumerate(filter(None, self._archive.read(names.CHECKPOINTS).split(b"\n"))):
            try:
                found.append(open_checkpoint(str(json.loads(line)["note"]), keys, origin=origin))
            except (TrustError, ValueError, KeyError, TypeError, RecursionError) as error:
                said = str(error) if isinstance(error, TrustError) else "this is no checkpoint"
                self._report.findings.append(Finding(Tampering.FORGERY, names.CHECKPOINTS, row, said))
                break
        return found

    def _settle(
        self, log: History, judgement: Judgement, records: RecordReport, own: Sequence[SignedCheckpoint], kept: Kept
    ) -> None:
        report = self._report
        report.entries, report.covered, report.kept = len(log), judgement.covered, len(kept.signed)
        report.signed_at = max(
            (s.checkpoint.time for s in (*own, *kept.signed) if s.checkpoint.size == judgement.covered), default=0
        )
        report.counts["records"] = records.opened
        report.findings += [_narrowed(found, records.finding) for found in judgement.findings]
        report.gaps += judgement.gaps
        if not judgement.findings:
            report.findings += [] if records.finding is None else [records.finding]
            report.gaps += records.gaps

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _files(self, manifest: EvidenceManifest | None) -> None:
        """Every file against the signed list; one of which a finding tells more is not named again."""
        if manifest is None:
            return
        archive, report = self._archive, self._report
        named = {finding.where for finding in report.findings}
        for name in sorted(manifest.files):
            if name not in archive.names:
                report.gaps.append(Gap(name, 1, "file of the signed list is not in the archive"))
            elif not self._as_listed(manifest, name) and name not in named:
                detail = "the file is not the one that was listed when the bundle was made"
                report.findings.append(Finding(Tampering.EDIT, name, 0, detail))
        for name in sorted(archive.names - manifest.files.keys() - {names.MANIFEST}):
            report.findings.append(Finding(Tampering.FORGERY, name, 0, "the signed list does not have this file"))

    def _as_listed(self, manifest: EvidenceManifest, name: str) -> bool:
        if name not in self._archive.digests and name not in self._archive.broken:
            for _ in self._archive.blocks(name):
                pass
        listed = manifest.files.get(name)
        found = self._archive.digests.get(name)
        return listed is not None and found == (listed.sha256, listed.size_bytes)


def _narrowed(found: Finding, record: Finding | None) -> Finding:
    """Where only a stretch is known, a record that does not fit its entry names the row."""
    if found.last is None or record is None or not found.row <= record.row <= found.last:
        return found
    return replace(found, row=record.row, last=None, detail=f"{found.detail}; here the entry does not fit its record")


def _whole(hashes: bytes) -> bytes:
    return hashes[: len(hashes) // 32 * 32]
