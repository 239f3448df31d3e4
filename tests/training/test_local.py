"""The trainer of a round: profiles, reuse across devices, sampling, and everything it refuses by name."""

import dataclasses
import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

from client.training.datasets import Records, summed_loss, to_records
from client.training.dp_sgd import DpSgd
from client.training.local import LocalTrainer
from common.errors import (
    DtypeMismatch,
    InvalidLabel,
    NonFiniteValue,
    PolicyError,
    ReticentError,
    ShapeMismatch,
    SpecMismatch,
)
from common.model.arrays import WEIGHT_LIMIT
from common.model.examples import Examples
from common.model.network import build_network, sorted_parameters, write_vector
from common.privacy.gaussians import Floats
from common.privacy.parameters import RecordDpParameters
from common.privacy.randomness import NoiseSource, SecureNoise, SimulationNoise
from common.taxonomy import Mechanism, ModelFamily, Profile
from tests.training.worlds import make_examples, make_model, make_parameters, make_spec, start_vector

SPEC = make_spec()


def make_trainer(
    *,
    family: ModelFamily = ModelFamily.LOGISTIC,
    profile: Profile = Profile.RECORD_LOCAL,
    rng: NoiseSource | None = None,
    simulation: bool = True,
    **changes: Any,  # noqa: ANN401 - a value of any field of the parameters
) -> LocalTrainer:
    return LocalTrainer(
        model=make_model(SPEC, family),
        spec=SPEC,
        parameters=make_parameters(**changes),
        profile=profile,
        rng=rng or SimulationNoise(1),
        simulation=simulation,
    )


def start_of(trainer: LocalTrainer) -> np.ndarray:
    return start_vector(trainer.model, trainer.spec, 2)


# ── profiles ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("family", ModelFamily)
@pytest.mark.parametrize("piece", [512, 4])
def test_non_private_is_the_summed_gradient_step_and_says_so(family: ModelFamily, piece: int) -> None:
    trainer = make_trainer(family=family, profile=Profile.NON_PRIVATE, physical_batch_size=piece)
    examples, start = make_examples(SPEC, 17), start_of(trainer)
    network = build_network(trainer.model, SPEC).double()
    write_vector(network, start)
    records = to_records(examples, SPEC, contextual_weight=0.3, device=torch.device("cpu"), dtype=torch.float64)
    gradients = torch.autograd.grad(summed_loss(network, records), sorted_parameters(network))
    expected = -0.1 / 40.0 * torch.cat([g.reshape(-1) for g in gradients]).numpy()

    update = trainer.train(start, examples)
    np.testing.assert_allclose(update.vector, expected, atol=3e-7)
    assert update.release.mechanism is Mechanism.NONE


