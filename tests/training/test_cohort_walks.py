"""Plain SGD through shuffled records, all steps gathered at once or not, equals torch device by device in float64."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from client.training.cohort import Cohort
from client.training.ghost import Batch
from client.training.packing import Walk, shuffled, stride_of
from client.training.plain_sgd import PlainSgd
from common.model.network import build_network, read_vector, write_vector
from common.privacy.randomness import SimulationNoise
from common.taxonomy import ModelFamily
from tests.training.cohorts import Case, behind_each_other

EQUAL = Case(private=False, sizes=(6,) * 5, rate=0.5, steps=2)


def one_after_the_other(case: Case) -> list[np.ndarray]:
    """The oracle: torch's own SGD on one network that is reset for each device."""
    network, rng = build_network(case.model, case.spec).double(), SimulationNoise(case.seed)
    engine, found = PlainSgd(network, case.parameters), []
    for records in case.devices():
        write_vector(network, case.start)
        order = shuffled(rng.uniform(len(records)))
        size = int(stride_of(np.array(len(records)), case.rate))
        for step in range(case.steps):
            engine.step(records.take(order[(step * size + np.arange(size)) % max(len(order), 1)]))
        found.append(read_vector(network) - case.start)
    return found


def together(case: Case) -> list[np.ndarray]:
    cohort = Cohort(
        build_network(case.model, case.spec).double(),
        case.parameters,
        SimulationNoise(case.seed),
        spec=case.spec,
        views=2 if case.weight else 1,
        private=False,
        memory_bytes_max=case.memory_bytes_max,
        walks=True,
    )
    return [one.vector for one in cohort.learn(case.start, behind_each_other(case.devices()), case.sizes)]


def check_equal(case: Case) -> None:
    for one, other in zip(together(case), one_after_the_other(case), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


cases = st.builds(
    Case,
    family=st.sampled_from(ModelFamily),
    fields=st.integers(0, 4),
    numbers=st.integers(0, 5),
    sizes=st.one_of(
        st.lists(st.integers(0, 12), min_size=1, max_size=5).map(tuple),
        st.tuples(st.integers(1, 12), st.integers(1, 5)).map(lambda pair: (pair[0],) * pair[1]),
    ),
    weight=st.sampled_from([0.0, 0.3]),
    rate=st.sampled_from([0.2, 0.4, 0.5]),
    steps=st.integers(1, 6),
    piece=st.sampled_from([1, 3, 512]),
    memory_bytes_max=st.sampled_from([1, 1 << 28]),
    private=st.just(False),
    duplicates=st.booleans(),
    hidden=st.sampled_from([6, 17]),
    seed=st.integers(0, 10_000),
)


@settings(max_examples=100)
@example(EQUAL)
@example(dataclasses.replace(EQUAL, duplicates=True, weight=0.0))
@example(dataclasses.replace(EQUAL, fields=0, numbers=0))
@example(dataclasses.replace(EQUAL, steps=3))  # records a second time
@given(case=cases)
def test_walks_equal_torch_device_by_device(case: Case) -> None:
    check_equal(case)


@pytest.mark.parametrize("gathered", [True, False])
def test_equal_devices_are_gathered_at_once(gathered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways are taken, and give the same."""
    real, taken = Walk.batches, []

    def batches(walk: Walk, steps: int, width: int) -> list[Batch] | None:
        taken.append(real(walk, steps, width))
        return taken[-1] if gathered else None

    monkeypatch.setattr(Walk, "batches", batches)
    check_equal(EQUAL)
    assert [len(one or ()) for one in taken] == [2]


def test_a_step_out_of_turn_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    real = Walk.batches
    monkeypatch.setattr(Walk, "batches", lambda *given: (real(*given) or [])[::-1])
    with pytest.raises(AssertionError):
        check_equal(EQUAL)
