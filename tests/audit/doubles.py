"""Builds that lie. Each is ours with one part replaced by a bug that has been seen in other people's code.

A double keeps the declared release: what it says about itself is what an honest build would say.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cli.audit.build import Build, open_ledger
from client.budget import Ledger
from client.store.ledger_table import SpendKey
from client.training.datasets import summed_loss, to_records
from client.training.local import LocalTrainer
from common.model.arrays import Vector
from common.model.examples import Examples
from common.model.network import build_network, read_vector, sorted_parameters, write_vector
from common.privacy import accountant
from common.privacy.parameters import MechanismUse, RecordDpParameters
from common.privacy.randomness import SimulationNoise
from common.privacy.updates import ModelDelta, NoisedUpdate
from common.taxonomy import Mechanism, Profile
from policies import budget
from policies.budget import OverBudget, PlannedRelease
from policies.schema import PrivacyBudgetPolicy


class TrainerDouble:
    """Trains with other parameters than the declared ones, and says the declared ones."""

    def __init__(self, *, parameters: RecordDpParameters, profile: Profile, **rest: object) -> None:
        self.declared, self.profile, self.rest = parameters, profile, rest
        self.refuse()

    def refuse(self) -> None:
        """Refuses on construction what ours refuses."""
        LocalTrainer(parameters=self.declared, profile=self.profile, **self.rest)  # type: ignore[arg-type]

    def real(self, examples: Examples) -> RecordDpParameters:
        """What is used instead."""
        return self.declared

    def inner(self, examples: Examples) -> LocalTrainer:
        rest = self.rest | {"simulation": True}  # the real trainer would refuse most of this
        return LocalTrainer(parameters=self.real(examples), profile=self.profile, **rest)

    def learnt(self, start: Vector, examples: Examples) -> Vector:
        return self.inner(examples).train(start, examples).vector

    def train(self, start: Vector, examples: Examples) -> NoisedUpdate:
        return NoisedUpdate(self.learnt(start, examples), self.declared.release(Profile.RECORD_LOCAL))

    def updates(self, start: Vector, loads: Iterable[Examples | Exception]) -> Iterator[NoisedUpdate]:
        return (self.train(start, load) for load in loads if isinstance(load, Examples))

    def deltas(self, start: Vector, loads: Iterable[Examples | Exception]) -> Iterator[ModelDelta]:
        return (ModelDelta(update.vector) for update in self.updates(start, loads))


class TogetherDouble(TrainerDouble):
    """The same where the cohort engine can be kept: other parameters, whatever the records are."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(**arguments)  # type: ignore[arg-type]
        self.kept = self.inner(Examples.empty(self.rest["spec"]))  # type: ignore[arg-type]

    def learnt(self, start: Vector, examples: Examples) -> Vector:
        return self.kept.train(start, examples).vector

    def updates(self, start: Vector, loads: Iterable[Examples | Exception]) -> Iterator[NoisedUpdate]:
        for result in self.kept.updates(start, loads):
            assert isinstance(result, NoisedUpdate)
            yield NoisedUpdate(result.vector, self.declared.release(Profile.RECORD_LOCAL))


class NoiseOff(TogetherDouble):
    def real(self, examples: Examples) -> RecordDpParameters:
        return self.declared.model_copy(update={"noise_multiplier": 0.0})


def noise_times(factor: float) -> type[TogetherDouble]:
    """A trainer with this part of the declared noise."""

    class Changed(TogetherDouble):
        def real(self, examples: Examples) -> RecordDpParameters:
            return self.declared.model_copy(update={"noise_multiplier": self.declared.noise_multiplier * factor})

    return Changed


HalfNoise = noise_times(0.5)


class ClipOff(TogetherDouble):
    """No clipping; the noise is that of the declared bound."""

    def real(self, examples: Examples) -> RecordDpParameters:
        free = 1e6
        z = self.declared.noise_stddev / free
        return self.declared.model_copy(update={"clipping_norm": free, "noise_multiplier": z})


class FreeSensitivity(TogetherDouble):
    """σ = z · sensitivity with a sensitivity of its own, here a fifth of the clip (FLIP ships a ten-thousandth)."""

    def real(self, examples: Examples) -> RecordDpParameters:
        return self.declared.model_copy(update={"noise_multiplier": self.declared.noise_multiplier / 5})


class NoSampling(TogetherDouble):
    """Declares a secret Poisson sample and uses every record."""

    def real(self, examples: Examples) -> RecordDpParameters:
        return self.declared.model_copy(update={"sampling_rate": 1.0})


class ClaimsSampling(TogetherDouble):
    """The policy declares no sampling; the release claims one."""

    def train(self, start: Vector, examples: Examples) -> NoisedUpdate:
        update = super().train(start, examples)
        changes = {"mechanism": Mechanism.POISSON_SUBSAMPLED_GAUSSIAN, "sampling_rate": 0.3}
        return NoisedUpdate(update.vector, update.release.model_copy(update=changes))


class PrivateNormaliser(TogetherDouble):
    """Divides by the device's own number of records, as ``make_private`` does."""

    def updates(self, start: Vector, loads: Iterable[Examples | Exception]) -> Iterator[NoisedUpdate]:
        given = [load for load in loads if isinstance(load, Examples)]
        for update, load in zip(super().updates(start, given), given, strict=True):
            factor = self.declared.expected_batch_size / max(1, len(load))
            yield NoisedUpdate(update.vector * factor, update.release)

    def train(self, start: Vector, examples: Examples) -> NoisedUpdate:
        return next(self.updates(start, [examples]))


