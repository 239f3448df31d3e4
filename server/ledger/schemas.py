"""Questions and answers about the privacy ledger. Owns their form. Who is in a charge is nowhere in it."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from common.privacy.parameters import MechanismUse, PrivacyStatement
from common.taxonomy import CapState, NeighbouringRelation, PrivacyUnit, Purpose, ReleaseKind, TrustModel
from server.ledger.audits import StoredAudit
from server.ledger.bounds import Bound
from server.ledger.caps_repository import Cap
from server.ledger.report import LineReport, Overview, Projection, RunReport, Standing, SubjectReport

Epsilon = Annotated[
    float,
    PlainSerializer(lambda value: value if math.isfinite(value) else str(value), return_type=float | str),
]
"""ε; infinity is written as the word ``inf``."""


class Answer(BaseModel):
    """Base of what is asked and answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BoundAnswer(Answer):
    """One bound. Devices enforce ``document`` themselves, so officers can only lower it."""

    unit: PrivacyUnit
    bound: str = Field(description="`cap`, or the purpose whose quota it is.")
    document: float
    officers: float | None
    in_force: float
    binding: str = Field(description="`document` or `officers`: whose bound binds.")

    @classmethod
    def of(cls, bound: Bound) -> BoundAnswer:
        """From a bound."""
        return cls(**_fields(bound), in_force=bound.in_force, binding=bound.binding)


class StandingAnswer(BoundAnswer):
    """One bound and how it stands in the running period."""

    spent_max: Epsilon
    spent_median: Epsilon
    remaining: float = Field(description="Of the device that has spent most; composition makes it a lower bound.")
    over: int = Field(description="Devices that had spent more before the bound was lowered.")

    @classmethod
    def stands(cls, found: Standing) -> StandingAnswer:
        """From a standing."""
        return cls(
            **BoundAnswer.of(found.bound).model_dump(),
            spent_max=found.spent_max,
            spent_median=found.spent_median,
            remaining=found.remaining,
            over=found.over,
        )


class LineAnswer(Answer):
    """One line of the budget. Lines are never added up."""

    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel
    delta: float
    epsilon_declared: float = Field(description="The claim for one whole training.")
    epsilon_audited: float | None = Field(description="Lower bound that the newest stored audit proved; null: none.")
    bounds: tuple[StandingAnswer, ...]

    @classmethod
    def of(cls, found: LineReport) -> LineAnswer:
        """From a line."""
        line = found.line
        return cls(
            unit=line.unit,
            relation=line.relation,
            trust=line.trust,
            delta=line.delta,
            epsilon_declared=line.epsilon_declared,
            epsilon_audited=found.audited,
            bounds=tuple(StandingAnswer.stands(standing) for standing in found.standings),
        )


class AuditAnswer(Answer):
    """The newest stored audit."""

    name: str
    made_at: int
    policy_digest: str
    passed: bool

    @classmethod
    def of(cls, audit: StoredAudit) -> AuditAnswer:
        """From a stored audit."""
        return cls(name=audit.name, made_at=audit.made_at, policy_digest=audit.policy_digest, passed=audit.passed)


class RunAnswer(Answer):
    """One training or measurement: what it cost a device that took part in all of it."""

    run_id: str
    period: int
    charges: int
    devices_max: int
    barred: int
    claims: tuple[PrivacyStatement, ...]

    @classmethod
    def of(cls, run: RunReport) -> RunAnswer:
        """From a report."""
        return cls(**_fields(run))


