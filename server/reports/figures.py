"""Figures of an installation as pages and reports show them. Owns what is asked of the other rooms; computes no ε."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from common.privacy.parameters import PrivacyStatement
from common.taxonomy import ConsentState, LogKind, NeighbouringRelation, PrivacyUnit, Purpose, TrustModel
from common.wire.messages import ModelManifest
from policies.schema import BudgetLine
from server.api.services import Services
from server.consent import overview
from server.consent.overview import Rate
from server.ledger.audits import DIRECTORY, SCHEMA
from server.ledger.repository import pseudonym
from server.ledger.words import Entry
from server.reports.budget_figures import spent_figures

AUDIT_FOLDER: Final = DIRECTORY


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One registered model."""

    manifest: ModelManifest
    signed_by: str


@dataclass(frozen=True, slots=True)
class AuditedLine:
    """One line of the newest stored audit: what was claimed and what an attack could show of it."""

    profile: str
    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel
    delta: float
    composition: str
    accountant: str
    epsilon_composed: float
    epsilon_audited: float
    audit_error: float
    passed: int
    attempts: int


@dataclass(frozen=True, slots=True)
class DeviceBudget:
    """What one device has spent."""

    pseudonym: str
    lines: Sequence[tuple[BudgetLine, PrivacyStatement, float]]
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class ConsentTotals:
    """Subjects by state, per purpose, over all jurisdictions and notices."""

    purpose: Purpose
    states: Counter[ConsentState]

    @property
    def asked(self) -> int:
        """Subjects in it."""
        return self.states.total()

    @property
    def given_share(self) -> float:
        """Share with a grant that holds."""
        return self.states[ConsentState.GIVEN] / self.asked if self.asked else 0.0


def release_rows(services: Services) -> list[ReleaseRow]:
    """Every registered model, newest first, signatures verified."""
    return [ReleaseRow(manifest, signed_by) for manifest, signed_by in services.registry.signed_manifests()]


def population(services: Services) -> tuple[int, int]:
    """How many subjects there are, and how many of them are protected by their declared age band."""
    with services.database.read() as session:
        return overview.population(session)


def consent_totals(rates: Sequence[Rate]) -> list[ConsentTotals]:
    """The rates of all places and notices together, every purpose once."""
    found: dict[Purpose, Counter[ConsentState]] = {purpose: Counter() for purpose in Purpose}
    for rate in rates:
        found[rate.purpose].update(rate.states)
    return [ConsentTotals(purpose, states) for purpose, states in found.items()]


def audited_lines(services: Services) -> list[AuditedLine]:
    """The lines of the newest audit result in the installation's folder of audits; none where none is stored."""
    folder = services.settings.state_dir / AUDIT_FOLDER
    files = (
        sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True) if folder.is_dir() else []
    )
    return next((lines for path in files if (lines := _audited(path))), [])


def _audited(path: Path) -> list[AuditedLine]:
    """The lines of one file; none if it is no audit. What cannot be read is left out, never guessed."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        if document["schema_version"] != SCHEMA:
            return []
        return [_audited_line(line, str(document["profile"])) for line in document["lines"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _audited_line(line: dict[str, Any], profile: str) -> AuditedLine:
    return AuditedLine(
        profile=profile,
        unit=PrivacyUnit(line["unit"]),
        relation=NeighbouringRelation(line["relation"]),
        trust=TrustModel(line["trust"]),
        delta=float(line["delta"]),
        composition=str(line["composition"]),
        accountant="",
        epsilon_composed=float(line["epsilon_composed"]),
        epsilon_audited=float(line["epsilon_audited"]),
        audit_error=float(line["audit_error"]),
        passed=sum(bool(finding["passed"]) for finding in line["findings"]),
        attempts=len(line["findings"]),
    )


def device_budget(services: Services, name: str) -> DeviceBudget | None:
    """What one device has spent, by the ledger's pseudonym (32 hexadecimal digits)."""
    try:
        pseudonym = bytes.fromhex(name)
    except ValueError:
        return None
    found = services.ledger.of_pseudonym(pseudonym)
    if found is None:
        return None
    spent, entries = found
    return DeviceBudget(name.lower(), spent_figures(services.ledger, spent), entries)


def identity_budget(services: Services, identity: bytes) -> DeviceBudget:
    """The same of a device whose key is known."""
    spent, entries = services.ledger.spent(identity), services.ledger.entries(identity)
    return DeviceBudget(pseudonym(identity).hex(), spent_figures(services.ledger, spent), entries)


def log_counts(services: Services) -> list[tuple[LogKind, int]]:
    """Entries of the transparency log by kind."""
    counts = services.log.counts()
    return [(kind, counts[kind]) for kind in LogKind if kind in counts]
