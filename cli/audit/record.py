"""Runs of local training for its record-level line. Owns the runs; judges nothing.

Both engines are run, each as a node runs it: ``train`` for a device alone (Opacus), ``updates`` for many (the cohort).
Under LAYERED the record line is that of the deltas, before anything else protects them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from cli.audit.build import Build, Noise, Trainer
from cli.audit.canaries import Outsized, World, canary_world, outsized_world
from common.errors import ContractError
from common.model.arrays import Vector
from common.model.examples import Examples
from common.privacy.parameters import MechanismUse, RecordDpParameters
from common.privacy.randomness import NoiseSource, SimulationNoise
from common.privacy.updates import ModelDelta, NoisedUpdate
from common.taxonomy import ModelFamily, Profile

FloatArray = npt.NDArray[np.float64]
Ticker = Callable[[int], None]

CANARIES = 256
CROWD = 50
DEVIATION_ROWS = 2048
DEVICES = 32
"""Devices that train together when the cohort is audited."""


@dataclass(frozen=True)
class RecordRuns:
    """One build's local training under one policy.

    Attributes:
        together: True audits the cohort engine, False the engine of one device.
        coins: which canaries take part; public randomness, never a mechanism's.
    """

    build: Build
    parameters: RecordDpParameters
    profile: Profile
    noise: Noise
    together: bool
    coins: np.random.Generator
    world: World = field(default_factory=lambda: canary_world(CANARIES))

    @property
    def part(self) -> str:
        """Which part of the code this is."""
        return "cohort" if self.together else "one device (Opacus)"

    @property
    def unit(self) -> float:
        """What one record at the clipping norm moves an update by: lr·C/EB."""
        return self.parameters.learning_rate * self.parameters.clipping_norm / self.parameters.expected_batch_size

    @property
    def stddev(self) -> float:
        """Declared standard deviation of one round's noise, in ``unit``s: z·√steps."""
        return float(self.parameters.noise_stddev / self.parameters.clipping_norm * self.parameters.local_steps**0.5)

    def trainer(
        self,
        world: World | Outsized,
        rng: NoiseSource,
        *,
        parameters: RecordDpParameters | None = None,
        simulation: bool | None = None,
    ) -> Trainer:
        """A trainer as a node makes one for a round."""
        return self.build.trainer(
            model=world.model,
            spec=world.spec,
            parameters=parameters or self.parameters,
            profile=self.profile,
            rng=rng,
            device=torch.device("cpu"),
            simulation=rng.simulation if simulation is None else simulation,
        )

    def train(self, trainer: Trainer, start: Vector, loads: Sequence[Examples]) -> list[NoisedUpdate | ModelDelta]:
        """One round of every load.

        Raises:
            Exception: whatever the training of a load came back with.
        """
        if not self.together and self.profile is Profile.RECORD_LOCAL:
            return [trainer.train(start, load) for load in loads]
        method = trainer.updates if self.profile is Profile.RECORD_LOCAL else trainer.deltas
        groups = [loads] if self.together else [[load] for load in loads]
        found: list[NoisedUpdate | ModelDelta] = []
        for result in (result for group in groups for result in method(start, group)):
            if isinstance(result, Exception):
                raise result
            found.append(result)
        return found

    def release(self) -> MechanismUse:
        """The release that the code attaches to one round; under LAYERED, where deltas have none, the declared one."""
        result = self.train(self.trainer(self.world, self.noise.fresh()), self.world.start, [self._crowd(1)])[0]
        return result.release if isinstance(result, NoisedUpdate) else self.parameters.release(Profile.RECORD_LOCAL)

    def work(self, scores: int, rounds: int) -> dict[str, int]:
        """Units that the tickers of ``canary_scores`` … will count, by kind of run."""
        return {"canaries": self._runs(scores) * rounds, "noise": 2, "clip": 2 * len(ModelFamily)}

    def canary_scores(self, scores: int, rounds: int, tick: Ticker) -> tuple[FloatArray, FloatArray]:
        """Scores of canaries that took part in all ``rounds`` and of those left out, in ``unit``s; both of one length.

        Args:
            scores: how many of each at least.
            rounds: of the training that the claim is about; a canary's score is the sum over them.
            tick: told how many rounds were run.
        """
        width = DEVICES if self.together else 1
        present, absent = [], []
        for _ in range(self._runs(scores)):
            chosen = self._half_present(width)
            total = np.zeros((width, self.world.length))
            trainer = self.trainer(self.world, self.noise.fresh())
            loads = [self.world.examples(row) for row in chosen]
            for _ in range(rounds):
                total += self._vectors(trainer, self.world.start, loads)
                tick(1)
            for row, vector in zip(chosen, total, strict=True):
                found = self.world.scores(vector) / self.unit
                present.append(found[row])
                absent.append(found[~row])
        return np.concatenate(present)[:scores], np.concatenate(absent)[:scores]

    def deviation_scores(self, runs: int, tick: Ticker) -> tuple[FloatArray, FloatArray]:
        """Log standard deviation of the whole update, ``[runs]``: of a device with 50 records, and of one with 49."""
        world = canary_world(DEVIATION_ROWS)
        rng = self.noise.fresh()
        trainer = self.trainer(world, rng)
        loads = [self._crowd(CROWD, world), self._crowd(CROWD - 1, world)]
        width = DEVICES // 2 if self.together else 1
        found = []
        for _ in range(-(-runs // width)):
            vectors = self._vectors(trainer, world.start, loads * width)
            found.append(np.log(np.maximum(vectors.std(axis=1), 1e-300)).reshape(width, 2))
            tick(width)
        both = np.concatenate(found)[:runs]
        return both[:, 0], both[:, 1]

    def noise_residuals(self, runs: int, tick: Ticker) -> tuple[FloatArray, FloatArray]:
        """Updates ``[runs, d]`` in ``unit``s on the same records, from two trainers with generators of their own.

        With more than one step or with sampling, noise acts on later gradients too: then there are no records.
        """
        plain = self.parameters.local_steps == 1 and self.parameters.sampling_rate == 1
        load = self._crowd(CROWD if plain else 0)
        halves = []
        for _ in range(2):
            trainer = self.trainer(self.world, self.noise.fresh())
            halves.append(self._vectors(trainer, self.world.start, [load] * runs) / self.unit)
            tick(1)
        return halves[0], halves[1]

    def clip_moves(self, tick: Ticker) -> dict[str, float]:
        """How far an outsized record moves the update, in ``unit``s, by network: noise is repeated and cancels.

        One full-batch step, whatever the policy says: with sampling the two runs would draw different noise.
        """
        parameters = self.parameters.model_copy(update={"sampling_rate": 1.0, "local_steps": 1})
        moves = {}
        for family in ModelFamily:
            found = []
            for label in (0.0, 1.0):
                world = outsized_world(family, label=label)
                with_it, without = (self._repeatable(world, parameters, load) for load in (world.both, world.crowd))
                found.append(float(np.linalg.norm(with_it - without)) / self.unit)
                tick(1)
            moves[family.value] = max(found)
        return moves

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _runs(self, scores: int) -> int:
        """Runs that give so many scores with and without a canary."""
        return -(-2 * scores // (self.world.canaries * (DEVICES if self.together else 1)))

    def _repeatable(self, world: Outsized, parameters: RecordDpParameters, load: Examples) -> Vector:
        trainer = self.trainer(world, SimulationNoise(0, "audit", "clip"), parameters=parameters)
        loads = [load, world.crowd] if self.together else [load]
        return self.train(trainer, world.start, loads)[0].vector

    def _vectors(self, trainer: Trainer, start: Vector, loads: Sequence[Examples]) -> FloatArray:
        found = np.stack([result.vector for result in self.train(trainer, start, loads)])
        if found.shape != (len(loads), start.size):
            raise ContractError("a training came back with another number of updates or weights than it was given")
        return found

    def _crowd(self, records: int, world: World | None = None) -> Examples:
        world = world or self.world
        return world.examples(np.arange(world.canaries) < records)

    def _half_present(self, width: int) -> npt.NDArray[np.bool_]:
        chosen = np.zeros((width, self.world.canaries), bool)
        chosen[:, : self.world.canaries // 2] = True
        return np.asarray(self.coins.permuted(chosen, axis=1), bool)
