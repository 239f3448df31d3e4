"""Stored audits of the privacy claim. Owns how the newest one is found; who runs audits is ``reticent audit``.

A file is one JSON document of the schema ``reticent-audit-1`` in ``<state directory>/audits``. What cannot be read is
no audit: it is left out, never guessed.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from common.errors import MalformedInput
from common.taxonomy import PrivacyUnit

SCHEMA: Final = "reticent-audit-1"
DIRECTORY: Final = "audits"


@dataclass(frozen=True, slots=True)
class StoredAudit:
    """The newest audit that can be read.

    Attributes:
        made_at: of the file, seconds since the epoch.
        policy_digest: of the privacy budget document that was audited.
        lower_bounds: ε that the attack proved to be spent at least, by unit; far below the claim for a right build.
        declared: ε that was claimed for as many rounds.
        passed: whether nothing falsified a claim.
    """

    name: str
    made_at: int
    policy_digest: str
    lower_bounds: dict[PrivacyUnit, float]
    declared: dict[PrivacyUnit, float]
    passed: bool


def newest_audit(directory: Path | None) -> StoredAudit | None:
    """The newest audit in a directory; None if there is none that can be read."""
    if directory is None or not directory.is_dir():
        return None
    files = sorted(directory.glob("*.json"), key=lambda file: (file.stat().st_mtime, file.name), reverse=True)
    return next((found for file in files if (found := _read(file)) is not None), None)


def keep_audit(file: Path, state_dir: Path) -> Path:
    """Store an audit's result under the digest of its bytes; storing it again changes nothing.

    Raises:
        MalformedInput: it is no audit of a known schema.
    """
    if _read(file) is None:
        raise MalformedInput(f"{file.name} is no result of reticent audit")
    body = file.read_bytes()
    stored = state_dir / DIRECTORY / f"audit-{hashlib.sha256(body).hexdigest()[:16]}.json"
    stored.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    stored.write_bytes(body)
    return stored


def _read(file: Path) -> StoredAudit | None:
    try:
        document = json.loads(file.read_bytes())
        if document["schema_version"] != SCHEMA:
            return None
        lines: list[dict[str, Any]] = document["lines"]
        return StoredAudit(
            name=file.name,
            made_at=int(file.stat().st_mtime),
            policy_digest=str(document["policy_digest"]),
            lower_bounds={PrivacyUnit(line["unit"]): _number(line["epsilon_audited"]) for line in lines},
            declared={PrivacyUnit(line["unit"]): _number(line["epsilon_declared"]) for line in lines},
            passed=all(bool(finding["passed"]) for line in lines for finding in line["findings"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _number(value: float | str) -> float:
    found = float(value)
    if math.isnan(found):
        raise ValueError("an audited ε is a number")
    return found
