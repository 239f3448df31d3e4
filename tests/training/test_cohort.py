"""A cohort gives each device the update that training it alone gives: same coins, same noise, same clip, float64."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from client.training import ghost
from client.training.cohort import NOISE_PIECE, Cohort
from client.training.local import MEMORY_BYTES_MAX
from client.training.packing import Pack, Walk
from common.errors import PolicyError
from common.model.network import build_network
from common.privacy.gaussians import Floats
from common.privacy.randomness import SimulationNoise
from common.taxonomy import ModelFamily
from tests.training.cohorts import Case, Inner, behind_each_other, check_equal, cohort_of, together
from tests.training.worlds import make_parameters

cases = st.builds(
    Case,
    family=st.sampled_from(ModelFamily),
    fields=st.integers(0, 4),
    numbers=st.integers(0, 5),
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5).map(tuple),
    weight=st.sampled_from([0.0, 0.3, 0.75]),
    rate=st.sampled_from([1.0, 0.4]),
    steps=st.integers(1, 3),
    clipping_norm=st.sampled_from([0.01, 0.3, 100.0]),
    piece=st.sampled_from([1, 3, 512]),
    memory_bytes_max=st.sampled_from([1, MEMORY_BYTES_MAX]),
    private=st.booleans(),
    duplicates=st.booleans(),
    hidden=st.sampled_from([6, 17]),
    seed=st.integers(0, 10_000),
)


@settings(max_examples=150)
@example(Case())
@example(Case(sizes=(0, 0)))
@example(Case(rate=0.01, steps=2))  # most samples are empty
@example(Case(duplicates=True, steps=3, rate=0.5, piece=2))
@example(Case(family=ModelFamily.LOGISTIC, duplicates=True, weight=0.0))
@example(Case(private=False, steps=3, rate=0.5))
@example(Case(private=False, steps=3, rate=0.5, hidden=18))  # columns that stand for no unit
@example(Case(sizes=(40,), steps=2, memory_bytes_max=1, piece=7))
@given(case=cases)
def test_a_cohort_equals_opacus_and_torch_device_by_device(case: Case) -> None:
    check_equal(case)


def _no_cross_views(inner: Inner) -> Inner:
    return lambda *a: inner(*a) * (a[-1][0] == a[-1][1])


def _same_field_only(batch: ghost.Batch, views: tuple[int, int]) -> torch.Tensor:
    first, second = (batch.categorical[:, :, view] for view in views)
    return torch.diag_embed((first == second).to(batch.labels.dtype))


def _nothing_shared(batch: ghost.Batch, views: tuple[int, int]) -> torch.Tensor:
    eye = torch.eye(batch.fields, dtype=batch.labels.dtype) * (views[0] == views[1])
    return eye.expand(*batch.labels.shape, batch.fields, batch.fields)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("_inner", _no_cross_views(ghost._inner)),  # views clipped as if they were two records
        ("_same", _same_field_only),  # one row in two fields counted as two rows
        ("_same", _nothing_shared),  # one row in two views counted as two rows
    ],
)
def test_the_equality_can_fail(name: str, broken: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Controls: norms that forget some of the cross terms are noticed."""
    monkeypatch.setattr(ghost, name, broken)
    with pytest.raises(AssertionError):
        check_equal(Case(duplicates=True, clipping_norm=0.05))


@pytest.mark.parametrize("width", [1, ghost.COLUMNS_MAX, ghost.COLUMNS_MAX + 1])
def test_rows_of_any_width_are_added_as_often_as_they_are_named(width: int) -> None:
    table, values = torch.ones(5, width, dtype=torch.float64), torch.arange(4.0 * width, dtype=torch.float64)
    rows, values = torch.tensor([3, 0, 3, 3]), values.view(4, width)
    ghost._add_rows(table, rows, values)
    expected = torch.ones(5, width, dtype=torch.float64)
    expected[0] += values[1]
    expected[3] += values[0] + values[2] + values[3]
    assert torch.equal(table, expected)


# ── noise, coins and groups ──────────────────────────────────────────────────────────────────────────────────────────


