"""Shapes of the policy documents. Owns their fields and ranges; units are in the names. Pure: no file is read here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.privacy.parameters import RecordDpParameters
from common.taxonomy import EventKind, NeighbouringRelation, PrivacyUnit, Profile, Purpose, TrustModel


class Document(BaseModel):
    """Base of all policy documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: int = Field(ge=1)


class PrivacyBudgetPolicy(Document):
    """The privacy budget: what a training may spend, and the mechanism that is declared to meet it.

    Attributes:
        epsilon_declared: ε claimed for ``rounds_max`` rounds at ``delta``; proved by ``policies.invariants`` at load.
        epsilon_cap: capacity per device and budget period over all trainings; a device refuses to pass it.
    """

    profile: Profile
    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel
    delta: float = Field(gt=0, lt=1e-2)
    epsilon_declared: float = Field(gt=0)
    epsilon_cap: float = Field(gt=0)
    rounds_max: int = Field(ge=1)
    budget_period_days: int = Field(ge=1, le=3660)
    training: RecordDpParameters


class PurposeRule(BaseModel):
    """One purpose: what it needs and what it says."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: Purpose
    requires: tuple[Purpose, ...] = ()
    title: dict[Literal["en", "zh-CN"], str]
    text: dict[Literal["en", "zh-CN"], str]


class PurposesPolicy(Document):
    """All purposes and how long a grant holds."""

    validity_days_default: int = Field(ge=1, le=395)
    validity_days_max: int = Field(ge=1, le=395)
    purposes: tuple[PurposeRule, ...]


class EgressRule(BaseModel):
    """One kind of outbound message. ``purpose: null`` means it carries nothing about behaviour."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    message: str
    purpose: Purpose | None
    size_bytes_max: int = Field(ge=1)
    per_day_max: int = Field(ge=1)
    charged: bool
    why: str


class EgressPolicy(Document):
    """Everything that may leave a device."""

    messages: tuple[EgressRule, ...]


class RetentionPolicy(Document):
    """How long raw behaviour stays on the device, per kind."""

    retention_days: dict[EventKind, Annotated[int, Field(ge=1, le=3660)]]
    clock_skew_seconds_max: int = Field(ge=0)


class EligibilityRules(BaseModel):
    """Filters applied before anything is scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    denied_categories: tuple[str, ...]
    require_label: bool = True
    languages: tuple[str, ...] = ()


class ThresholdStrategy(BaseModel):
    """Show the best-scoring creative of a slot if it reaches the threshold, else leave the slot to the fallback."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["threshold"]
    score_min: float = Field(ge=0, le=1)


class TopKStrategy(BaseModel):
    """Fill slots from the ``k`` best, one creative once."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["top_k"]
    k: int = Field(ge=1, le=1000)


class PlacementPolicy(Document):
    """The placement policy g: eligibility, then a strategy, then the tie-break."""

    name: str
    eligibility: EligibilityRules
    strategy: Annotated[ThresholdStrategy | TopKStrategy, Field(discriminator="kind")]
    tie_break: Literal["stable_hash"] = "stable_hash"


class PolicySet(BaseModel):
    """All documents that one installation runs under."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    privacy_budget: PrivacyBudgetPolicy
    purposes: PurposesPolicy
    egress: EgressPolicy
    retention: RetentionPolicy
    placement: PlacementPolicy

    @model_validator(mode="after")
    def _every_purpose_once(self) -> PolicySet:
        ids = [rule.id for rule in self.purposes.purposes]
        if len(set(ids)) != len(ids):
            raise ValueError("purposes.yaml names a purpose twice")
        return self
