"""An experiment on placements: a public, signed document, the same for everybody. It holds nothing about anybody."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.taxonomy import Metric
from common.wire.base import Digest, Message

SHARES: Literal[10_000] = 10_000
"""Buckets of an experiment; shares are counted in them."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


class ExperimentArm(Message):
    """One way of placing.

    Attributes:
        name: in reports and measurement cuts.
        share: of devices (and of contextual decisions), in ten-thousandths.
        policy_digest: SHA-256 of ``policy_text``.
        policy_text: the placement policy document of this arm.
    """

    name: Name
    share: int = Field(ge=1, le=SHARES)
    policy_digest: Digest
    policy_text: Annotated[str, Field(max_length=65_536)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if hashlib.sha256(self.policy_text.encode()).hexdigest() != self.policy_digest:
            raise ValueError("an arm's digest is not that of its policy document")
        return self


class ExperimentDocument(Message):
    """What is tried, on whom, for how long, and how it will be judged: all fixed before it starts.

    Attributes:
        experiment_id: its name, used once.
        salt: drawn when it was approved, so that arms of different experiments are independent.
        arms: the first is the one that the others are compared with.
        starts_at, ends_at: seconds since the epoch.
        reward: what is counted per view.
        method: ``fixed_horizon``: one look, at the end; ``sequential``: intervals hold at every look.
    """

    kind: Literal["experiment"] = "experiment"
    experiment_id: Name
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    arms: Annotated[tuple[ExperimentArm, ...], Field(min_length=2, max_length=8)]
    starts_at: int = Field(ge=0)
    ends_at: int = Field(ge=0)
    reward: Literal[Metric.CLICKS, Metric.CONVERSIONS] = Metric.CLICKS
    method: Literal["fixed_horizon", "sequential"] = "sequential"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if sum(arm.share for arm in self.arms) != SHARES:
            raise ValueError("shares do not add up to 10,000")
        if len({arm.name for arm in self.arms}) != len(self.arms):
            raise ValueError("two arms have one name")
        if self.ends_at <= self.starts_at:
            raise ValueError("it ends before it starts")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the document, by which permits and measurements name it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