class Recording(SimulationNoise):
    """Remembers what it drew."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.gaussians: list[np.ndarray] = []

    def gaussian_into(self, result: Floats, scale: float) -> None:
        super().gaussian_into(result, scale)
        self.gaussians.append(result.copy())


@pytest.mark.parametrize("steps", [1, 2])
def test_every_device_has_noise_of_its_own(steps: int) -> None:
    """Equal devices: what they learnt differs by fresh draws, none used twice, d per device and step."""
    case = Case(fields=4, numbers=30, sizes=(6,) * 40, steps=steps, clipping_norm=1e-6)  # next to nothing but noise
    rng = Recording(3)
    cohort = cohort_of(case, rng)
    same = [case.records(6, 1)] * 40
    found = np.stack([one.vector for one in cohort.learn(case.start, behind_each_other(same), case.sizes)])
    drawn = np.concatenate(rng.gaussians)
    assert drawn.size == len(np.unique(drawn)) == steps * found.size
    noise = found - found.mean(axis=0)
    sizes = np.linalg.norm(noise, axis=1)
    correlations = (noise @ noise.T) / np.outer(sizes, sizes)
    # d = 319 coordinates: correlations of independent rows have deviation 0.056 around -1/39. All 780 pairs stay within
    # 0.4 of 0 with probability above 1 - 1e-8; noise shared by two devices gives 1.
    assert noise.shape[1] > 300
    assert np.abs(correlations - np.eye(40)).max() < 0.4


def test_noise_of_a_device_alone_goes_on_across_pieces() -> None:
    """Two steps, d above one piece: every weight gets draws of its own, those that Opacus would add."""
    case = Case(fields=4, numbers=30, sizes=(6,), steps=2, rate=0.5, hidden=1000)
    assert case.start.size > NOISE_PIECE
    check_equal(case)


def test_groups_and_memory_do_not_change_what_a_device_gets() -> None:
    whole = together(Case(steps=2, rate=0.5, sizes=(5, 3, 30, 0, 8)), SimulationNoise(4))
    pieces = together(Case(steps=2, rate=0.5, sizes=(5, 3, 30, 0, 8), memory_bytes_max=1), SimulationNoise(4))
    rng = SimulationNoise(4)
    case = Case(steps=2, rate=0.5, sizes=(5, 3, 30, 0, 8))
    devices = case.devices()
    alone = [next(cohort_of(case, rng).learn(case.start, one, [len(one)])) for one in devices]
    for one, other, third in zip(whole, pieces, alone, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, rtol=0, atol=1e-12)
        np.testing.assert_allclose(one.vector, third.vector, rtol=0, atol=1e-12)


def test_a_walk_takes_every_record_of_its_own_device_in_turn() -> None:
    """Share 0.4, 5 steps: twice round, and never a neighbour's record."""
    case = Case(sizes=(5, 0, 20, 1, 10))
    pack = Pack(behind_each_other(case.devices()), np.array(case.sizes), with_one=True)
    walk = Walk(pack, SimulationNoise(5).uniform(len(pack.owner)), 0.4)
    taken = np.zeros(len(pack.owner), int)
    orders = set()
    for step in range(5):
        sample = walk.sample(step)
        assert np.bincount(pack.owner[sample._rows], minlength=5).tolist() == [2, 0, 8, 1, 4]
        assert all(np.diff(pack.owner[sample._rows]) >= 0)
        taken[sample._rows] += 1
        orders.add(tuple(sample._rows))
    assert taken.tolist() == [2] * 25 + [5] + [2] * 10
    assert len(orders) > 1


def test_a_walk_is_not_for_private_training() -> None:
    with pytest.raises(PolicyError, match="Poisson"):
        Cohort(
            build_network(Case().model, Case().spec),
            make_parameters(sampling_rate=0.5),
            SimulationNoise(1),
            spec=Case().spec,
            views=2,
            private=True,
            memory_bytes_max=MEMORY_BYTES_MAX,
            walks=True,
        )


def test_results_of_two_iterators_do_not_mix() -> None:
    """The memory of a window is used again only when its results were handed out."""
    case = Case()
    cohort = cohort_of(case, SimulationNoise(1))
    records = behind_each_other(case.devices())
    expected = [one.vector for one in together(case, SimulationNoise(1))]
    first = cohort.learn(case.start, records, case.sizes)
    found = [next(first).vector]
    list(cohort.learn(case.start, records, case.sizes))
    found += [one.vector for one in first]
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert len({one.ctypes.data for one in found}) == len(found)
