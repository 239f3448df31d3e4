"""Data set descriptions. Owns the small YAML that says what a table's columns mean, and the features that follow.

A description is public. Every transform in it is a fixed constant chosen by a person, never fitted on the data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from client.features.history import ACTIVITY, FAMILIES, SIGNALS
from common.errors import MalformedInput
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField, Transform
from common.model.situation import HOUR, ITEM, WEEKDAY
from common.taxonomy import FeatureBlock
from common.wire.codec import describe
from policies.loader import read_yaml
from policies.placement.lint import refuse_special_features

DESCRIPTIONS = Path(__file__).resolve().parent / "descriptions"
Name = Annotated[str, Field(min_length=1, max_length=60)]
_ACTIVITY_SIGNALS = ("count", "count30", "recent7")
Family = Literal["bought", "engaged", "viewed", "shown", "said"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(_Part):
    """Which column is what. Without ``user`` rows are dealt to ``row_devices`` simulated devices."""

    label: Name
    user: Name | None = None
    item: Name | None = None
    time: Name | None = None


class Number(_Part):
    """Public transform of a numeric column."""

    transform: Transform = "signed_log1p"
    center: float = 0.0
    scale: float = Field(default=2.0, gt=0)
    clip: float = Field(default=3.0, gt=0)


class Personal(_Part):
    """Public constants of one personal number, for a signal that is a plain formula already."""

    center: float = Field(default=0.0, allow_inf_nan=False)
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    clip: float = Field(default=3.0, gt=0, allow_inf_nan=False)


class HistoryPlan(_Part):
    """The person's own history met with a candidate: every family × attribute × signal, or the fields named, not both.

    Attributes:
        fields: ``family.attribute.signal`` and its constants; attribute ``activity`` is all of a family's moments.
    """

    families: tuple[Family, ...] = ()
    attributes: tuple[Name, ...] = ()
    signals: tuple[Name, ...] = ("any", "count90", "recent7", "recent30", "rate")
    fields: dict[Name, Personal] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_signals(self) -> HistoryPlan:
        parts = [name.split(".") for name in self.fields]
        if any(len(part) != 3 or part[0] not in FAMILIES for part in parts):
            raise ValueError(f"history fields are named family.attribute.signal; families are {', '.join(FAMILIES)}")
        unknown = set(self.signals).union(part[2] for part in parts) - set(SIGNALS)
        if unknown:
            raise ValueError(f"unknown history signals {sorted(unknown)}; known are {sorted(SIGNALS)}")
        if self.fields and (self.families or self.attributes):
            raise ValueError("history has either families and attributes, or fields")
        return self

    @property
    def attributes_met(self) -> set[str]:
        """Attributes of items that history is kept of."""
        return set(self.attributes) | ({name.split(".")[1] for name in self.fields} - {ACTIVITY})

    def numbers(self) -> list[NumericField]:
        """The personal numbers, in order."""
        named = {name: constants.model_dump() for name, constants in self.fields.items()}
        for family in self.families:
            named |= {f"{family}.{a}.{s}": {} for a in self.attributes for s in self.signals}
        named |= {f"{family}.{ACTIVITY}.{s}": {} for family in self.families for s in _ACTIVITY_SIGNALS}
        return [NumericField(name=name, block=FeatureBlock.PERSONAL, **constants) for name, constants in named.items()]


class DataDescription(_Part):
    """One table (or prepared source) as a population of devices.

    Attributes:
        base_rate: public guess of the label's rate; the model's bias starts there.
        attributes: columns that are facts of the item; history is kept per attribute.
        context: columns known without knowing the person; ``hour`` and ``weekday`` are derived from the time.
        numbers: numeric columns with their public transforms.
        buckets: table rows per categorical field (``default`` for those not named; 0 leaves the field to history).
        holdout_share: last part of the time line kept for evaluation.
        unseen_share: part of the devices never trained on.
    """

    version: int = Field(default=1, ge=1)
    name: Name
    source: Literal["table", "completejourney"] = "table"
    base_rate: float = Field(gt=0, lt=1)
    columns: Columns
    attributes: tuple[Name, ...] = ()
    context: tuple[Name, ...] = ()
    numbers: dict[Name, Number] = Field(default_factory=dict)
    history: HistoryPlan = HistoryPlan()
    buckets: dict[str, Annotated[int, Field(ge=0, le=1 << 20)]] = Field(default_factory=dict)
    row_devices: int = Field(default=50, ge=1)
    holdout_share: float = Field(default=0.2, ge=0, lt=1)
    unseen_share: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _columns_once(self) -> DataDescription:
        columns = self.columns
        if self.history.numbers() and self.source == "table" and None in (columns.user, columns.item):
            raise ValueError("history features need both a user and an item column")
        unknown = self.history.attributes_met - {ITEM, *self.attributes}
        if unknown:
            raise ValueError(f"history names attributes {sorted(unknown)} that are not listed under attributes")
        return self

    def column_names(self) -> list[str]:
        """Every column the data must have."""
        named = [self.columns.user, self.columns.item, self.columns.time, self.columns.label]
        derived = {HOUR, WEEKDAY} if self.columns.time else set()
        rest = [*self.attributes, *(c for c in self.context if c not in derived), *self.numbers]
        return list(dict.fromkeys([name for name in named if name] + rest))

    def feature_spec(self) -> FeatureSpec:
        """The specification that this description means; the same description gives the same digest everywhere.

        Raises:
            PolicyError: a feature would be named for a special category.
        """
        fields = ([ITEM] if self.columns.item else []) + list(self.attributes) + list(self.context)
        default = self.buckets.get("default", 64)
        context = FeatureBlock.CONTEXT
        numbers = [NumericField(name=n, block=context, **c.model_dump()) for n, c in self.numbers.items()]
        spec = FeatureSpec(
            name=self.name,
            version=self.version,
            categorical=tuple(
                CategoricalField(name=f, block=context, buckets=self.buckets.get(f, default))
                for f in fields
                if self.buckets.get(f, default) > 0
            ),
            numeric=(*numbers, *self.history.numbers()),
        )
        refuse_special_features(spec)
        return spec


def load_description(name_or_path: str | Path) -> DataDescription:
    """A description by built-in name or by path.

    Raises:
        MalformedInput: not there, not YAML, or not a description; the text says which field.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = DESCRIPTIONS / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in DESCRIPTIONS.glob("*.yaml")))
        raise MalformedInput(f"no data set description '{name_or_path}': give a .yaml path or one of {known}")
    try:
        return DataDescription.model_validate(read_yaml(path))
    except ValidationError as error:
        details = "; ".join(str(row["msg"]) for row in error.errors(include_input=False)[:3])
        raise MalformedInput(f"{path.name}: {describe(error)} ({details})") from None
