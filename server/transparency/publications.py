"""What the log says about publications: policy documents, catalogues, models, notices. Owns the form of these records.

A record holds the digest of what was published, so that an archive of the published things can be checked against the
log; policy documents are small and are kept whole, so that an old one can still be read when it is no longer in force.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from common.taxonomy import LogKind, Role
from common.wire.messages import ModelManifest
from policies.loader import DOCUMENTS
from policies.notices import Notice
from server.storage import Database, Transaction, exclusive
from server.transparency import repository
from server.transparency.service import TransparencyLog


def publish_policies(
    database: Database, log: TransparencyLog, digests: Mapping[str, str], directory: Path | None
) -> int:
    """Log every policy document that is not the one logged last under its name; how many there were."""
    with database.write() as session:
        exclusive(session, "policy publications")
        logged: dict[str, str] = {}
        for entry in repository.entries(session, kinds=(LogKind.POLICY,)):
            if entry.opening is not None:
                record = json.loads(entry.opening.record)
                logged[str(record["document"])] = str(record["sha256"])
        changed = [name for name, digest in sorted(digests.items()) if logged.get(name) != digest]
        for name in changed:
            text = ((directory or DOCUMENTS) / f"{name}.yaml").read_bytes().decode()
            record = {"document": name, "sha256": digests[name], "text": text}
            log.append(session, LogKind.POLICY, record, actor=Role.ADMIN.value)
    return len(changed)


def catalogue_published(
    session: Transaction,
    log: TransparencyLog,
    *,
    version: int,
    creatives: int,
    jws: str,
    actor: str,
    refused: Mapping[str, int] | None = None,
) -> None:
    """Log a catalogue, with what was left out of it by special category."""
    record: dict[str, object] = {"version": version, "creatives": creatives, "sha256": sha256(jws)}
    if refused:
        record["refused"] = dict(refused)
    log.append(session, LogKind.CATALOGUE, record, actor=actor)


def model_published(session: Transaction, log: TransparencyLog, manifest: ModelManifest, jws: str) -> None:
    """Log a model."""
    record = {
        "version": manifest.version,
        "run_id": manifest.run_id,
        "arrays_digest": manifest.arrays_digest,
        "sha256": sha256(jws),
    }
    log.append(session, LogKind.MODEL, record, actor=Role.ADMIN.value)


def notice_published(
    session: Transaction, log: TransparencyLog, texts: Iterable[Notice], *, version: int, material: bool, actor: str
) -> None:
    """Log a notice version with the digest of its text in every language."""
    record = {"version": version, "material": material, "digests": {text.locale: text.digest for text in texts}}
    log.append(session, LogKind.NOTICE, record, actor=actor)


def sha256(text: str) -> str:
    """Hex digest by which records name a document."""
    return hashlib.sha256(text.encode()).hexdigest()
