"""The clipped sum of gradients equals a loop over single examples, for every shape, view weight and piece size."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from client.training.datasets import Records, to_records
from client.training.dp_sgd import DpSgd
from common.model.network import build_network, sorted_parameters, write_vector
from common.privacy.randomness import SimulationNoise
from common.taxonomy import ModelFamily
from tests.training.worlds import make_examples, make_model, make_parameters, make_spec, start_vector

CPU = torch.device("cpu")


def clipped_gradient(network: nn.Module, records: Records, row: int, clipping_norm: float) -> torch.Tensor:
    """One record by plain autograd: its views one after the other, neither batch nor middle dimension, no hooks."""
    loss = torch.zeros((), dtype=records.labels.dtype)
    for view, weight in enumerate(records.view_weights):
        logit = network(records.categorical[row, view], records.numeric[row, view])
        loss = loss + weight * binary_cross_entropy_with_logits(logit, records.labels[row])
    flat = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, sorted_parameters(network))])
    return flat * min(1.0, clipping_norm / (float(flat.norm()) + 1e-6))


def reference_sum(network: nn.Module, records: Records, clipping_norm: float) -> torch.Tensor:
    length = sum(weight.numel() for weight in network.parameters())
    total = torch.zeros(length, dtype=torch.float64)
    for row in range(len(records)):
        total += clipped_gradient(network, records, row, clipping_norm)
    return total


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12))


@dataclass(frozen=True)
class Case:
    family: ModelFamily
    fields: int
    buckets: int
    numbers: int
    records: int
    weight: float
    scale: float
    clipping_norm: float
    piece: int
    duplicates: bool
    seed: int


cases = st.builds(
    Case,
    family=st.sampled_from(ModelFamily),
    fields=st.integers(0, 4),
    buckets=st.integers(2, 5),
    numbers=st.integers(0, 5),
    records=st.integers(0, 11),
    weight=st.sampled_from([0.0, 0.3, 0.75]),
    scale=st.sampled_from([1.0, 0.2]),
    clipping_norm=st.sampled_from([0.01, 0.3, 100.0]),
    piece=st.sampled_from([1, 3, 5, 512]),
    duplicates=st.booleans(),
    seed=st.integers(0, 10_000),
)


@settings(max_examples=200)
@example(Case(ModelFamily.WIDE_DEEP, 3, 4, 5, 0, 0.3, 1.0, 0.3, 512, False, 1))
@given(case=cases)
def test_clipped_sum_equals_the_loop_over_single_examples(case: Case) -> None:
    spec = make_spec(fields=case.fields, buckets=case.buckets, numbers=case.numbers)
    model = make_model(spec, case.family, contextual_weight=case.weight, wide_scale=case.scale)
    examples = make_examples(spec, case.records, case.seed)
    batch = to_records(examples, spec, contextual_weight=case.weight, device=CPU, dtype=torch.float64)
    if case.duplicates and case.fields:
        # The same row several times in one record: where Opacus's EmbeddingBag goes wrong.
        batch = Records(batch.categorical % 2, batch.numeric, batch.labels, batch.view_weights)
    network = build_network(model, spec).double()
    write_vector(network, start_vector(model, spec, case.seed))
    expected = reference_sum(network, batch, case.clipping_norm)

    parameters = make_parameters(clipping_norm=case.clipping_norm, physical_batch_size=case.piece)
    engine = DpSgd(network, parameters, SimulationNoise(case.seed))
    engine.step(batch)
    assert relative_error(engine.clipped_sum(), expected) < 1e-6
    assert engine.noised_steps == 1


def test_the_property_can_fail() -> None:
    """Clipping the two views of a record apart is the error the property hunts: it must show."""
    spec = make_spec()
    batch = to_records(make_examples(spec, 9), spec, contextual_weight=0.5, device=CPU, dtype=torch.float64)
    network = build_network(make_model(spec), spec).double()
    expected = reference_sum(network, batch, 0.3)
    apart = torch.zeros_like(expected)
    for view in (0, 1):
        ids, numbers = batch.categorical[:, view : view + 1], batch.numeric[:, view : view + 1]
        apart += reference_sum(network, Records(ids, numbers, batch.labels, batch.view_weights[:1]), 0.3)
    assert relative_error(apart, expected) > 0.1


@pytest.mark.parametrize("family", ModelFamily)
def test_an_outsized_canary_moves_the_sum_by_at_most_c(family: ModelFamily) -> None:
    """A record with a gradient thousands of times C, in float32; without clipping it moves the sum by far more."""
    spec = make_spec()
    clipping_norm = 0.5
    model = make_model(spec, family)
    crowd = to_records(make_examples(spec, 20), spec, contextual_weight=0.3, device=CPU)
    numbers = torch.full_like(crowd.numeric[:1], 1e4)

    def network_at_start() -> nn.Module:
        network = build_network(model, spec)
        write_vector(network, start_vector(model, spec, 3))
        return network

    surely = network_at_start()(crowd.categorical[:1], numbers)[:, 0] > 0
    both = Records(  # the canary's label is the one that the network is surest against
        torch.cat([crowd.categorical, crowd.categorical[:1]]),
        torch.cat([crowd.numeric, numbers]),
        torch.cat([crowd.labels, 1 - surely.float()]),
        crowd.view_weights,
    )

    def clipped_sum(records: Records, bound: float) -> np.ndarray:
        network = network_at_start()
        engine = DpSgd(network, make_parameters(clipping_norm=bound), SimulationNoise(1))
        engine.step(records)
        return engine.clipped_sum().double().numpy()

    moved = np.linalg.norm(clipped_sum(both, clipping_norm) - clipped_sum(crowd, clipping_norm))
    assert 0.99 * clipping_norm < moved <= clipping_norm * (1 + 1e-5)  # the crowd's own sum is rounded too
    unclipped = np.linalg.norm(clipped_sum(both, 1e9) - clipped_sum(crowd, 1e9))
    assert unclipped > 1000 * clipping_norm


def test_a_single_record_never_exceeds_c_in_float32() -> None:
    """Rounding included: the norm of the sum of one clipped record, taken in float64, for lengths and scales."""
    worst = 0.0
    for numbers, scale in [(3, 1.0), (3, 1e4), (60, 1e2), (4000, 1.0), (4000, 1e4)]:
        spec = make_spec(fields=2, numbers=numbers)
        model = make_model(spec, ModelFamily.WIDE_DEEP, contextual_weight=0.0)
        network = build_network(model, spec)
        write_vector(network, start_vector(model, spec, 5))
        engine = DpSgd(network, make_parameters(clipping_norm=0.1, learning_rate=1e-9), SimulationNoise(2))
        for seed in range(12):
            one = to_records(make_examples(spec, 1, seed), spec, contextual_weight=0.0, device=CPU)
            engine.step(Records(one.categorical, one.numeric * scale, one.labels, one.view_weights))
            worst = max(worst, float(engine.clipped_sum().double().norm()))
    assert 0.0999 < worst <= 0.1
