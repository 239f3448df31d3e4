"""Runs of the secure sum for its user-level line. Owns the runs; judges nothing.

Devices train (or, under LAYERED, act as badly as they can), clip, round and add their shares; the shares are added up
and decoded. Masks cancel exactly in secure aggregation, so the audit adds shares up itself and looks at what the
server gets. It runs the hardest case that the protocol accepts: the smallest roster with as few honest survivors as
may be, and nobody else adding any noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from cli.audit.build import Build, Noise, Trainer
from cli.audit.canaries import World, canary_world
from common.model.arrays import Vector
from common.model.examples import Examples
from common.privacy.distributed import NoisedShare
from common.privacy.parameters import CohortParameters, LocalSgdParameters, MechanismUse, UserDpParameters
from common.privacy.randomness import NoiseSource, SimulationNoise
from common.privacy.updates import ClippedUpdate, ModelDelta
from common.taxonomy import Profile

FloatArray = npt.NDArray[np.float64]
Ticker = Callable[[int], None]

PART = "secure sum"
COPIES_MAX = 50_000
VARIANCE_ROWS = 500


@dataclass(frozen=True)
class UserRuns:
    """One build's clipping and distributed noise under one policy.

    Attributes:
        release: parameters of the training update.
        beside: other segments of a training round, ``(length, parameters)``; here every device sends zeros in them.
        coins: which canaries take part; public randomness, never a mechanism's.
    """

    build: Build
    release: UserDpParameters
    beside: tuple[tuple[int, UserDpParameters], ...]
    training: LocalSgdParameters
    cohort: CohortParameters
    profile: Profile
    noise: Noise
    coins: np.random.Generator

    @property
    def roster(self) -> int:
        """Devices on the roster: as few as a device agrees to."""
        return self.cohort.devices_min

    @property
    def honest(self) -> int:
        """Devices whose noise is in the sum."""
        return self.cohort.honest_min(self.roster)

    @property
    def part(self) -> str:
        """Which part of the code this is."""
        return PART

    @property
    def stddev(self) -> float:
        """Declared standard deviation of the noise on the sum, in units of C."""
        return self.release.noise_stddev / self.release.clipping_norm

    @cached_property
    def world(self) -> World:
        """A world with one canary for each honest device."""
        return canary_world(self.honest)

    def releases(self) -> tuple[MechanismUse, ...]:
        """The releases that the code attaches to one round."""
        return self._share(self._silent(self.world.length), self.noise.fresh()).releases

    def work(self, scores: int, rounds: int) -> dict[str, int]:
        """Units that the tickers of ``canary_scores`` … will count, by kind of run."""
        return {"canaries": self._runs(scores) * rounds, "noise": 2, "clip": 6}

    def canary_scores(self, scores: int, rounds: int, tick: Ticker) -> tuple[FloatArray, FloatArray]:
        """Scores of devices whose data were in all ``rounds`` and of devices without data, in units of C.

        Args:
            scores: how many of each at least.
            rounds: of the training that the claim is about; a score is the sum over them.
            tick: told how many rounds were run.
        """
        canaries = [self.build.clip(delta, self.release.clipping_norm) for delta in self.canary_deltas()]
        silent = self._silent(self.world.length)
        present, absent = [], []
        for _ in range(self._runs(scores)):
            chosen = self._half_present()
            rng = self.noise.fresh()
            total = np.zeros(self.world.length)
            for _ in range(rounds):
                updates = [update if there else silent for update, there in zip(canaries, chosen, strict=True)]
                total += self._sum(updates, rng)
                tick(1)
            found = self.world.scores(total) / self.release.clipping_norm
            present.append(found[chosen])
            absent.append(found[~chosen])
        both = np.concatenate(present), np.concatenate(absent)
        length = min(scores, *(len(part) for part in both))
        return both[0][:length], both[1][:length]

    def deviation_scores(self, runs: int, tick: Ticker) -> tuple[FloatArray, FloatArray]:
        """Log standard deviation of the whole sum with every device's data and with one device's missing."""
        rng = self.noise.fresh()
        crowd = [self.build.clip(delta, self.release.clipping_norm) for delta in self.canary_deltas()]
        loads = [crowd, [*crowd[1:], self._silent(self.world.length)]]
        found = np.empty((runs, 2))
        for run in range(runs):
            found[run] = [math.log(max(float(self._sum(load, rng).std()), 1e-300)) for load in loads]
            tick(1)
        return found[:, 0], found[:, 1]

    def noise_residuals(self, runs: int, tick: Ticker) -> tuple[FloatArray, FloatArray]:
        """Sums ``[runs, d]`` in units of C on the same data, with two generators for every device."""
        length = canary_world(VARIANCE_ROWS).length
        moved = np.zeros(length)
        moved[: length // 2] = self.release.clipping_norm / math.sqrt(length)
        updates = [self.build.clip(ModelDelta(moved), self.release.clipping_norm)] * self.honest
        halves = []
        for _ in range(2):
            sources = [self.noise.fresh() for _ in range(self.honest)]
            halves.append(np.stack([self._sum(updates, *sources) for _ in range(runs)]) / self.release.clipping_norm)
            tick(1)
        return halves[0], halves[1]

    def clip_moves(self, tick: Ticker) -> dict[str, float]:
        """How far an outsized device moves the sum, in units of C, by its direction: noise is repeated and cancels."""
        length = self.world.length
        along_one, along_all = np.zeros(length), np.full(length, 1e9)
        along_one[0] = -1e30
        named = {"one weight": along_one, "all weights": along_all, "canary": self.canary_deltas()[0].vector}
        return {name: self._move(ModelDelta(vector), tick) for name, vector in named.items()}

    def canary_deltas(self) -> list[ModelDelta]:
        """What each canary device learnt; under LAYERED a vector that is as bad, as record noise would hide a canary.

        Raises:
            Exception: whatever the training came back with.
        """
        if self.profile is Profile.LAYERED:
            vectors = np.zeros((self.honest, self.world.length))
            vectors[np.arange(self.honest)[:, None], self.world.rows] = 1e6
            return [ModelDelta(vector) for vector in vectors]
        loads = [self._repeated(device) for device in range(self.honest)]
        found: list[ModelDelta] = []
        for result in self._trainer(self.noise.fresh()).deltas(self.world.start, loads):
            if isinstance(result, Exception):
                raise result
            found.append(result)
        return found

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _runs(self, scores: int) -> int:
        """Runs that give so many scores with and without a canary."""
        return -(-2 * scores // self.honest)

    def _trainer(self, rng: NoiseSource) -> Trainer:
        return self.build.trainer(
            model=self.world.model,
            spec=self.world.spec,
            parameters=self.training,
            profile=self.profile,
            rng=rng,
            device=torch.device("cpu"),
            simulation=rng.simulation,
        )

    def _repeated(self, device: int) -> Examples:
        """So many copies of the device's record that its update is far longer than C."""
        one = self.world.examples(np.arange(self.world.canaries) == device)
        step = self.training.learning_rate / self.training.expected_batch_size
        copies = math.ceil(self.release.clipping_norm / step)
        return one.select(np.zeros(min(max(copies, 1), COPIES_MAX), np.int64))

    def _silent(self, length: int) -> ClippedUpdate:
        return ClippedUpdate(np.zeros(length), self.release.clipping_norm)

    def _share(self, update: ClippedUpdate, rng: NoiseSource) -> NoisedShare:
        beside = [(ClippedUpdate(np.zeros(n), one.clipping_norm), one) for n, one in self.beside]
        return self.build.share([(update, self.release), *beside], self.cohort, self.roster, rng)

    def _sum(self, updates: list[ClippedUpdate], *sources: NoiseSource) -> Vector:
        """The decoded training update of one round."""
        used = sources if len(sources) > 1 else sources * len(updates)
        shares = [self._share(update, rng).vector for update, rng in zip(updates, used, strict=True)]
        total = np.sum(shares, axis=0)
        lengths = [(updates[0].vector.size, self.release), *self.beside]
        return self.build.decode(total, lengths)[0]

    def _move(self, delta: ModelDelta, tick: Ticker) -> float:
        silent = self._silent(delta.vector.size)
        found = []
        for update in (self.build.clip(delta, self.release.clipping_norm), silent):
            rng = SimulationNoise(0, "audit", "clip")
            found.append(self._sum([update, *[silent] * (self.honest - 1)], rng))
            tick(1)
        return float(np.linalg.norm(found[0] - found[1])) / self.release.clipping_norm

    def _half_present(self) -> npt.NDArray[np.bool_]:
        chosen = np.arange(self.honest) < max(1, self.honest // 2)
        return np.asarray(self.coins.permuted(chosen), bool)
