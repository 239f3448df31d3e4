"""Local training of a round. Owns the way from received weights and a device's examples to a noised update.

A node builds one ``LocalTrainer`` per round and calls it once per device: network and hooks are reused, weights are
reset. Nothing else outlives a call, and after an error the engine is thrown away, so no device's gradients can meet
another's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from client.training.datasets import Records, to_records
from client.training.plain_sgd import PlainSgd
from common.errors import PolicyError
from common.model.arrays import Vector
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.model.network import build_network, choose_device, read_vector, write_vector
from common.privacy.noise import noised_by_dp_sgd, unprotected
from common.privacy.parameters import RecordDpParameters
from common.privacy.randomness import NoiseSource
from common.privacy.updates import ModelDelta, NoisedUpdate
from common.taxonomy import Profile
from common.wire.messages import ModelSpec


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
    """Trains virtual devices one after the other under one model, one set of public parameters, one profile.

    Attributes:
        model: which network.
        spec: the features it consumes.
        parameters: public constants of the local training.
        profile: what protects the update.
        rng: where noise and samples come from.
        device: torch device; chosen when absent.
        simulation: True allows what must never run on a real device: no protection, no noise, or seeded noise.

    Raises:
        PolicyError: on construction, if the combination protects nobody and this is no simulation.
        SpecMismatch: on construction, if the model was made for another feature specification.
    """

    model: ModelSpec
    spec: FeatureSpec
    parameters: RecordDpParameters
    profile: Profile
    rng: NoiseSource
    device: torch.device = field(default_factory=choose_device)
    simulation: bool = False
    _engine: Engine | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what protects nobody, then build the network once."""
        if not self.simulation:
            self._refuse_unprotected()
        self._engine = self._new_engine()

    def train(self, start: Vector, examples: Examples) -> NoisedUpdate:
        """One device's training of one round.

        Args:
            start: the received weights, float64 ``[d]`` (``arrays.flatten``).
            examples: the device's labelled examples; none gives pure noise, so taking part reveals nothing.

        Returns:
            The update, float64 ``[d]``, with the mechanism that protects it.

        Raises:
            ContractError: weights or examples are not what model and specification declare.
            InvalidLabel: a label is missing or outside {0, 1}.

        Privacy:
            Spends ``parameters.release(profile)``: charge it before the result goes anywhere.
        """
        weight = self.model.contextual_weight
        records = to_records(examples, self.spec, contextual_weight=weight, device=self.device)
        engine, self._engine = self._engine or self._new_engine(), None
        write_vector(engine.network, start)
        received = read_vector(engine.network)
        noised_before = engine.noised_steps
        for _ in range(self.parameters.local_steps):
            engine.step(self._sample(records))
        delta = ModelDelta(read_vector(engine.network) - received)
        self._engine = engine
        if self.profile is Profile.NON_PRIVATE:
            return unprotected(delta, self.parameters)
        return noised_by_dp_sgd(delta, self.parameters, noised_steps=engine.noised_steps - noised_before)

    def _sample(self, records: Records) -> Records:
        """A secret Poisson sample of the records; all of them, and no claim, when the rate is 1."""
        rate = self.parameters.sampling_rate
        return records if rate == 1 else records.select(self.rng.bernoulli(rate, len(records)))

    def _new_engine(self) -> Engine:
        network = build_network(self.model, self.spec).to(self.device)
        if self.profile is Profile.NON_PRIVATE:
            return PlainSgd(network, self.parameters)
        from client.training.dp_sgd import DpSgd  # opacus takes a second to import

        return DpSgd(network, self.parameters, self.rng)

    def _refuse_unprotected(self) -> None:
        """Outside simulations there is no training without real noise."""
        if self.profile is Profile.NON_PRIVATE:
            raise PolicyError("the non-private profile is for simulations only")
        if self.parameters.noise_multiplier == 0:
            raise PolicyError("a noise multiplier of 0 protects nothing: simulations only")
        if self.rng.simulation:
            raise PolicyError("a seeded generator protects nothing: simulations only")