class LedgerAnswer(Answer):
    """The running period of the server's ledger. Days are counted since the epoch."""

    period: int
    first_day: int
    last_day: int
    charges: int
    devices: int = Field(description="Identities that were ever charged.")
    erased: int = Field(description="Of them, those whose name was erased.")
    lines: tuple[LineAnswer, ...]
    runs: tuple[RunAnswer, ...]
    audit: AuditAnswer | None

    @classmethod
    def of(cls, found: Overview, runs: list[RunReport]) -> LedgerAnswer:
        """From the figures."""
        return cls(
            period=found.period,
            first_day=found.first_day,
            last_day=found.last_day,
            charges=found.charges,
            devices=found.devices,
            erased=found.erased,
            lines=tuple(LineAnswer.of(line) for line in found.lines),
            runs=tuple(RunAnswer.of(run) for run in runs),
            audit=None if found.audit is None else AuditAnswer.of(found.audit),
        )


class ReleaseAnswer(Answer):
    """One release of a charge: ε of it alone, for one device, unamplified."""

    kind: ReleaseKind
    purpose: Purpose
    use: MechanismUse
    epsilon: Epsilon
    rho: Epsilon | None
    delta: float


class EntryAnswer(Answer):
    """One charge."""

    number: int
    cause: str
    run_id: str
    period: int
    day: int
    devices: int
    unnamed: int
    barred: int
    settled: bool
    log_seq: int | None = Field(description="Newest entry of the transparency log about it.")
    releases: tuple[ReleaseAnswer, ...]


class EntryList(Answer):
    """A page of charges, oldest first."""

    entries: tuple[EntryAnswer, ...]
    next_cursor: str | None


class SubjectAnswer(Answer):
    """One device identity, by its name in the ledger."""

    name: str = Field(description="Pseudonym in hex; of an erased one a tombstone.")
    erased_in: int | None
    period: int
    releases: int
    spent: dict[PrivacyUnit, Epsilon]
    remaining: dict[PrivacyUnit, float]

    @classmethod
    def of(cls, found: SubjectReport) -> SubjectAnswer:
        """From a report."""
        return cls(**{name: value for name, value in _fields(found).items() if name != "number"})


class SubjectList(Answer):
    """A page of device identities."""

    subjects: tuple[SubjectAnswer, ...]
    next_cursor: str | None


class ProjectionAnswer(Answer):
    """What more rounds would cost the device that has spent most."""

    unit: PrivacyUnit
    rounds: int
    epsilon_now: Epsilon
    epsilon_then: Epsilon
    in_force: float
    allowed: bool
    rounds_possible: int

    @classmethod
    def of(cls, found: Projection) -> ProjectionAnswer:
        """From a projection."""
        return cls(**_fields(found))


class ProjectionList(Answer):
    """One projection per line."""

    lines: tuple[ProjectionAnswer, ...]


class CapProposal(Answer):
    """Asks for another bound on ε. Lowering holds at once; raising needs another officer."""

    unit: PrivacyUnit
    bound: Annotated[str, Field(pattern=r"^[a-z.]{1,40}$", examples=["cap", "train.contribute"])] = "cap"
    epsilon_max: float = Field(ge=0, le=1000, allow_inf_nan=False)
    reason: Annotated[str, Field(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]{1,500}$", examples=["quarterly review"])]


class CapAnswer(Answer):
    """One bound that was proposed."""

    id: int
    unit: PrivacyUnit
    bound: str
    epsilon_max: float
    state: CapState
    reason: str
    proposed_by: str
    proposed_at: int
    expires_at: int
    decided_by: str | None
    decided_at: int | None
    log_seq: int | None

    @classmethod
    def of(cls, cap: Cap) -> CapAnswer:
        """From a stored cap."""
        return cls(**_fields(cap))


class CapList(Answer):
    """What binds now, and a page of everything that was proposed, newest first."""

    in_force: tuple[BoundAnswer, ...]
    picks_in_force: BoundAnswer | None = Field(
        description="The cap on private picks, on a line of its own: one user, replace-one, local, δ = 0."
    )
    caps: tuple[CapAnswer, ...]
    next_cursor: str | None


def _fields(value: object) -> dict[str, Any]:
    """Fields of a frozen value, as they are."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}  # type: ignore[attr-defined]
