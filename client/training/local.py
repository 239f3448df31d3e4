"""Local training of a round. Owns the way from received weights and devices' examples to their updates.

A node builds one ``LocalTrainer`` per round:

    trainer.train(start, examples) -> NoisedUpdate                      one device, by Opacus
    trainer.updates(start, loads)  -> Iterator[NoisedUpdate | Exception]  RECORD_LOCAL, NON_PRIVATE
    trainer.deltas(start, loads)   -> Iterator[ModelDelta | Exception]    USER_DISTRIBUTED, LAYERED

``loads`` is an ``Iterable[Examples | Exception]``, one entry per device, read lazily and in order; one result comes
back per entry, in the same order. An entry that is an exception (the caller could not load that device) comes back as
it is, and examples that are not what the specification declares come back as the named error, so nobody else's work
is lost. A delta is private: only ``clip_update`` accepts it. Under LAYERED it holds its record-level noise already.

Many devices are trained as one vectorised cohort (``client.training.cohort``) in at most ``memory_bytes_max`` of
working memory; Opacus trains a single device and every family the cohort does not cover. Nothing outlives a call but
the network and its hooks, and after an error the engine is thrown away, so no device's gradients can meet another's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import nn

from client.training.cohort import Cohort, Learnt
from client.training.datasets import Records, check_labelled, lay_out
from client.training.layout import Layout
from client.training.packing import Load, joined, shuffled, stride_of
from client.training.plain_sgd import PlainSgd
from common.errors import PolicyError, ReticentError
from common.model.arrays import Vector
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.model.network import build_network, choose_device, read_vector, write_vector
from common.privacy.noise import noised_by_dp_sgd, unprotected
from common.privacy.parameters import LocalSgdParameters, RecordDpParameters
from common.privacy.randomness import NoiseSource
from common.privacy.updates import ModelDelta, NoisedUpdate
from common.taxonomy import Profile
from common.wire.messages import ModelSpec

MEMORY_BYTES_MAX = 256 * 1024 * 1024
# What stays in a processor's cache; an accelerator wants as many devices as there is memory for.
CACHE_BYTES = 4 * 1024 * 1024
WITH_LOCAL_NOISE = frozenset({Profile.RECORD_LOCAL, Profile.LAYERED})


class Engine(Protocol):
    """Takes steps on its network and counts the noise it drew."""

    network: nn.Module

    @property
    def noised_steps(self) -> int:
        """How many times noise was drawn so far."""

    def step(self, records: Records) -> None:
        """Take one step."""


@dataclass(kw_only=True)
class LocalTrainer:
    """Trains virtual devices under one model, one set of public parameters, one profile.

    Attributes:
        model: which network.
        spec: the features it consumes.
        parameters: public constants of the local training; without noise of its own only where the profile adds none.
        profile: what protects the update.
        rng: where noise and samples come from.
        device: torch device; chosen when absent.
        simulation: True allows what must never run on a real device: no protection, no noise, or seeded noise.
        memory_bytes_max: bound on the working memory of devices trained together; no effect on the result.

    Raises:
        PolicyError: on construction, if the combination protects nobody and this is no simulation, or if the profile
            promises local noise and the parameters have none.
        SpecMismatch: on construction, if the model was made for another feature specification.
    """

    model: ModelSpec
    spec: FeatureSpec
    parameters: RecordDpParameters | LocalSgdParameters
    profile: Profile
    rng: NoiseSource
    device: torch.device = field(default_factory=choose_device)
    simulation: bool = False
    memory_bytes_max: int = MEMORY_BYTES_MAX
    _engine: Engine | None = field(init=False, default=None, repr=False)
    _cohort: Cohort | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what protects nobody, then build what trains many devices; what trains one is built when needed."""
        if self.profile is not Profile.USER_DISTRIBUTED and not isinstance(self.parameters, RecordDpParameters):
            raise PolicyError(f"{self.profile.value} needs the parameters of record-level training")
        if not self.simulation:
            self._refuse_unprotected()
        network = build_network(self.model, self.spec).to(self.device)
        if Layout.of(network) is not None:
            self._cohort = Cohort(
                network,
                self.parameters,
                self.rng,
                spec=self.spec,
                views=2 if self.model.contextual_weight else 1,
                private=self.profile in WITH_LOCAL_NOISE,
                walks=self.profile is Profile.USER_DISTRIBUTED,
                memory_bytes_max=self.memory_bytes_max,
            )

    def train(self, start: Vector, examples: Examples) -> NoisedUpdate:
        """One device's training of one round, by Opacus.

        Args:
            start: the received weights, float64 ``[d]`` (``arrays.flatten``).
            examples: the device's labelled examples; none gives pure noise, so taking part reveals nothing.

        Returns:
            The update, float64 ``[d]``, with the mechanism that protects it.

        Raises:
            ContractError: weights or examples are not what model and specification declare.
            InvalidLabel: a label is missing or outside {0, 1}.
            PolicyError: the profile adds its noise after the training (see ``deltas``).

        Privacy:
            Spends ``parameters.release(profile)``: charge it before the result goes anywhere.
        """
        self._expect(Profile.RECORD_LOCAL, Profile.NON_PRIVATE)
        check_labelled(examples, self.spec)
        return self._update(self._alone(start, examples))

    def updates(self, start: Vector, loads: Iterable[Load]) -> Iterator[NoisedUpdate | Exception]:
        """Many devices' training of one round: what ``train`` gives each of them, from the same draws.

        Args:
            start: the received weights, float64 ``[d]``.
            loads: one entry per device: its examples, or why they could not be loaded. Read a window ahead.

        Returns:
            One result per entry, in order. An error comes back in its own place: the one that came in, or the
            ``ContractError`` or ``InvalidLabel`` that ``train`` would have raised; it drew no noise.

        Raises:
            ShapeMismatch: at the first result, if the weights are not those of the model.
            PolicyError: at once, if the profile adds its noise after the training (see ``deltas``).

        Privacy:
            Every device is clipped and noised on its own. Spends ``parameters.release(profile)`` per device.
        """
        self._expect(Profile.RECORD_LOCAL, Profile.NON_PRIVATE)
        return (one if isinstance(one, Exception) else self._update(one) for one in self._each(start, loads))

    def deltas(self, start: Vector, loads: Iterable[Load]) -> Iterator[ModelDelta | Exception]:
        """Many devices' training of one round, for profiles that protect the whole update afterwards.

        Args:
            start: the received weights, float64 ``[d]``.
            loads: as for ``updates``.

        Returns:
            One result per entry, in order, errors as for ``updates``.

        Raises:
            ShapeMismatch: at the first result, if the weights are not those of the model.
            PolicyError: at once, if the profile is none of USER_DISTRIBUTED and LAYERED.

        Privacy:
            USER_DISTRIBUTED protects nothing here: its steps walk through a device's records in an order of chance,
            which needs no accounting, since the whole update is clipped. LAYERED has spent
            ``parameters.release(RECORD_LOCAL)`` per device on its records. Either way the delta must be clipped,
            noised and masked before it leaves.
        """
        self._expect(Profile.USER_DISTRIBUTED, Profile.LAYERED)
        return (one if isinstance(one, Exception) else self._delta(one) for one in self._each(start, loads))

    def _each(self, start: Vector, loads: Iterable[Load]) -> Iterator[Learnt | Exception]:
        """Train one device by Opacus, several as cohorts."""
        entries = iter(loads)
        ahead = list(itertools.islice(entries, 2))
        if self._cohort is None or len(ahead) < 2:
            for load in itertools.chain(ahead, entries):
                yield load if isinstance(load, Exception) else self._alone_or_error(start, load)
            return
        plan = self._cohort.plan
        cache_bytes = CACHE_BYTES if self.device.type == "cpu" else None
        for window in plan.windows(itertools.chain(ahead, entries), cache_bytes):
            examples, found = joined(window, self.spec)
            counts = [one for one in found if isinstance(one, int)]
            learnt = self._cohort.learn(start, self._records(examples), counts)
            for one in found:
                yield one if isinstance(one, Exception) else next(learnt)

    def _alone_or_error(self, start: Vector, examples: Examples) -> Learnt | Exception:
        try:
            check_labelled(examples, self.spec)
        except ReticentError as error:
            return error
        return self._alone(start, examples)

    def _alone(self, start: Vector, examples: Examples) -> Learnt:
        """One device's checked examples, on a network whose weights are reset."""
        records = self._records(examples)
        engine, self._engine = self._engine or self._new_engine(), None
        write_vector(engine.network, start)
        received = read_vector(engine.network)
        noised_before = engine.noised_steps
        for sample in self._samples(records):
            engine.step(sample)
        vector = read_vector(engine.network) - received
        self._engine = engine
        return Learnt(vector, engine.noised_steps - noised_before)

    def _records(self, examples: Examples) -> Records:
        return lay_out(examples, self.spec, contextual_weight=self.model.contextual_weight, device=self.device)

    def _update(self, learnt: Learnt) -> NoisedUpdate:
        """What may leave as it is."""
        if not isinstance(self.parameters, RecordDpParameters):
            raise PolicyError("parameters without noise make no update that may leave as it is")
        delta = ModelDelta(learnt.vector)
        if self.profile is Profile.NON_PRIVATE:
            return unprotected(delta, self.parameters)
        return noised_by_dp_sgd(delta, self.parameters, noised_steps=learnt.noised_steps)

    def _delta(self, learnt: Learnt) -> ModelDelta:
        """What must be clipped yet; under LAYERED only if its own noise was drawn as declared."""
        return ModelDelta(self._update(learnt).vector if self.profile is Profile.LAYERED else learnt.vector)

    def _expect(self, *profiles: Profile) -> None:
        if self.profile not in profiles:
            raise PolicyError(f"{self.profile.value}: this way out is not the profile's")

    def _samples(self, records: Records) -> Iterator[Records]:
        """What each step takes: everything; a secret Poisson sample; or, without privacy to account, the next ones."""
        rate = self.parameters.sampling_rate if isinstance(self.parameters, RecordDpParameters) else 1.0
        steps = range(self.parameters.local_steps)
        if rate == 1:
            yield from (records for _ in steps)
        elif self.profile is not Profile.USER_DISTRIBUTED:
            yield from (records.select(self.rng.bernoulli(rate, len(records))) for _ in steps)
        else:
            order = shuffled(self.rng.uniform(len(records)))
            size = int(stride_of(np.array(len(records)), rate))
            for step in steps:
                yield records.take(order[(step * size + np.arange(size)) % max(len(order), 1)])

    def _new_engine(self) -> Engine:
        network = build_network(self.model, self.spec).to(self.device)
        if self.profile not in WITH_LOCAL_NOISE or not isinstance(self.parameters, RecordDpParameters):
            return PlainSgd(network, self.parameters)
        from client.training.dp_sgd import DpSgd  # opacus takes a second to import

        return DpSgd(network, self.parameters, self.rng)

    def _refuse_unprotected(self) -> None:
        """Outside simulations there is no training without real noise, here or afterwards."""
        if self.profile is Profile.NON_PRIVATE:
            raise PolicyError("the non-private profile is for simulations only")
        noiseless = isinstance(self.parameters, RecordDpParameters) and self.parameters.noise_multiplier == 0
        if self.profile in WITH_LOCAL_NOISE and noiseless:
            raise PolicyError("a noise multiplier of 0 protects nothing: simulations only")
        if self.rng.simulation:
            raise PolicyError("a seeded generator protects nothing: simulations only")
