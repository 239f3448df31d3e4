"""One cohort, and the same devices one after the other."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from client.training.cohort import Cohort, Learnt
from client.training.datasets import Records, to_records
from client.training.dp_sgd import DpSgd
from client.training.local import MEMORY_BYTES_MAX
from client.training.plain_sgd import PlainSgd
from common.model.feature_spec import FeatureSpec
from common.model.network import build_network, read_vector, write_vector
from common.privacy.parameters import RecordDpParameters
from common.privacy.randomness import NoiseSource, SimulationNoise
from common.taxonomy import ModelFamily
from common.wire.messages import ModelSpec
from tests.training.worlds import make_examples, make_model, make_parameters, make_spec, start_vector

CPU = torch.device("cpu")
Inner = Callable[..., torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Case:
    family: ModelFamily = ModelFamily.WIDE_DEEP
    fields: int = 3
    numbers: int = 5
    sizes: tuple[int, ...] = (5, 0, 17, 1, 9)
    weight: float = 0.3
    rate: float = 1.0
    steps: int = 1
    clipping_norm: float = 0.3
    piece: int = 512
    memory_bytes_max: int = MEMORY_BYTES_MAX
    private: bool = True
    duplicates: bool = False
    hidden: int = 6
    seed: int = 0

    @property
    def spec(self) -> FeatureSpec:
        return make_spec(fields=self.fields, buckets=4, numbers=self.numbers)

    @property
    def model(self) -> ModelSpec:
        return make_model(
            self.spec, self.family, contextual_weight=self.weight, wide_scale=0.7, hidden_width=self.hidden
        )

    @property
    def parameters(self) -> RecordDpParameters:
        return make_parameters(
            sampling_rate=self.rate,
            local_steps=self.steps,
            physical_batch_size=self.piece,
            clipping_norm=self.clipping_norm,
        )

    @property
    def start(self) -> np.ndarray:
        return start_vector(self.model, self.spec, self.seed)

    def records(self, size: int, seed: int) -> Records:
        examples = make_examples(self.spec, size, seed)
        records = to_records(examples, self.spec, contextual_weight=self.weight, device=CPU, dtype=torch.float64)
        if self.duplicates and self.fields:  # the same row several times in one record, in several fields and views
            return dataclasses.replace(records, categorical=records.categorical % 2)
        return records

    def devices(self) -> list[Records]:
        return [self.records(size, self.seed + number) for number, size in enumerate(self.sizes)]


def behind_each_other(devices: list[Records]) -> Records:
    return Records(
        torch.cat([one.categorical for one in devices]),
        torch.cat([one.numeric for one in devices]),
        torch.cat([one.labels for one in devices]),
        devices[0].view_weights,
    )


def one_after_the_other(case: Case, rng: NoiseSource) -> list[np.ndarray]:
    """The oracle: Opacus (or torch's own SGD) on one network that is reset for each device."""
    network = build_network(case.model, case.spec).double()
    engine = DpSgd(network, case.parameters, rng) if case.private else PlainSgd(network, case.parameters)
    updates = []
    for records in case.devices():
        write_vector(network, case.start)
        for _ in range(case.steps):
            chosen = records if case.rate == 1 else records.select(rng.bernoulli(case.rate, len(records)))
            engine.step(chosen)
        updates.append(read_vector(network) - case.start)
    return updates


def cohort_of(case: Case, rng: NoiseSource) -> Cohort:
    return Cohort(
        build_network(case.model, case.spec).double(),
        case.parameters,
        rng,
        spec=case.spec,
        views=2 if case.weight else 1,
        private=case.private,
        memory_bytes_max=case.memory_bytes_max,
    )


def together(case: Case, rng: NoiseSource) -> list[Learnt]:
    devices = case.devices()
    return list(cohort_of(case, rng).learn(case.start, behind_each_other(devices), case.sizes))


def check_equal(case: Case) -> None:
    expected = one_after_the_other(case, SimulationNoise(case.seed))
    found = together(case, SimulationNoise(case.seed))
    assert [one.noised_steps for one in found] == [case.steps * case.private] * len(case.sizes)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.vector, other, rtol=0, atol=1e-9)
