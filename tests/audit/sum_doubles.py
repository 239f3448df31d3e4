"""Builds that lie in the secure sum; see ``tests.audit.doubles``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from common.privacy.distributed import NoisedShare, noise_share
from common.privacy.parameters import UserDpParameters
from common.privacy.randomness import NoiseSource, SimulationNoise
from common.privacy.updates import ClippedUpdate, ModelDelta
from common.taxonomy import Mechanism

Segments = Sequence[tuple[ClippedUpdate, UserDpParameters]]


def share_with(noise_factor: float) -> Callable[..., NoisedShare]:
    """Shares whose noise is this part of what it should be."""

    def share(segments: Segments, cohort: object, roster_size: int, rng: NoiseSource) -> NoisedShare:
        real = [
            (update, p.model_copy(update={"noise_multiplier": p.noise_multiplier * noise_factor}))
            for update, p in segments
        ]
        vector = noise_share(real, cohort, roster_size, rng).vector  # type: ignore[arg-type]
        return NoisedShare(vector, tuple(p.release(update.vector.size) for update, p in segments))

    return share


def unclipped_share(segments: Segments, cohort: object, roster_size: int, rng: NoiseSource) -> NoisedShare:
    """Rounds without holding the result to its bound."""
    zeros = [(ClippedUpdate(np.zeros_like(update.vector), update.clipping_norm), p) for update, p in segments]
    noised = noise_share(zeros, cohort, roster_size, rng)  # type: ignore[arg-type]
    whole = np.concatenate([np.rint(np.clip(update.vector / p.grid, -1e15, 1e15)) for update, p in segments])
    return NoisedShare(noised.vector + whole.astype(np.int64), noised.releases)


def share_for_everybody(segments: Segments, cohort: object, roster_size: int, rng: NoiseSource) -> NoisedShare:
    """Sizes the share as if the whole roster were honest and would survive."""
    honest = cohort.honest_min(roster_size)  # type: ignore[attr-defined]
    return share_with((honest / roster_size) ** 0.5)(segments, cohort, roster_size, rng)


def share_from_one_key(segments: Segments, cohort: object, roster_size: int, rng: NoiseSource) -> NoisedShare:
    """Every device draws from the same key."""
    return noise_share(segments, cohort, roster_size, SimulationNoise(7))  # type: ignore[arg-type]


def amplified_share(segments: Segments, cohort: object, roster_size: int, rng: NoiseSource) -> NoisedShare:
    """Claims that nobody knows who was in the cohort."""
    share = noise_share(segments, cohort, roster_size, rng)  # type: ignore[arg-type]
    changes = {
        "mechanism": Mechanism.POISSON_SUBSAMPLED_GAUSSIAN,
        "sampling_rate": 0.1,
        "levels": None,
        "dimension": None,
    }
    return NoisedShare(share.vector, tuple(use.model_copy(update=changes) for use in share.releases))


def no_clip(delta: ModelDelta, clipping_norm: float) -> ClippedUpdate:
    return ClippedUpdate(delta.vector, clipping_norm)