def test_private_without_noise_or_clipping_is_the_same_rule() -> None:
    """Both profiles differ in the mechanism only: with a clip out of reach and z = 0 they agree."""
    private = make_trainer(noise_multiplier=0.0, clipping_norm=1e6, local_steps=3, family=ModelFamily.WIDE_DEEP)
    plain = make_trainer(profile=Profile.NON_PRIVATE, local_steps=3, family=ModelFamily.WIDE_DEEP)
    start, examples = start_of(private), make_examples(SPEC, 25)
    found, expected = private.train(start, examples).vector, plain.train(start, examples).vector
    assert np.linalg.norm(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"profile": Profile.NON_PRIVATE, "rng": SecureNoise()}, "non-private"),
        ({"noise_multiplier": 0.0, "rng": SecureNoise()}, "multiplier of 0"),
        ({"rng": SimulationNoise(1)}, "seeded"),
    ],
)
def test_what_protects_nobody_needs_a_simulation(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        make_trainer(simulation=False, **changes)
    make_trainer(simulation=True, **changes)


def test_a_real_device_trains_with_secure_noise() -> None:
    trainer = make_trainer(simulation=False, rng=SecureNoise())
    first, second = (trainer.train(start_of(trainer), make_examples(SPEC, 9)) for _ in range(2))
    assert first.release == trainer.parameters.release(Profile.RECORD_LOCAL)
    assert not np.array_equal(first.vector, second.vector)


def test_training_learns() -> None:
    trainer = make_trainer(profile=Profile.NON_PRIVATE, learning_rate=0.5, local_steps=40)
    examples, start = make_examples(SPEC, 60), start_of(make_trainer())
    network = build_network(trainer.model, SPEC)
    records = to_records(examples, SPEC, contextual_weight=0.3, device=torch.device("cpu"))

    def loss(weights: np.ndarray) -> float:
        write_vector(network, weights)
        return float(summed_loss(network, records).detach())

    assert loss(start + trainer.train(start, examples).vector) < 0.8 * loss(start)


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_a_record_lies_there_in_its_two_views(weight: float) -> None:
    examples = make_examples(SPEC, 6)
    records = to_records(examples, SPEC, contextual_weight=weight, device=torch.device("cpu"))
    assert records.view_weights.tolist() == ([0.75, 0.25] if weight else [1.0])
    views = [(examples.categorical, examples.numeric), SPEC.contextual(examples.categorical, examples.numeric)]
    for view in range(len(records.view_weights)):
        assert np.array_equal(records.categorical[:, view].numpy(), views[view][0])
        assert np.array_equal(records.numeric[:, view].numpy(), views[view][1])


# ── an empty device, and devices after each other ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("family", ModelFamily)
@pytest.mark.parametrize("rate", [1.0, 0.2])
def test_an_empty_device_contributes_pure_noise(family: ModelFamily, rate: float) -> None:
    trainer = make_trainer(family=family, rng=SimulationNoise(6), sampling_rate=rate)
    start = start_of(trainer)
    update = trainer.train(start, Examples.empty(SPEC))
    noise = 0.1 / 40.0 * trainer.parameters.noise_stddev * SimulationNoise(6).gaussian(start.size)
    np.testing.assert_allclose(update.vector, -noise, atol=3e-7)


def test_an_empty_device_teaches_nothing_without_privacy() -> None:
    trainer = make_trainer(profile=Profile.NON_PRIVATE)
    assert not trainer.train(start_of(trainer), Examples.empty(SPEC)).vector.any()


def test_a_one_class_device_trains() -> None:
    examples = make_examples(SPEC, 12)
    examples = dataclasses.replace(examples, labels=np.zeros_like(examples.labels))
    trainer = make_trainer()
    assert np.isfinite(trainer.train(start_of(trainer), examples).vector).all()


@pytest.mark.parametrize("profile", [Profile.RECORD_LOCAL, Profile.NON_PRIVATE])
def test_nothing_of_one_device_reaches_the_next(profile: Profile) -> None:
    """z = 0, so that what is left is the data: device B after A equals device B alone, bit for bit."""
    start = start_of(make_trainer())
    alone = make_trainer(profile=profile, noise_multiplier=0.0).train(start, make_examples(SPEC, 8, seed=2))
    trainer = make_trainer(profile=profile, noise_multiplier=0.0)
    trainer.train(start, make_examples(SPEC, 30, seed=1))
    assert np.array_equal(trainer.train(start, make_examples(SPEC, 8, seed=2)).vector, alone.vector)


class FailingNoise(SimulationNoise):
    """A source that is used up at its first draw and works afterwards."""

    failures = 1

    def gaussian_into(self, result: Floats, scale: float) -> None:
        if self.failures:
            self.failures -= 1
            raise ValueError("used up")
        super().gaussian_into(result, scale)


def test_nothing_of_a_failed_device_reaches_the_next() -> None:
    """It fails after several pieces, with a clipped sum half accumulated: the state Opacus would carry on from."""
    start = start_of(make_trainer())
    changes: dict[str, Any] = {"noise_multiplier": 0.0, "physical_batch_size": 4}
    alone = make_trainer(**changes).train(start, make_examples(SPEC, 8, seed=2))
    trainer = make_trainer(**changes, rng=FailingNoise(1))
    with pytest.raises(ValueError, match="used up"):
        trainer.train(start, make_examples(SPEC, 30, seed=1))
    assert np.array_equal(trainer.train(start, make_examples(SPEC, 8, seed=2)).vector, alone.vector)


# ── sampling and randomness ──────────────────────────────────────────────────────────────────────────────────────────


class CountingSgd:
    """Counts the records of each step; stands in for an engine."""

    noised_steps = 0

    def __init__(self, trainer: LocalTrainer) -> None:
        self.network = build_network(trainer.model, trainer.spec)
        self.sizes: list[int] = []

    def step(self, records: Records) -> None:
        self.sizes.append(len(records))


def sampled(parameters: RecordDpParameters, records: int) -> list[int]:
    trainer = make_trainer(profile=Profile.NON_PRIVATE, **parameters.model_dump())
    engine = CountingSgd(trainer)
    trainer._engine = engine
    trainer.train(start_of(trainer), make_examples(SPEC, records))
    return engine.sizes


def test_poisson_sampling_has_its_rate_and_varies() -> None:
    """n = 20 · 500 coins at q = 0.3: outside these bounds once in 1e9; a rate 0.05 off lies 11 deviations away."""
    sizes = sampled(make_parameters(sampling_rate=0.3, local_steps=20), 500)
    low, high = binom.ppf([0.5e-9, 1 - 0.5e-9], 10_000, 0.3)
    assert low <= sum(sizes) <= high
    assert not low <= 0.35 * 10_000 <= high
    assert len(set(sizes)) > 5  # a fixed batch size would be another mechanism than the one accounted


def test_rate_one_takes_everything() -> None:
    assert sampled(make_parameters(local_steps=3), 50) == [50, 50, 50]


def test_no_global_generator_is_read_or_moved() -> None:
    def states() -> tuple[object, ...]:
        numpy_state = np.random.get_state()  # noqa: NPY002 - the legacy generator is the one that must stay put
        return torch.get_rng_state().tolist(), str(numpy_state), random.getstate()

    start, updates = start_of(make_trainer()), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = states()
        trainer = make_trainer(rng=SimulationNoise(5), sampling_rate=0.5, family=ModelFamily.WIDE_DEEP)
        updates.append(trainer.train(start_of(trainer), make_examples(SPEC, 20)).vector)
        assert states() == before
    assert np.array_equal(updates[0], updates[1])
    assert start.size


def test_training_is_quiet_and_hides_no_other_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_trainer().train(start_of(make_trainer()), make_examples(SPEC, 5))

    class Complaining(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build_network(make_model(SPEC), SPEC)

        def forward(self, categorical: torch.Tensor, numeric: torch.Tensor) -> torch.Tensor:
            warnings.warn("something else", UserWarning, stacklevel=1)
            return self.inner(categorical, numeric)  # type: ignore[no-any-return]

    records = to_records(make_examples(SPEC, 3), SPEC, contextual_weight=0.3, device=torch.device("cpu"))
    with pytest.warns(UserWarning, match="something else"):
        DpSgd(Complaining(), make_parameters(), SimulationNoise(1)).step(records)


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_labels(labels: list[float]) -> Examples:
    return dataclasses.replace(make_examples(SPEC, 3), labels=np.array(labels, np.float32))


def broken_numbers() -> Examples:
    examples = make_examples(SPEC, 3)
    examples.numeric[1, 1] = np.nan
    return examples


@pytest.mark.parametrize(
    ("examples", "error"),
    [
        (make_examples(make_spec(buckets=5), 3), SpecMismatch),
        (with_labels([]), InvalidLabel),
        (with_labels([0, 1, 2]), InvalidLabel),
        (with_labels([0, 1, np.nan]), InvalidLabel),
        (with_labels([0, 1]), ShapeMismatch),
        (broken_numbers(), NonFiniteValue),
        (dataclasses.replace(make_examples(SPEC, 3), numeric=np.zeros((3, 5), np.float64)), DtypeMismatch),
        (dataclasses.replace(make_examples(SPEC, 3), numeric=np.zeros((3, 4), np.float32)), ShapeMismatch),
        (dataclasses.replace(make_examples(SPEC, 3), categorical=np.full((3, 3), 12, np.int64)), ShapeMismatch),
    ],
)
def test_wrong_examples_are_refused_by_name(examples: Examples, error: type[ReticentError]) -> None:
    trainer = make_trainer()
    with pytest.raises(error):
        trainer.train(start_of(trainer), examples)


def test_wrong_weights_are_refused_by_name() -> None:
    trainer = make_trainer()
    with pytest.raises(ShapeMismatch):
        trainer.train(start_of(trainer)[:-1], make_examples(SPEC, 3))


def test_a_model_of_another_specification_is_refused() -> None:
    with pytest.raises(SpecMismatch):
        LocalTrainer(
            model=make_model(make_spec(buckets=5)),
            spec=SPEC,
            parameters=make_parameters(),
            profile=Profile.RECORD_LOCAL,
            rng=SecureNoise(),
        )


@pytest.mark.parametrize("family", ModelFamily)
def test_a_hostile_model_within_the_weight_limit_cannot_provoke_a_non_finite_update(family: ModelFamily) -> None:
    """Else a refusal would tell whether some record overflowed: an unaccounted bit about the data."""
    spec = make_spec(fields=20, buckets=3, numbers=200)
    model = make_model(spec, family, hidden_width=512)
    trainer = LocalTrainer(
        model=model, spec=spec, parameters=make_parameters(), profile=Profile.RECORD_LOCAL, rng=SecureNoise()
    )
    examples = make_examples(spec, 6)
    for weights in (1.0, -1.0):
        start = np.full(start_vector(model, spec).size, weights * WEIGHT_LIMIT)
        assert np.isfinite(trainer.train(start, examples).vector).all()
