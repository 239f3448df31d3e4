"""Worlds in which one record or one device stands out as far as the mechanism lets it. Owns no mechanism.

A canary has table rows that nobody else uses, in several fields, and a public scale of 10 on them: 99.9 % of its
clipped gradient lies on its own rows. Scores of different canaries then have noise of their own, so one run of the
mechanism with half of its canaries left out gives as many independent scores as there are canaries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from common.model import arrays
from common.model.examples import Examples
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.model.network import initial_arrays
from common.taxonomy import FeatureBlock, ModelFamily
from common.wire.messages import ModelSpec

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

FIELDS: Final = 4
OUTSIZED: Final = 1e4
_WIDE_SCALE: Final = 10.0
_BASE_RATE: Final = 0.1


@dataclass(frozen=True, slots=True)
class World:
    """A model and a specification in which ``canaries`` records have rows of their own.

    Attributes:
        start: received weights, float64 ``[d]``; every round starts from them, as a server could choose to.
        rows: positions of each canary's rows in the flat vector, int64 ``[canaries, FIELDS]``.
    """

    canaries: int
    spec: FeatureSpec
    model: ModelSpec
    start: arrays.Vector
    rows: npt.NDArray[np.int64]

    @property
    def length(self) -> int:
        """Number of weights d."""
        return int(self.start.size)

    @property
    def share(self) -> float:
        """Part of a canary's gradient norm that lies on its own rows; the rest is on the bias."""
        own = FIELDS * _WIDE_SCALE**2
        return math.sqrt(own / (own + 1))

    def examples(self, present: BoolArray) -> Examples:
        """The records of the canaries that are present, each with label 1."""
        chosen = np.flatnonzero(present)
        ids = self.spec.offsets[None, :] + 1 + chosen[:, None]
        count = len(chosen)
        return Examples(
            np.ascontiguousarray(ids, np.int64),
            np.zeros((count, 0), np.float32),
            np.ones(count, np.float32),
            np.zeros(count),
            self.spec.digest,
        )

    def scores(self, vector: arrays.Vector) -> FloatArray:
        """Projection of an update on each canary's rows, ``[canaries]``: its own contribution is positive there."""
        return np.asarray(vector[self.rows].sum(axis=1) / math.sqrt(FIELDS), np.float64)


def canary_world(canaries: int) -> World:
    """Hashed logistic regression over ``FIELDS`` fields with a row for each canary."""
    fields = tuple(
        CategoricalField(name=f"canary{i}", block=FeatureBlock.CONTEXT, buckets=canaries + 1) for i in range(FIELDS)
    )
    spec = FeatureSpec(name="canaries", version=1, categorical=fields, numeric=())
    model = ModelSpec(
        family=ModelFamily.LOGISTIC, spec_digest=spec.digest, base_rate=_BASE_RATE, wide_scale=_WIDE_SCALE
    )
    named = initial_arrays(model, spec)
    start = arrays.flatten(named)
    first = sum(named[name].size for name in sorted(named) if name < "table.weight")
    own = first + spec.offsets[None, :] + 1 + np.arange(canaries)[:, None]
    return World(canaries, spec, model, start, own)


@dataclass(frozen=True, slots=True)
class Outsized:
    """Ordinary records, and one whose gradient is thousands of times any clipping norm."""

    spec: FeatureSpec
    model: ModelSpec
    start: arrays.Vector
    crowd: Examples
    both: Examples
    alone: Examples


def outsized_world(family: ModelFamily, *, label: float, crowd: int = 20) -> Outsized:
    """A world with numbers, so that every layer of the family gets a share of the outsized gradient.

    Args:
        family: which network.
        label: of the outsized record; the one that the network is surest against hurts most.
        crowd: number of ordinary records.
    """
    blocks = (FeatureBlock.PERSONAL, FeatureBlock.CONTEXT)
    spec = FeatureSpec(
        name="outsized canary",
        version=1,
        categorical=tuple(CategoricalField(name=f"c{i}", block=blocks[i], buckets=9) for i in (0, 1)),
        numeric=tuple(NumericField(name=f"x{i}", block=FeatureBlock.CONTEXT) for i in range(3)),
    )
    model = ModelSpec(
        family=family, spec_digest=spec.digest, base_rate=_BASE_RATE, hidden_width=8, wide_scale=_WIDE_SCALE
    )
    rng = np.random.default_rng(7)  # public: the crowd is no secret
    ids = spec.offsets[None, :] + rng.integers(1, 9, (crowd + 1, 2))
    numbers = rng.normal(size=(crowd + 1, 3)).clip(-3, 3).astype(np.float32)
    numbers[-1] = OUTSIZED
    labels = np.append((rng.random(crowd) < 0.3), label).astype(np.float32)
    both = Examples(np.asarray(ids, np.int64), numbers, labels, np.zeros(crowd + 1), spec.digest)
    start = arrays.flatten(initial_arrays(model, spec))
    return Outsized(spec, model, start, both.select(np.arange(crowd)), both, both.select(np.array([crowd])))
