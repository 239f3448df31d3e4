"""Shapes of the policy documents. Owns their fields and ranges; units are in the names. Pure: no file is read here."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.measurement.layout import ContributionBounds
from common.privacy.parameters import (
    CohortParameters,
    LocalSgdParameters,
    RecordDpParameters,
    UserDpParameters,
)
from common.taxonomy import EventKind, NeighbouringRelation, PrivacyUnit, Profile, Purpose, RequestKind, TrustModel
from policies.placement.document import EligibilityRules as EligibilityRules  # noqa: PLC0414 - part of this module's words
from policies.placement.document import PlacementPolicy as PlacementPolicy  # noqa: PLC0414 - likewise


class Document(BaseModel):
    """Base of all policy documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: int = Field(ge=1)


class BudgetLine(BaseModel):
    """One kind of guarantee with its capacity. Lines are never added up, converted or printed as one.

    Attributes:
        delta: 0 on the line of private picks alone, whose ε is pure.
        epsilon_declared: ε claimed for ``rounds_max`` rounds of training at ``delta``; proved at load.
        epsilon_cap: capacity per device and budget period over all releases of every purpose; checked first.
        quotas: capacity per purpose within the cap; checked second. A purpose without one has the cap alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel
    delta: float = Field(ge=0, lt=1e-2)
    epsilon_declared: float = Field(gt=0)
    epsilon_cap: float = Field(gt=0)
    quotas: dict[Purpose, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)


class UserRelease(UserDpParameters):
    """A user-level release, and how many of its kind one device may make in a budget period.

    The document's proofs count with ``releases_max``, and both ledgers refuse the release that would exceed it, even
    where cap and quota have room. A session that was charged and lost counts.
    """

    releases_max: int = Field(ge=1)


class ClipQuantile(UserRelease):
    """Adaptive clipping: a noisy count of devices whose update was within the clip moves the clip.

    Source: Andrew et al. 2021, "Differentially private learning with adaptive clipping".
    """

    target_quantile: float = Field(gt=0, lt=1)
    learning_rate: float = Field(gt=0)
    clipping_norm_min: float = Field(gt=0)
    clipping_norm_max: float = Field(gt=0)


class EvaluationRelease(UserRelease):
    """Model quality as one noisy vector: loss and histograms of predictions by outcome."""

    bins: int = Field(ge=4, le=1000)


class PlacementCounts(UserRelease):
    """Results of placements of one day: what of one device counts at most, and what of the sum is shown.

    Attributes:
        bounds: contribution bounds, kept by the device before anything leaves.
        reach_min: a row is shown only where its noisy number of devices is at least this.
        interval_max: a figure is shown only where half of its interval is at most this share of it.
        groups: that people may declare on their device, for reports on who is shown what; a public, closed list.
    """

    bounds: ContributionBounds = ContributionBounds()
    reach_min: float = Field(default=50.0, ge=10, allow_inf_nan=False)
    interval_max: float = Field(default=0.5, gt=0, le=1)
    groups: tuple[Annotated[str, Field(min_length=1, max_length=80)], ...] = Field(default=(), max_length=20)


class Releases(BaseModel):
    """Every user-level release that devices may make, by kind; an absent one is never made."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    training_update: UserRelease
    clip_quantile: ClipQuantile | None = None
    calibration: UserRelease | None = None
    evaluation: EvaluationRelease | None = None
    feature_histogram: UserRelease | None = None
    placement_counts: PlacementCounts | None = None


class SlotGroup(BaseModel):
    """Slots that share one private pick: names, or beginnings of names followed by ``*``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9_-]{1,32}$")
    slots: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{0,64}\*?$")], ...] = Field(min_length=1)


class PickRules(BaseModel):
    """Private picks: one index out of a public list, drawn on the device by top-m randomised response.

    Attributes:
        epsilon: pure ε of one draw, for everything that chose it; unit user, replace-one, no trust in the server.
        chosen: m: how many candidates count as the best; public, never a function of anybody's scores.
        candidates_max: K: the longest list.
        epoch_days: one draw per slot group and so many days, kept and repeated until then.
        period_days: of the budget of picks; a whole number of epochs.
        epsilon_cap: capacity of one device in one period over all slot groups, at δ = 0.
        slot_groups: which slots share a pick.
        logit_spread: how far people's log-odds lie apart (standard deviation), as the service assumes when it reads a
            pick; no guarantee depends on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    epsilon: float = Field(gt=0, le=8)
    chosen: int = Field(ge=1, le=7)
    candidates_max: int = Field(ge=2, le=8)
    epoch_days: int = Field(ge=1, le=366)
    period_days: int = Field(ge=1, le=366)
    epsilon_cap: float = Field(gt=0)
    slot_groups: tuple[SlotGroup, ...] = Field(min_length=1, max_length=8)
    logit_spread: float = Field(default=0.8, gt=0, le=5)


class PrivacyBudgetPolicy(Document):
    """The privacy budget: what may be spent, and the mechanisms that are declared to meet it.

    Attributes:
        lines: user-level and record-level capacity, each once.
        training: DP-SGD on the device (record_local, layered).
        user_training: local training without noise of its own (user_distributed).
        releases: user-level releases through secure aggregation.
        cohort: who takes part in one secure aggregation.
        placement: private picks; without it there are none.
    """

    profile: Profile
    rounds_max: int = Field(ge=1)
    budget_period_days: int = Field(ge=1, le=3660)
    lines: tuple[BudgetLine, ...] = Field(min_length=1)
    training: RecordDpParameters
    user_training: LocalSgdParameters
    releases: Releases
    cohort: CohortParameters
    placement: PickRules | None = None


