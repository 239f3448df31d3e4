"""A cohort gives each device the update that training it alone gives: same coins, same noise, same clip, float64."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from client.training import ghost
from client.training.cohort import Cohort, Learnt
from client.training.datasets import Records, to_records
from client.training.dp_sgd import DpSgd
from client.training.local import MEMORY_BYTES_MAX
from client.training.packing import Pack, Walk
from client.training.plain_sgd import PlainSgd
from common.errors import PolicyError, ShapeMismatch
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
    seed: int = 0

    @property
    def spec(self) -> FeatureSpec:
        return make_spec(fields=self.fields, buckets=4, numbers=self.numbers)

    @property
    def model(self) -> ModelSpec:
        return make_model(self.spec, self.family, contextual_weight=self.weight, wide_scale=0.7)

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
    seed=st.integers(0, 10_000),
)


@settings(max_examples=150)
@example(Case())
@example(Case(sizes=(0, 0)))
@example(Case(rate=0.01, steps=2))  # most samples are empty
@example(Case(duplicates=True, steps=3, rate=0.5, piece=2))
@example(Case(family=ModelFamily.LOGISTIC, duplicates=True, weight=0.0))
@example(Case(private=False, steps=3, rate=0.5))
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


# ── noise, coins and groups ──────────────────────────────────────────────────────────────────────────────────────────


class Recording(SimulationNoise):
    """Remembers what it drew."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.gaussians: list[np.ndarray] = []

    def gaussian(self, shape: int | tuple[int, ...]) -> np.ndarray:
        drawn = super().gaussian(shape)
        self.gaussians.append(drawn)
        return drawn


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
    pack = Pack(behind_each_other(case.devices()), np.array(case.sizes))
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
def test_working_memory_stays_below_the_setting(family: ModelFamily, steps: int, fields: int) -> None:
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
