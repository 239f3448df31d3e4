"""What an audit found, as values. Owns the JSON form that evidence bundles and disclosure cards include.

Lines are audited apart: a figure of one line never stands beside the claim of another.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from common.errors import InputError, MalformedInput
from common.taxonomy import NeighbouringRelation, PrivacyUnit, Profile, TrustModel


class Trial(StrEnum):
    """What a test looks at."""

    CURVE = "f_dp_curve"
    DEVIATION = "update_deviation"
    VARIANCE = "noise_variance"
    CLIP = "outsized_canary"
    ACCOUNTING = "accounting_recomputation"
    CLAIMS = "claims"
    GENERATOR = "generator"
    LEDGER = "ledger_recomputation"


class Finding(BaseModel):
    """One test.

    Attributes:
        part: which part of the code ran ("one device (Opacus)", "cohort", "secure sum" …).
        statistic: the number that was judged.
        bound: what it is judged against, in words ("≤ 0", "within [0.99, 1.01]").
        error_probability: of failing a build that is right; 0 where nothing is random.
        power: what the test would have caught, in words.
        samples: how many scores, coordinates or figures it judged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    kind: Trial
    part: str
    passed: bool
    statistic: float
    bound: str
    error_probability: float = Field(ge=0, lt=1)
    power: str
    samples: int = Field(ge=0)
    note: str = ""


class CurvePoint(BaseModel):
    """A point of the empirical trade-off curve with its confidence band, and the most that the claim allows there."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    false_positives: float
    true_positives: float
    true_positives_low: float
    true_positives_high: float
    claimed_max: float


class Budget(BaseModel):
    """What one node's ledger says about the line: of the device that has spent most."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    epsilon_cap: float
    epsilon_spent: float | None = None
    epsilon_remaining: float | None = None
    devices: int = 0


class LineAudit(BaseModel):
    """Everything about one guarantee.

    Attributes:
        epsilon_declared: the claim of the policy document for ``rounds`` rounds at ``delta``.
        epsilon_composed: what the accountant under audit makes of the releases that the code attached.
        epsilon_audited: lower bound from scores, distribution-free, true with probability 1 - audit_error.
        epsilon_audited_gaussian: the same if the noise is Gaussian, which the curve test does not assume.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel
    delta: float
    rounds: int
    composition: str
    epsilon_declared: float
    epsilon_composed: float
    epsilon_audited: float
    epsilon_audited_gaussian: float
    audit_error: float
    budget: Budget
    findings: tuple[Finding, ...]
    curve: tuple[CurvePoint, ...] = ()

    @property
    def name(self) -> str:
        """Short name of the line."""
        return f"{self.unit.value}, {self.trust.name.lower()}"


class Audit(BaseModel):
    """One audit of one build under one policy document.

    Attributes:
        randomness: where the noise of the runs came from, in words.
        seed: None when the production generator was audited.
        error_probability: that a build which is right fails anything here (sum over all tests).
        seconds: how long it took.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    schema_version: Literal["reticent-audit-1"] = "reticent-audit-1"
    profile: Profile
    policy_digest: str
    randomness: str
    seed: int | None
    runs: int
    seconds: float
    error_probability: float
    lines: tuple[LineAudit, ...]
    limits: tuple[str, ...]

    @property
    def findings(self) -> list[Finding]:
        """All tests of all lines."""
        return [finding for line in self.lines for finding in line.findings]

    @property
    def passed(self) -> bool:
        """Whether nothing falsified a claim."""
        return all(finding.passed for finding in self.findings)


def save(audit: Audit, path: Path) -> None:
    """Write the JSON form.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(audit.model_dump_json(indent=2) + "\n", "utf-8")
    except OSError as error:
        raise InputError(f"{path.name} cannot be written ({error.strerror})") from None


def load(path: Path) -> Audit:
    """Read it again.

    Raises:
        MalformedInput: not an audit of this schema.
        InputError: the file cannot be read.
    """
    try:
        return Audit.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror})") from None
    except ValueError:
        raise MalformedInput(f"{path.name} is not an audit of this version") from None
