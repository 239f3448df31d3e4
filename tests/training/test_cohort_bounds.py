"""What a cohort never exceeds: C by a record, the setting by its memory."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from client.training.cohort import Cohort
from client.training.datasets import Records, to_records
from client.training.local import MEMORY_BYTES_MAX
from common.errors import ShapeMismatch
from common.model.network import build_network
from common.privacy.randomness import SimulationNoise
from common.taxonomy import ModelFamily
from tests.training.cohorts import CPU, Case, behind_each_other, cohort_of
from tests.training.worlds import make_examples, make_model, make_parameters, make_spec, start_vector

# ── the clip ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("family", ModelFamily)
def test_an_outsized_record_moves_its_device_by_at_most_c_and_no_other(family: ModelFamily) -> None:
    """float32, gradients thousands of times C: the norm of a clipped record is at most C, rounding included."""
    clipping_norm = 0.5
    spec = make_spec(fields=2, numbers=60)
    model = make_model(spec, family)
    parameters = make_parameters(
        clipping_norm=clipping_norm, noise_multiplier=0.0, learning_rate=1.0, expected_batch_size=1.0
    )
    start = start_vector(model, spec, 3)
    one = to_records(make_examples(spec, 8), spec, contextual_weight=0.3, device=CPU)
    outsized = dataclasses.replace(one, numeric=one.numeric * 1e4)
    network = build_network(model, spec)
    cohort = Cohort(
        network, parameters, SimulationNoise(1), spec=spec, views=2, private=True, memory_bytes_max=MEMORY_BYTES_MAX
    )
    found = [learnt.vector for learnt in cohort.learn(start, behind_each_other([outsized, one]), [1] * 16)]
    norms = np.array([np.linalg.norm(vector) for vector in found])
    surely_wrong = norms[:8] > 0.4  # a saturated, right prediction has no gradient to clip
    assert surely_wrong.any()
    assert (norms[:8][surely_wrong] > 0.9999 * clipping_norm).all()
    assert (norms <= clipping_norm).all()
    alone = cohort.learn(start, one, [1] * 8)
    assert all(np.allclose(found[8 + i], learnt.vector, atol=1e-6) for i, learnt in enumerate(alone))


def test_views_that_nearly_cancel_cannot_hide_a_norm() -> None:
    """Weight 1/2 and equal views: one gradient twice. Rounding of the three terms must not shorten the norm."""
    spec = make_spec(fields=0, numbers=4)
    model = make_model(spec, ModelFamily.WIDE_DEEP, contextual_weight=0.5)
    network = build_network(model, spec)
    parameters = make_parameters(clipping_norm=0.1, noise_multiplier=0.0, learning_rate=1.0, expected_batch_size=1.0)
    records = to_records(make_examples(spec, 50), spec, contextual_weight=0.5, device=CPU)
    flipped = dataclasses.replace(records, numeric=torch.stack([records.numeric[:, 0], -records.numeric[:, 0]], 1))
    cohort = Cohort(
        network, parameters, SimulationNoise(1), spec=spec, views=2, private=True, memory_bytes_max=MEMORY_BYTES_MAX
    )
    for learnt in cohort.learn(start_vector(model, spec, 5), flipped, [1] * 50):
        assert np.linalg.norm(learnt.vector) <= 0.1


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("family", ModelFamily)
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("fields", [0, 6])
@pytest.mark.parametrize("private", [True, False])
def test_working_memory_stays_below_the_setting(
    family: ModelFamily,
    steps: int,
    fields: int,
    private: bool,
) -> None:
    """Devices of 10 to 2,000 records: the tensors alive at any moment, records and weights included, fit."""
    bytes_max = 8 * 1024 * 1024
    case = Case(
        family=family,
        fields=fields,
        numbers=20,
        steps=steps,
        rate=0.7,
        sizes=(2000, *([10, 50, 200] * 20)),
        duplicates=True,
        memory_bytes_max=bytes_max,
        private=private,
    )
    cohort = cohort_of(case, SimulationNoise(1))
    devices = case.devices()
    examples = [make_examples(case.spec, size) for size in case.sizes]
    windows = list(cohort.plan.windows(examples, None))
    assert len(windows) > 1
    done = 0
    for window in windows:
        here = devices[done : done + len(window)]
        records = behind_each_other(here)
        sizes = case.sizes[done : done + len(here)]
        peak = peak_bytes(lambda records=records, sizes=sizes: list(cohort.learn(case.start, records, sizes)))
        assert peak + size_bytes(records) <= bytes_max
        done += len(window)
    assert done == len(devices)


def test_control_without_the_setting_more_memory_is_used() -> None:
    case = Case(fields=6, numbers=20, steps=3, sizes=(2000, *([10, 50, 200] * 20)), duplicates=True)
    records = behind_each_other(case.devices())
    cohort = cohort_of(case, SimulationNoise(1))
    assert peak_bytes(lambda: list(cohort.learn(case.start, records, case.sizes))) > 8 * 1024 * 1024


def size_bytes(records: Records) -> int:
    return sum(t.numel() * t.element_size() for t in (records.categorical, records.numeric, records.labels))


def peak_bytes(run: Callable[[], object]) -> int:
    """Most bytes of tensors alive at once, by torch's own record of allocations."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    alive = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak


def test_a_piece_has_at_least_one_record() -> None:
    plan = cohort_of(Case(memory_bytes_max=1), SimulationNoise(1)).plan
    assert plan.width(1000, 512) == 1
    assert cohort_of(Case(), SimulationNoise(1)).plan.width(1, 512) == 512


def test_weights_of_another_length_are_refused() -> None:
    case = Case()
    with pytest.raises(ShapeMismatch):
        next(cohort_of(case, SimulationNoise(1)).learn(case.start[:-1], behind_each_other(case.devices()), case.sizes))


def test_a_family_without_closed_form_is_refused() -> None:
    with pytest.raises(ShapeMismatch, match="closed form"):
        Cohort(
            torch.nn.Linear(2, 1),
            make_parameters(),
            SimulationNoise(1),
            spec=make_spec(),
            views=1,
            private=True,
            memory_bytes_max=1,
        )
