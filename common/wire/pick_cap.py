"""What privacy officers allow for private picks, as everybody is told it: one signed document for all devices.

It holds nothing about anybody. A device that has it refuses by itself what the service would refuse after it was paid.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StrictInt, model_validator

from common.taxonomy import NeighbouringRelation, PrivacyUnit, TrustModel
from common.wire.base import Message

Number = Annotated[StrictInt, Field(ge=0, le=1 << 53)]


class PickCap(Message):
    """The officers' cap on the picks of one device in one budget period, and until when this may be relied on.

    Attributes:
        number: of the officers' decision; a later decision has a higher one. 0: they have decided nothing.
        epsilon_max: ε that they allow, at ``delta``; None where they have decided nothing, so that the budget document
            alone holds.
        unit, relation, trust, delta, period_days: the line that it is about.
        issued_at, expires_at: seconds since the epoch.
    """

    kind: Literal["pick_cap"] = "pick_cap"
    number: Number
    epsilon_max: float | None = Field(ge=0, le=1e6, allow_inf_nan=False)
    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel
    delta: float = Field(ge=0, lt=1, allow_inf_nan=False)
    period_days: StrictInt = Field(ge=1, le=3660)
    issued_at: Number
    expires_at: Number

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.number == 0) != (self.epsilon_max is None):
            raise ValueError("a decision has an ε, and nothing else has one")
        if self.expires_at <= self.issued_at:
            raise ValueError("it ends before it begins")
        return self
