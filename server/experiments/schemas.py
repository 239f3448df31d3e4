"""Words of changes and experiments on the wire."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.taxonomy import ChangeKind, ChangeState, Metric
from policies.experiments.report import Interval, Split
from server.experiments.changes import AnyChange
from server.experiments.repository import Change, StoredExperiment, StoredPlacement
from server.experiments.trials import ArmResult, Report

_STRICT = ConfigDict(frozen=True, extra="forbid")
Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]


class ChangeOrder(BaseModel):
    """A change that is wanted."""

    model_config = _STRICT
    change: AnyChange
    reason: Reason = Field(description="For whoever decides.")
    evidence: dict[str, Any] | None = Field(
        default=None, description="What speaks for it: a verdict of `reticent policy`, figures of a report."
    )


class ChangeAnswer(BaseModel):
    """A proposal as it stands."""

    model_config = _STRICT
    number: int
    kind: ChangeKind
    change: dict[str, Any]
    evidence: dict[str, Any] | None
    reason: str
    state: ChangeState
    proposed_by: str
    proposed_at: int
    expires_at: int
    decided_by: str | None
    decided_at: int | None
    log_seq: int | None

    @classmethod
    def of(cls, change: Change) -> ChangeAnswer:
        """From the service's words."""
        return cls(
            number=change.id,
            kind=change.kind,
            change=json.loads(change.body),
            evidence=json.loads(change.evidence),
            reason=change.reason,
            state=change.state,
            proposed_by=change.proposed_by,
            proposed_at=change.proposed_at,
            expires_at=change.expires_at,
            decided_by=change.decided_by,
            decided_at=change.decided_at,
            log_seq=change.log_seq,
        )


class ChangeList(BaseModel):
    """A page of proposals."""

    model_config = _STRICT
    changes: tuple[ChangeAnswer, ...]
    next_cursor: str | None


class RollbackOrder(BaseModel):
    """Which placement policy is to be in force again."""

    model_config = _STRICT
    version: int | None = Field(
        default=None, ge=0, le=2**31 - 1, description="None: the one before; 0: the installation's own file."
    )
    reason: Reason


class PolicyVersion(BaseModel):
    """A placement policy that was put in force.

    Attributes:
        proposal: by which it came; None: a rollback.
        text: empty: the installation's own file.
    """

    model_config = _STRICT
    version: int
    digest: str
    text: str
    proposal: int | None
    put_by: str
    put_at: int

    @classmethod
    def of(cls, stored: StoredPlacement) -> PolicyVersion:
        """From the service's words."""
        return cls(
            version=stored.version,
            digest=stored.digest,
            text=stored.text,
            proposal=stored.proposal,
            put_by=stored.put_by,
            put_at=stored.put_at,
        )


class PolicyVersionList(BaseModel):
    """A page of versions."""

    model_config = _STRICT
    versions: tuple[PolicyVersion, ...]
    next_cursor: str | None


class StopOrder(BaseModel):
    """Why an experiment ends."""

    model_config = _STRICT
    reason: Reason


class ExperimentState(BaseModel):
    """An experiment that was approved."""

    model_config = _STRICT
    experiment_id: str
    digest: str
    starts_at: int
    ends_at: int
    stopped_at: int | None
    stopped_by: str | None

    @classmethod
    def of(cls, stored: StoredExperiment) -> ExperimentState:
        """From the service's words."""
        return cls(
            experiment_id=stored.experiment_id,
            digest=stored.digest,
            starts_at=stored.starts_at,
            ends_at=stored.ends_at,
            stopped_at=stored.stopped_at,
            stopped_by=stored.stopped_by,
        )


class IntervalAnswer(BaseModel):
    """A value with its 95 % interval."""

    model_config = _STRICT
    value: float
    low: float
    high: float
    verdict: Literal["better", "worse", "no difference shown"]

    @classmethod
    def of(cls, interval: Interval | None) -> IntervalAnswer | None:
        """From the report's words."""
        if interval is None:
            return None
        return cls(value=interval.value, low=interval.low, high=interval.high, verdict=interval.word)


class ArmAnswer(BaseModel):
    """One arm: counts, with the standard deviation of the noise in each, and its difference to the first arm."""

    model_config = _STRICT
    name: str
    share: float
    policy_digest: str
    units: float
    units_noise: float
    views: float
    views_noise: float
    rewards: float
    rewards_noise: float
    rate: float | None
    difference: IntervalAnswer | None

    @classmethod
    def of(cls, result: ArmResult) -> ArmAnswer:
        """From the report's words."""
        counts = result.counts
        return cls(
            name=result.arm.name,
            share=result.arm.share / 10_000,
            policy_digest=result.arm.policy_digest,
            units=counts.units,
            units_noise=counts.units_noise,
            views=counts.views,
            views_noise=counts.views_noise,
            rewards=counts.rewards,
            rewards_noise=counts.rewards_noise,
            rate=result.rate,
            difference=IntervalAnswer.of(result.difference),
        )


class SplitAnswer(BaseModel):
    """Whether the arms have the shares that they should have; if not, nothing else here can be believed."""

    model_config = _STRICT
    evidence: float
    broken: bool

    @classmethod
    def of(cls, split: Split) -> SplitAnswer:
        """From the report's words."""
        return cls(evidence=split.evidence, broken=split.broken)


class TableAnswer(BaseModel):
    """One kind of placement: those that the service chose, counted exactly, or those that devices chose, noised."""

    model_config = _STRICT
    source: Literal["service", "devices"]
    unit: Literal["decision", "device-day"]
    arms: tuple[ArmAnswer, ...]
    split: SplitAnswer


class ExperimentReport(BaseModel):
    """What an experiment has shown so far."""

    model_config = _STRICT
    experiment: ExperimentState
    running: bool
    reward: Metric
    method: Literal["fixed_horizon", "sequential"]
    level: float
    holds: str = Field(description="When these intervals hold.")
    tables: tuple[TableAnswer, ...]

    @classmethod
    def of(cls, report: Report) -> ExperimentReport:
        """From the report's words."""
        return cls(
            experiment=ExperimentState.of(report.stored),
            running=report.running,
            reward=report.document.reward,
            method=report.document.method,
            level=report.level,
            holds=report.holds,
            tables=tuple(
                TableAnswer(
                    source=table.source,
                    unit=table.unit,
                    arms=tuple(map(ArmAnswer.of, table.arms)),
                    split=SplitAnswer.of(table.split),
                )
                for table in report.tables
            ),
        )
