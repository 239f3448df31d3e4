"""A situation: one candidate item at one moment in one context. Owns the context features, which need no consent.

The device and the service featurise situations by the same code, so the contextual view of the model is the same on
both sides. Personal columns are left absent here; ``client.features`` fills them on the device.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from common.model.feature_spec import FeatureSpec, hash_bucket, transform_number
from common.taxonomy import FeatureBlock

ITEM = "item"
HOUR = "hour"
WEEKDAY = "weekday"


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known without knowing the person.

    Attributes:
        time: seconds since the epoch, UTC.
        item: id of the candidate item.
        attributes: public facts about the item (category, brand …).
        context: categorical context (placement, page …).
        numbers: numeric context or item facts.
    """

    time: float
    item: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """Value of a categorical context field: item, attribute, context value, or one derived from time."""
        if name == ITEM:
            return self.item
        if name in self.attributes:
            return self.attributes[name]
        if name in self.context:
            return self.context[name]
        if name in (HOUR, WEEKDAY):
            moment = dt.datetime.fromtimestamp(self.time, dt.UTC)
            return str(moment.hour if name == HOUR else moment.weekday())
        return None


def context_arrays(
    spec: FeatureSpec, situations: Sequence[Situation]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Context columns of ``n`` situations: ids int64 ``[n, F]``, numbers float32 ``[n, D]``; personal ones absent."""
    ids = np.tile(spec.offsets, (len(situations), 1)).reshape(len(situations), len(spec.categorical))
    numbers = np.zeros((len(situations), len(spec.numeric)), np.float32)
    cache: dict[tuple[int, str | None], int] = {}
    categorical = [(j, f) for j, f in enumerate(spec.categorical) if f.block is FeatureBlock.CONTEXT]
    numeric = [(j, f) for j, f in enumerate(spec.numeric) if f.block is FeatureBlock.CONTEXT]
    for i, situation in enumerate(situations):
        for j, cat in categorical:
            value = situation.text(cat.name)
            row = cache.get((j, value))
            if row is None:
                row = cache[j, value] = hash_bucket(cat, int(spec.offsets[j]), value)
            ids[i, j] = row
        for j, num in numeric:
            numbers[i, j] = transform_number(num, situation.numbers.get(num.name))
    return ids, numbers
