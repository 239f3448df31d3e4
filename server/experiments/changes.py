"""What can be proposed. Owns the forms; every one of them is data that somebody else can read before agreeing."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, TypeAdapter, model_validator

from common.taxonomy import ChangeKind, Metric
from common.wire.base import ShortText
from common.wire.experiments import SHARES, ExperimentArm, Name

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
PolicyText = Annotated[str, Field(min_length=1, max_length=16_384, pattern=r"^[^\x00]*$")]


class PolicyChange(BaseModel):
    """Put this placement policy in force."""

    model_config = _STRICT
    kind: Literal[ChangeKind.PLACEMENT_POLICY] = ChangeKind.PLACEMENT_POLICY
    text: PolicyText


class ArmDraft(BaseModel):
    """One arm of an experiment that is wanted."""

    model_config = _STRICT
    name: Name
    share: StrictInt = Field(ge=1, le=SHARES)
    policy_text: PolicyText

    def sealed(self) -> ExperimentArm:
        """With its digest."""
        digest = hashlib.sha256(self.policy_text.encode()).hexdigest()
        return ExperimentArm(name=self.name, share=self.share, policy_digest=digest, policy_text=self.policy_text)


class ExperimentDraft(BaseModel):
    """Compare placement policies with the one in force, which is the first arm."""

    model_config = _STRICT
    kind: Literal[ChangeKind.EXPERIMENT] = ChangeKind.EXPERIMENT
    experiment_id: Name
    arms: Annotated[tuple[ArmDraft, ...], Field(min_length=2, max_length=8)]
    starts_at: StrictInt | None = Field(default=None, ge=0, le=2**40, description="None: when it is approved.")
    length_s: StrictInt = Field(ge=60, le=366 * 86_400, description="How long it runs, in seconds.")
    reward: Literal[Metric.CLICKS, Metric.CONVERSIONS] = Metric.CLICKS
    method: Literal["fixed_horizon", "sequential"] = "sequential"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if sum(arm.share for arm in self.arms) != SHARES:
            raise ValueError("shares do not add up to 10,000")
        return self


class CreativeChange(BaseModel):
    """Pause a creative, or let it run again."""

    model_config = _STRICT
    kind: Literal[ChangeKind.CREATIVE] = ChangeKind.CREATIVE
    creative_id: ShortText
    action: Literal["pause", "resume"]


class BudgetChange(BaseModel):
    """Give a campaign another budget."""

    model_config = _STRICT
    kind: Literal[ChangeKind.BUDGET] = ChangeKind.BUDGET
    campaign_id: ShortText
    budget_micros: StrictInt = Field(ge=0, le=10**15)


AnyChange = Annotated[PolicyChange | ExperimentDraft | CreativeChange | BudgetChange, Field(discriminator="kind")]
CHANGE: Final[TypeAdapter[AnyChange]] = TypeAdapter(AnyChange)