class Recipient(BaseModel):
    """Who receives something under a purpose."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str = Field(min_length=1, max_length=100)
    name: str = Field(min_length=1, max_length=200)


class PurposeRule(BaseModel):
    """One purpose: what it needs, what it says, and what every record of consent states about it (ISO/IEC TS 27560).

    Attributes:
        data: categories of personal data it uses.
        recipients: who receives anything; empty where nothing leaves the device.
        storage: where what it uses is kept.
        retention: how long.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: Purpose
    requires: tuple[Purpose, ...] = ()
    title: dict[Literal["en", "zh-CN"], str]
    text: dict[Literal["en", "zh-CN"], str]
    data: tuple[str, ...] = Field(min_length=1)
    recipients: tuple[Recipient, ...] = ()
    storage: str = Field(min_length=1, max_length=200)
    retention: str = Field(min_length=1, max_length=1000)


class JurisdictionRule(BaseModel):
    """What one place prescribes, as this installation applies it.

    Attributes:
        code: ISO 3166 country, or country and subdivision; the longer one prevails.
        validity_days: how long a grant holds there; never past ``validity_days_max``.
        adult_age_years: what "adult" means there when people declare their age band; a birth date is never asked for.
        gpc: whether Global Privacy Control opposes everything there, or is only recorded.
        reask_days: after a refusal or a withdrawal, days in which nobody may ask again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    code: str = Field(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")
    validity_days: int = Field(ge=1, le=395)
    adult_age_years: int = Field(ge=18, le=25)
    gpc: Literal["opposes", "recorded"] = "opposes"
    reask_days: int = Field(default=0, ge=0, le=3660)


class PurposesPolicy(Document):
    """All purposes, how long a grant holds, and what differs by place.

    Attributes:
        withdrawal_method: how anybody withdraws; stated in every record of consent.
        jurisdictions: places with rules of their own; everywhere else the defaults hold.
    """

    validity_days_default: int = Field(ge=1, le=395)
    validity_days_max: int = Field(ge=1, le=395)
    adult_age_years_default: int = Field(default=18, ge=18, le=25)
    withdrawal_method: str = Field(min_length=1, max_length=1000)
    purposes: tuple[PurposeRule, ...]
    jurisdictions: tuple[JurisdictionRule, ...] = ()

    def heeds_gpc(self, code: str) -> bool:
        """Whether Global Privacy Control opposes in a jurisdiction; elsewhere it is only recorded."""
        return self.jurisdiction(code).gpc == "opposes"

    def jurisdiction(self, code: str) -> JurisdictionRule:
        """The rules of a place: its own, else its country's, else the defaults; ZZ stands for everywhere else."""
        for wanted in (code, code.partition("-")[0]):
            found = next((rule for rule in self.jurisdictions if rule.code == wanted), None)
            if found is not None:
                return found.model_copy(update={"validity_days": min(found.validity_days, self.validity_days_max)})
        days = min(self.validity_days_default, self.validity_days_max)
        return JurisdictionRule(code="ZZ", validity_days=days, adult_age_years=self.adult_age_years_default)


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


class LawRule(BaseModel):
    """Until when one law wants a data subject's request answered: ``months`` and ``days`` after it came in.

    Attributes:
        jurisdictions: ISO 3166 codes; the one law without any holds everywhere else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str = Field(pattern=r"^[a-z-]{1,20}$")
    clause: str = Field(min_length=1, max_length=200)
    months: int = Field(default=0, ge=0, le=3)
    days: int = Field(default=0, ge=0, le=90)
    jurisdictions: tuple[str, ...]


class Handling(StrEnum):
    """Who does what a data subject's own device has asked for."""

    AUTOMATIC = "automatic"
    OFFICER = "officer"


class RequestsPolicy(Document):
    """Data subjects' requests: deadlines by law, and what needs an officer."""

    package_days: int = Field(ge=1, le=365)
    laws: tuple[LawRule, ...] = Field(min_length=1)
    handling: dict[RequestKind, Handling]

    @model_validator(mode="after")
    def _whole(self) -> RequestsPolicy:
        places = [place for law in self.laws for place in law.jurisdictions]
        if len(set(places)) != len(places) or sum(not law.jurisdictions for law in self.laws) != 1:
            raise ValueError("every place has one law, and exactly one law holds elsewhere")
        if any(law.months + law.days == 0 for law in self.laws):
            raise ValueError("a law without a deadline")
        if set(self.handling) != set(RequestKind):
            raise ValueError("handling names every kind of request")
        return self


class RetentionPolicy(Document):
    """How long raw behaviour stays on the device, per kind."""

    retention_days: dict[EventKind, Annotated[int, Field(ge=1, le=3660)]]
    clock_skew_seconds_max: int = Field(ge=0)


class PolicySet(BaseModel):
    """All documents that one installation runs under."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    privacy_budget: PrivacyBudgetPolicy
    purposes: PurposesPolicy
    egress: EgressPolicy
    retention: RetentionPolicy
    requests: RequestsPolicy
    placement: PlacementPolicy

    @model_validator(mode="after")
    def _every_purpose_once(self) -> PolicySet:
        ids = [rule.id for rule in self.purposes.purposes]
        if len(set(ids)) != len(ids):
            raise ValueError("purposes.yaml names a purpose twice")
        codes = [rule.code for rule in self.purposes.jurisdictions]
        if len(set(codes)) != len(codes):
            raise ValueError("purposes.yaml names a jurisdiction twice")
        return self