class NoiseWhereTouched(TogetherDouble):
    """Saves the noise on weights that no record moved; their list is a browsing history."""

    def updates(self, start: Vector, loads: Iterable[Examples | Exception]) -> Iterator[NoisedUpdate]:
        given = [load for load in loads if isinstance(load, Examples)]
        quiet = self.declared.model_copy(update={"noise_multiplier": 0.0})
        rest = self.rest | {"simulation": True}
        plain = LocalTrainer(parameters=quiet, profile=self.profile, **rest).updates(start, given)  # type: ignore[arg-type]
        for update, moved in zip(super().updates(start, given), plain, strict=True):
            assert isinstance(moved, NoisedUpdate)
            yield NoisedUpdate(np.where(moved.vector != 0, update.vector, 0.0), update.release)

    def train(self, start: Vector, examples: Examples) -> NoisedUpdate:
        return next(self.updates(start, [examples]))


class SameNoiseEachRound(TogetherDouble):
    """Every round's generator starts from one key, so differences of rounds have no noise."""

    def inner(self, examples: Examples) -> LocalTrainer:
        self.rest["rng"] = SimulationNoise(7)
        return super().inner(examples)


class AcceptsSeeds(TogetherDouble):
    """Trains on a seeded generator as if it were a real device."""

    def refuse(self) -> None:
        pass


class ClipByLayer(TrainerDouble):
    """Every layer is clipped to C, so a record moves the whole by √layers · C."""

    def learnt(self, start: Vector, examples: Examples) -> Vector:
        model, spec = self.rest["model"], self.rest["spec"]
        network: nn.Module = build_network(model, spec)  # type: ignore[arg-type]
        write_vector(network, start)
        weights = sorted_parameters(network)
        total = [torch.zeros_like(weight) for weight in weights]
        weight = model.contextual_weight  # type: ignore[attr-defined]
        records = to_records(examples, spec, contextual_weight=weight, device=torch.device("cpu"))  # type: ignore[arg-type]
        for row in range(len(examples)):
            loss = summed_loss(network, records.select(np.arange(len(examples)) == row))
            for part, gradient in zip(total, torch.autograd.grad(loss, weights), strict=True):
                part.add_(gradient, alpha=min(1.0, self.declared.clipping_norm / (float(gradient.norm()) + 1e-6)))
        rng = self.rest["rng"]
        step = self.declared.learning_rate / self.declared.expected_batch_size
        flat = torch.cat([part.reshape(-1) for part in total]).double().numpy()
        noise = rng.gaussian(flat.size) * self.declared.noise_stddev  # type: ignore[attr-defined]
        return np.asarray(-step * (flat + noise), np.float64)


class StockOpacus(TrainerDouble):
    """``PrivacyEngine.make_private`` as its tutorial shows: rate, steps and normaliser follow the private count."""

    batch_size = 32

    def learnt(self, start: Vector, examples: Examples) -> Vector:
        from opacus import PrivacyEngine
        from torch.utils.data import DataLoader, TensorDataset

        model, spec = self.rest["model"], self.rest["spec"]
        network: nn.Module = build_network(model, spec)  # type: ignore[arg-type]
        write_vector(network, start)
        data = TensorDataset(
            torch.from_numpy(examples.categorical),
            torch.from_numpy(examples.numeric),
            torch.from_numpy(examples.labels),
        )
        private, optimizer, loader = PrivacyEngine().make_private(
            module=network.train(),
            optimizer=torch.optim.SGD(network.parameters(), lr=self.declared.learning_rate),
            data_loader=DataLoader(data, batch_size=self.batch_size),
            noise_multiplier=self.declared.noise_multiplier,
            max_grad_norm=self.declared.clipping_norm,
        )
        for ids, numbers, labels in loader:
            optimizer.zero_grad()
            logits = private(ids, numbers)
            nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
            optimizer.step()
        learnt = read_vector(network) - start
        private.remove_hooks()
        return np.asarray(learnt, np.float64)


# ── accounting ───────────────────────────────────────────────────────────────────────────────────────────────────────


def last_round_only(uses: Sequence[MechanismUse], delta: float) -> float:
    """An engine built anew each round reports the ε of one."""
    return accountant.epsilon(list(uses)[-1:], delta)


def ledger_of_this_process() -> Callable[[Path, PrivacyBudgetPolicy], Ledger]:
    """A ledger that begins again, anchor and all, each time it is opened."""
    numbers = itertools.count()

    def opened(path: Path, policy: PrivacyBudgetPolicy) -> Ledger:
        folder = path.parent / str(next(numbers))
        folder.mkdir()
        return open_ledger(folder / path.name, policy)

    return opened


class UncountedLedger(Ledger):
    """Caps and quotas hold; how many releases of a kind there were, nobody looks at."""

    def _verdict(
        self, key: SpendKey, planned: Sequence[PlannedRelease], policy: PrivacyBudgetPolicy | None = None
    ) -> OverBudget | None:
        return budget.over(policy or self._policy, self._uses.spent(key), planned, made={})


def uncounted_ledger(path: Path, policy: PrivacyBudgetPolicy) -> Ledger:
    return UncountedLedger.open(path, policy, now=lambda: 1e9)


HONEST = Build()
FORGETFUL = replace(HONEST, epsilon=last_round_only)
FORGETFUL_FILTER = replace(HONEST, allows=lambda line, _spent, planned: budget.allows(line, [], planned))
