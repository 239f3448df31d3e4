"""What a measurement counts: one day, by which labels. Public, signed with the invitation, the same for everybody."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from common.taxonomy import Dimension
from common.wire.base import Digest, Message, ShortText

LABELS_MAX = 512
DAY_MAX = 100_000
Labels = Annotated[tuple[ShortText, ...], Field(min_length=1, max_length=LABELS_MAX)]


class Cut(Message):
    """One dimension and the labels counted in it; what has another label is not counted in this cut."""

    dimension: Dimension
    labels: Labels

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label occurs twice")
        return self


class MeasurementPlan(Message):
    """What is counted of one UTC day.

    Attributes:
        day: days since 1970-01-01, UTC.
        cuts: dimensions, each once; nothing in them may depend on what a device holds.
        experiment: whose arms an ``arm`` cut counts.
    """

    day: int = Field(ge=0, le=DAY_MAX)
    cuts: tuple[Cut, ...] = Field(min_length=1, max_length=len(Dimension))
    experiment: Digest | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        dimensions = [cut.dimension for cut in self.cuts]
        if len(set(dimensions)) != len(dimensions):
            raise ValueError("a dimension occurs twice")
        if (Dimension.ARM in dimensions) != (self.experiment is not None):
            raise ValueError("an arm cut belongs to an experiment, and an experiment to an arm cut")
        return self
