"""The feature specification. Owns names, order, types, ranges and transforms of every model input, and their digest.

A specification is public and fixed: no transform in it is fitted on private data. Devices and server compare digests,
so a model is never fed features made another way. Categorical values are hashed into one shared table; field ``i``
owns the rows ``[offset_i, offset_i + buckets_i)``, row ``offset_i`` being "absent". The contextual view of an example
is the same arrays with every personal column absent (``contextual``), so one model answers with and without consent.
"""

from __future__ import annotations

import functools
import hashlib
import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from common.taxonomy import FeatureBlock

PERSONAL_INTERCEPT = "one"
"""The signal that is 1 in every personal view and absent in the contextual one."""

Transform = Literal["identity", "log1p", "signed_log1p", "indicator"]


class CategoricalField(BaseModel):
    """A hashed field: ``buckets`` rows of the shared table, the first of which means absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: str = Field(min_length=1, max_length=80)
    block: FeatureBlock
    buckets: int = Field(ge=2, le=1 << 20)


class NumericField(BaseModel):
    """A number: transformed, shifted, scaled and clipped by public constants; 0 means absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: str = Field(min_length=1, max_length=80)
    block: FeatureBlock
    transform: Transform = "identity"
    center: float = 0.0
    scale: float = Field(default=1.0, gt=0)
    clip: float = Field(default=3.0, gt=0)


class FeatureSpec(BaseModel):
    """Ordered fields of one model input."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: str = Field(min_length=1, max_length=80)
    version: int = Field(ge=1)
    categorical: tuple[CategoricalField, ...]
    numeric: tuple[NumericField, ...]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, hex."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @functools.cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """First table row of each categorical field, int64 ``[F]``."""
        sizes = np.array([field.buckets for field in self.categorical], np.int64)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)[:-1]]) if len(sizes) else sizes

    @property
    def table_rows(self) -> int:
        """Rows of the shared table."""
        return sum(field.buckets for field in self.categorical)

    @functools.cached_property
    def personal_categorical(self) -> npt.NDArray[np.bool_]:
        """True for personal categorical fields, bool ``[F]``."""
        return np.array([f.block is FeatureBlock.PERSONAL for f in self.categorical], bool)

    @functools.cached_property
    def personal_numeric(self) -> npt.NDArray[np.bool_]:
        """True for personal numeric fields, bool ``[D]``."""
        return np.array([f.block is FeatureBlock.PERSONAL for f in self.numeric], bool)

    @property
    def personal_intercept(self) -> tuple[int, float] | None:
        """Column and value of a personal number that is the same in every personal view; None if there is none."""
        for column, number in enumerate(self.numeric):
            if number.block is FeatureBlock.PERSONAL and number.name.endswith(f".{PERSONAL_INTERCEPT}"):
                value = transform_number(number, 1.0)
                return (column, value) if value else None
        return None

    def contextual(
        self, categorical: npt.NDArray[np.int64], numeric: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The same examples with every personal column absent: ids ``[n, F]`` and numbers ``[n, D]``."""
        ids = np.where(self.personal_categorical, self.offsets, categorical)
        return ids, np.where(self.personal_numeric, np.float32(0), numeric)


def hash_bucket(field: CategoricalField, offset: int, value: str | None) -> int:
    """Table row of a categorical value; ``None`` and the empty string are absent.

    The hash is keyed by the field's name, so equal strings of two fields do not meet. Integer-like values keep their
    whole text: no ordering is assumed.
    """
    if value is None or value == "":
        return offset
    digest = hashlib.blake2b(value.encode(), digest_size=8, key=field.name.encode()[:64]).digest()
    return offset + 1 + int.from_bytes(digest, "little") % (field.buckets - 1)


def transform_number(field: NumericField, value: float | None) -> float:
    """The field's public transform of one raw number; missing or non-finite is absent (0)."""
    if value is None or not math.isfinite(value):
        return 0.0
    match field.transform:
        case "log1p":
            value = math.log1p(max(value, 0.0))
        case "signed_log1p":
            value = math.copysign(math.log1p(abs(value)), value)
        case "indicator":
            return 1.0 if value > 0 else 0.0
        case "identity":
            pass
    return max(-field.clip, min(field.clip, (value - field.center) / field.scale))
