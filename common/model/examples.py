"""Featurised examples. Owns the array form that features produce and models consume; knows nothing of events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import DtypeMismatch, NonFiniteValue, ShapeMismatch
from common.model.feature_spec import FeatureSpec

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Examples:
    """``n`` featurised examples of one specification.

    Attributes:
        categorical: int64 ``[n, F]`` row ids into the shared table, personal view (``spec.table_rows`` rows).
        numeric: float32 ``[n, D]``, transformed; personal columns filled.
        labels: float32 ``[n]`` in {0, 1}; empty when unknown.
        times: float64 ``[n]`` seconds since the epoch, for splits only; never a feature.
        spec_digest: digest of the specification that made them.
    """

    categorical: IntArray
    numeric: FloatArray
    labels: FloatArray
    times: npt.NDArray[np.float64]
    spec_digest: str

    def __len__(self) -> int:
        """Number of examples."""
        return int(self.categorical.shape[0])

    @property
    def positives(self) -> int:
        """Number of examples with label 1."""
        return int(self.labels.sum())

    def select(self, mask: npt.NDArray[np.bool_] | IntArray) -> Examples:
        """The examples picked by a boolean mask or an index array."""
        labels = self.labels[mask] if len(self.labels) else self.labels
        return Examples(self.categorical[mask], self.numeric[mask], labels, self.times[mask], self.spec_digest)

    def check(self, spec: FeatureSpec) -> None:
        """Raise unless shapes, dtypes and ranges are those of ``spec``.

        Raises:
            ShapeMismatch, DtypeMismatch, NonFiniteValue: the arrays are not what the specification declares.
        """
        n = self.categorical.shape[0]
        if self.categorical.shape != (n, len(spec.categorical)) or self.numeric.shape != (n, len(spec.numeric)):
            raise ShapeMismatch(f"expected {len(spec.categorical)} + {len(spec.numeric)} columns, those of {spec.name}")
        if self.labels.shape not in {(n,), (0,)}:
            raise ShapeMismatch("labels must be one per example, or none at all")
        if self.categorical.dtype != np.int64 or self.numeric.dtype != np.float32:
            raise DtypeMismatch("examples must be int64 ids and float32 numbers")
        if self.categorical.size and (self.categorical.min() < 0 or self.categorical.max() >= spec.table_rows):
            raise ShapeMismatch("a categorical id lies outside the model's table")
        if not np.isfinite(self.numeric).all():
            raise NonFiniteValue("a numeric feature is not finite")

    @staticmethod
    def empty(spec: FeatureSpec) -> Examples:
        """No examples at all: what an empty device has."""
        return Examples(
            np.zeros((0, len(spec.categorical)), np.int64),
            np.zeros((0, len(spec.numeric)), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.float64),
            spec.digest,
        )

    @staticmethod
    def concatenate(parts: list[Examples], spec: FeatureSpec) -> Examples:
        """All parts in order (simulation and evaluation only: a device never joins with another)."""
        parts = parts or [Examples.empty(spec)]
        return Examples(
            np.concatenate([p.categorical for p in parts]),
            np.concatenate([p.numeric for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.times for p in parts]),
            spec.digest,
        )
