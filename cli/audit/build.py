"""The parts of the code that an audit runs. Owns their list; a test double replaces one of them and must be caught."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from client.budget import Ledger
from client.training.local import LocalTrainer
from common.model.arrays import Vector
from common.model.examples import Examples
from common.privacy import accountant
from common.privacy.clipping import clip_update
from common.privacy.distributed import NoisedShare, decode_sum, noise_share
from common.privacy.parameters import CohortParameters, MechanismUse, UserDpParameters
from common.privacy.randomness import NoiseSource, SecureNoise, SimulationNoise
from common.privacy.updates import ClippedUpdate, ModelDelta, NoisedUpdate
from policies import budget
from policies.schema import PrivacyBudgetPolicy


def open_ledger(path: Path, policy: PrivacyBudgetPolicy) -> Ledger:
    """The device's ledger at ``path``, its clock stopped: the whole audit is one budget period."""
    return Ledger.open(path, policy, now=lambda: 1e9)


class Trainer(Protocol):
    """What an audit needs of ``LocalTrainer``."""

    def train(self, start: Vector, examples: Examples) -> NoisedUpdate:
        """One device."""

    def updates(self, start: Vector, loads: Iterable[Examples | Exception]) -> Iterator[NoisedUpdate | Exception]:
        """Many devices, protected on their own."""

    def deltas(self, start: Vector, loads: Iterable[Examples | Exception]) -> Iterator[ModelDelta | Exception]:
        """Many devices, protected by what comes after."""


class Share(Protocol):
    """What an audit needs of ``noise_share``."""

    def __call__(
        self,
        segments: Sequence[tuple[ClippedUpdate, UserDpParameters]],
        cohort: CohortParameters,
        roster_size: int,
        rng: NoiseSource,
    ) -> NoisedShare:
        """Quantise and add one device's share of the noise."""


@dataclass(frozen=True)
class Build:
    """One build of the mechanism: by default, ours.

    Attributes:
        trainer: makes the trainer of a round from ``LocalTrainer``'s arguments.
        clip: bounds a device's whole update.
        share: turns it into a noised integer vector.
        decode: turns their sum into floats again.
        epsilon: the accountant: ε of releases at δ.
        allows: the budget filter: (line, spent, planned) -> None or what is passed.
        ledger: opens a device's ledger: (path, policy) -> ledger.
        production: makes the generator of a real device.
    """

    trainer: Callable[..., Trainer] = LocalTrainer
    clip: Callable[[ModelDelta, float], ClippedUpdate] = clip_update
    share: Share = noise_share
    decode: Callable[[Any, Sequence[tuple[int, UserDpParameters]]], list[Vector]] = decode_sum
    epsilon: Callable[[Sequence[MechanismUse], float], float] = accountant.epsilon
    allows: Callable[..., object | None] = budget.allows
    ledger: Callable[[Path, PrivacyBudgetPolicy], Ledger] = open_ledger
    production: Callable[[], NoiseSource] = SecureNoise


OURS: Final = Build()


@dataclass(slots=True)
class Noise:
    """Generators for the runs of an audit: the production one, or (with a seed) a repeatable one for each run.

    Attributes:
        build: whose production generator is meant.
        seed: None for production.
        path: what the runs are for; runs of different paths draw unrelated noise.
    """

    build: Build
    seed: int | None
    path: str
    _made: int = 0

    @property
    def simulation(self) -> bool:
        """Whether trainers must be told that this is no real device."""
        return self.seed is not None

    def fresh(self) -> NoiseSource:
        """A generator as a node gets one for a round."""
        if self.seed is None:
            return self.build.production()
        self._made += 1
        return SimulationNoise(self.seed, "audit", self.path, self._made)
