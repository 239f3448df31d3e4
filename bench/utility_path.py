"""One training of the utility bench: the product's own functions in the product's order, in one process.

``LocalTrainer`` ▸ ``clip_update`` ▸ ``noise_share`` ▸ sum of integers ▸ ``decode_sum`` ▸ the server's step ▸ the paid
calibration. Masking is left out and changes nothing: secure aggregation gives the sum of the same integers bit for bit
(tests/secagg). Everybody takes part in every round and nobody drops out, so the noise in a sum exceeds its target by
what the shares are inflated for the dropout and the corruption that the policy allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from bench.utility_data import Rows
from cli.evaluation import Quality, evaluate
from client.training.contribution import contribution
from client.training.local import LocalTrainer
from common.errors import SumOutOfRange
from common.model import arrays
from common.model.arrays import Vector
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.model.measurement import calibration_vector
from common.model.network import initial_arrays, load_network, probabilities
from common.privacy.clipping import clip_update
from common.privacy.distributed import decode_sum, noise_share, sum_limit
from common.privacy.randomness import NoiseSource, SecureNoise
from common.privacy.updates import GRID, ModelDelta
from common.taxonomy import Profile, Task
from policies.releases import segments_of
from policies.schema import PrivacyBudgetPolicy
from server.rounds.optimiser import OptimiserState, step
from server.rounds.paid import calibrated
from server.rounds.plan import SECURE
from server.rounds.release_rounds import Outcome
from server.rounds.training_config import TrainingConfig

Result = TypeVar("Result")
Measured = dict[str, dict[str, Quality]]


@dataclass(frozen=True, slots=True)
class Path:
    """A training that can be run on any seed's rows.

    Attributes:
        policy: with the noise of this training, in its releases or in its local training; 0 for none.
        calibrate: whether the profile has a paid calibration.
    """

    profile: Profile
    policy: PrivacyBudgetPolicy
    config: TrainingConfig
    spec: FeatureSpec
    calibrate: bool

    def run(self, rows: Rows, rng: NoiseSource | None = None) -> tuple[Measured, Measured]:
        """Train, measure, calibrate, measure again: quality by held-out part and view, before and after.

        Raises:
            SumOutOfRange: a sum left the range that the modulus was sized for.
        """
        rng = rng or SecureNoise()
        found = self.weights(rows.train, rng)
        before = self._measure(found, rows)
        if not self.calibrate:
            return before, {}
        return before, self._measure(self.refit(found, rows.train, rng), rows)

    def weights(self, devices: Sequence[Examples], rng: NoiseSource) -> arrays.Arrays:
        """Train.

        Raises:
            SumOutOfRange: a sum left the range that the modulus was sized for.
        """
        template = initial_arrays(self.config.model(self.spec), self.spec)
        weights = arrays.flatten(template)
        state, rounds = OptimiserState.start(len(weights)), self.config.num_server_rounds
        trainer = self._trainer(rng)
        for number in range(1, rounds + 1):
            mean = self._mean_update(trainer, weights, devices, rng)
            weights, state = step(
                self.config.optimiser(), weights, mean, state, round_number=number, rounds_total=rounds
            )
            weights = arrays.flatten(arrays.unflatten(weights, template))
        return arrays.unflatten(weights, template)

    def refit(self, found: arrays.Arrays, devices: Sequence[Examples], rng: NoiseSource) -> arrays.Arrays:
        """The paid calibration of a trained model."""
        outcome = self._calibration(found, devices, rng)
        return calibrated(found, self.config.model(self.spec), self.spec, outcome)[0]

    def _trainer(self, rng: NoiseSource) -> LocalTrainer:
        plain = self.profile is Profile.USER_DISTRIBUTED
        return LocalTrainer(
            model=self.config.model(self.spec),
            spec=self.spec,
            parameters=self.policy.user_training if plain else self.policy.training,
            profile=self.profile,
            rng=rng,
            simulation=True,
        )

    def _mean_update(
        self, trainer: LocalTrainer, weights: Vector, devices: Sequence[Examples], rng: NoiseSource
    ) -> Vector:
        if self.profile in SECURE:
            deltas = (_whole(delta) for delta in trainer.deltas(weights, devices))
            return self._released(Task.TRAIN, len(weights), deltas, len(devices), rng)[0] / len(devices)
        total = np.zeros(len(weights), np.int64)
        for update in trainer.updates(weights, devices):
            total += contribution(_whole(update)).vector
        return np.asarray(total * GRID / len(devices))

    def _released(
        self, task: Task, length: int, deltas: Iterator[ModelDelta], roster: int, rng: NoiseSource
    ) -> list[Vector]:
        """What the server reads of a secure aggregation over all devices."""
        segments, cohort = segments_of(self.policy, task, length), self.policy.cohort
        (segment,) = segments
        total = np.zeros(segment.length, np.int64)
        for delta in deltas:
            clipped = clip_update(delta, segment.parameters.clipping_norm)
            total += noise_share([(clipped, segment.parameters)], cohort, roster, rng).vector
        if int(np.abs(total).max()) > sum_limit([segment.parameters], cohort, roster):
            raise SumOutOfRange("a sum left the range of its modulus")
        return decode_sum(total, [(segment.length, segment.parameters)])

    def _calibration(self, found: arrays.Arrays, devices: Sequence[Examples], rng: NoiseSource) -> Outcome:
        release = self.policy.releases.calibration
        assert release is not None  # noqa: S101 - the shipped document has one
        vectors = self._calibration_vectors(found, devices)
        sums = self._released(Task.CALIBRATE, 1, vectors, len(devices), rng)
        return Outcome(
            contributions=len(devices),
            roster=len(devices),
            sums=tuple(sums),
            noise_stddevs=(release.noise_stddev,),
            nodes=1,
            invited=1,
        )

    def _calibration_vectors(self, found: arrays.Arrays, devices: Sequence[Examples]) -> Iterator[ModelDelta]:
        model = self.config.model(self.spec)
        network = load_network(found, model, self.spec)
        rows = Examples.concatenate(list(devices), self.spec)
        ends = np.cumsum([len(one) for one in devices])[:-1]
        personal = np.split(probabilities(network, rows.categorical, rows.numeric), ends)
        contextual = np.split(probabilities(network, *self.spec.contextual(rows.categorical, rows.numeric)), ends)
        for one, p, c in zip(devices, personal, contextual, strict=True):
            yield ModelDelta(calibration_vector(p, one.labels, base_rate=model.base_rate, contextual=c))

    def _measure(self, found: arrays.Arrays, rows: Rows) -> Measured:
        model = self.config.model(self.spec)
        parts = {"later": rows.later, "unseen": rows.unseen}
        return {part: evaluate(found, model, self.spec, held) for part, held in parts.items() if len(held)}


def _whole(result: Result | Exception) -> Result:
    if isinstance(result, Exception):
        raise result
    return result
