"""The noise on a released update has standard deviation z·C·lr/EB, is drawn once per step, and is nobody else's."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from client.training.bounds import clip_bound
from client.training.datasets import to_records
from client.training.dp_sgd import DpSgd
from client.training.local import LocalTrainer
from common.model.feature_spec import FeatureSpec
from common.model.network import build_network, write_vector
from common.privacy.gaussians import Floats
from common.privacy.parameters import RecordDpParameters
from common.privacy.randomness import NoiseSource, SecureNoise, SimulationNoise
from common.taxonomy import ModelFamily, Profile
from tests.training.worlds import make_examples, make_model, make_parameters, make_spec, start_vector

WIDE_SPEC = make_spec(fields=4, buckets=250, numbers=20)  # d = 1,021 weights in the logistic family
# A run is rejected below this two-sided p-value: a correct mechanism fails once in a thousand million runs.
ALPHA = 1e-9
RUNS = 20  # 20 updates of 1,021 weights: n = 20,420 residuals


def noiseless_sum(parameters: RecordDpParameters, records: int) -> np.ndarray:
    """The clipped sum of the first step, without its noise, from a network of its own."""
    model = make_model(WIDE_SPEC)
    network = build_network(model, WIDE_SPEC)
    write_vector(network, start_vector(model, WIDE_SPEC))
    engine = DpSgd(network, parameters, SimulationNoise(0))
    batch = to_records(make_examples(WIDE_SPEC, records), WIDE_SPEC, contextual_weight=0.3, device=torch.device("cpu"))
    engine.step(batch)
    return engine.clipped_sum().double().numpy()


def residuals(rng: NoiseSource, used: RecordDpParameters, declared: RecordDpParameters) -> np.ndarray:
    """Released updates less the noiseless step, in units of the declared z·C·lr/EB: standard normal if all is well."""
    model = make_model(WIDE_SPEC)
    trainer = LocalTrainer(
        model=model, spec=WIDE_SPEC, parameters=used, profile=Profile.RECORD_LOCAL, rng=rng, simulation=True
    )
    start, examples = start_vector(model, WIDE_SPEC), make_examples(WIDE_SPEC, 30)
    step = declared.learning_rate / declared.expected_batch_size
    exact = -step * noiseless_sum(used, 30)
    released = np.stack([trainer.train(start, examples).vector for _ in range(RUNS)])
    return np.asarray((released - exact) / (step * declared.noise_stddev))


def p_value(sample: np.ndarray) -> float:
    """Two-sided chi-square p-value that a sample has variance 1 around mean 0.

    n = 20,420: a standard deviation wrong by 5 % lies more than 9 standard errors off, so it is missed with
    probability below 0.01 % (see ``test_power``); half the noise, or none, is missed never.
    """
    statistic = float((sample**2).sum())
    return float(2 * min(chi2.sf(statistic, sample.size), chi2.cdf(statistic, sample.size)))


class HalfNoise(SimulationNoise):
    """A broken source."""

    def gaussian_into(self, result: Floats, scale: float) -> None:
        super().gaussian_into(result, 0.5 * scale)


class StuckNoise(SimulationNoise):
    """A broken source: every call starts the stream of the same key again."""

    def gaussian_into(self, result: Floats, scale: float) -> None:
        SimulationNoise(11).gaussian_into(result, scale)


@pytest.mark.parametrize("source", [SimulationNoise(4), SecureNoise()], ids=["seeded", "secure"])
@pytest.mark.parametrize("piece", [512, 7])
def test_released_noise_has_its_declared_deviation(source: NoiseSource, piece: int) -> None:
    parameters = make_parameters(physical_batch_size=piece)
    sample = residuals(source, parameters, parameters)
    assert p_value(sample) > ALPHA
    assert abs(sample.mean()) * math.sqrt(sample.size) < norm.isf(ALPHA / 2)


@pytest.mark.parametrize(
    ("source", "used"),
    [
        (SimulationNoise(4), make_parameters(noise_multiplier=0.0)),
        (HalfNoise(4), make_parameters()),
        (SimulationNoise(4), make_parameters(noise_multiplier=2.0 * math.sqrt(2))),
        (SimulationNoise(4), make_parameters(noise_multiplier=2.0 / 40)),
        (SimulationNoise(4), make_parameters(noise_multiplier=2.0 * 1.05)),
    ],
    ids=["off", "half", "drawn twice", "divided by the batch", "5 percent off"],
)
def test_control_wrong_noise_is_rejected(source: NoiseSource, used: RecordDpParameters) -> None:
    assert p_value(residuals(source, used, make_parameters())) < ALPHA


def test_power() -> None:
    """The probability of missing a deviation that is 5 % too small is what ``p_value`` says: below 0.01 %."""
    n = RUNS * 1021
    missed = 1 - chi2.cdf(chi2.ppf(ALPHA / 2, n) / 0.95**2, n)
    assert missed < 1e-4


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Standardised correlation: standard normal for independent draws."""
    return float((first * second).sum() / math.sqrt(first.size))


def test_updates_do_not_share_their_noise() -> None:
    """n = 19,399 products of neighbouring updates; |t| beyond 6.1 has probability 1e-9; shared noise gives t ≈ 139."""
    parameters = make_parameters()
    limit = norm.isf(ALPHA / 2)
    sample = residuals(SecureNoise(), parameters, parameters)
    assert abs(correlation(sample[1:].ravel(), sample[:-1].ravel())) < limit
    stuck = residuals(StuckNoise(0), parameters, parameters)
    assert abs(correlation(stuck[1:].ravel(), stuck[:-1].ravel())) > 10 * limit


def reference_training(spec: FeatureSpec, parameters: RecordDpParameters, seed: int, examples: int) -> np.ndarray:
    """Two or more steps written out: w ← w - lr/EB · (S(w) + zC·g), one Gaussian vector g a step from the same seed."""
    model = make_model(spec, ModelFamily.WIDE_DEEP)
    start = start_vector(model, spec, 1)
    noise = SimulationNoise(seed)
    batch = to_records(make_examples(spec, examples), spec, contextual_weight=0.3, device=torch.device("cpu"))
    weights = start.copy()
    for _ in range(parameters.local_steps):
        network = build_network(model, spec)
        write_vector(network, weights)
        engine = DpSgd(network, parameters, SimulationNoise(99))
        engine.step(batch)
        noisy = engine.clipped_sum().double().numpy() + parameters.noise_stddev * noise.gaussian(start.size)
        weights = weights - parameters.learning_rate / parameters.expected_batch_size * noisy
    return weights - start


@given(examples=st.sampled_from([0, 1, 13]), piece=st.sampled_from([1, 4, 512]), steps=st.integers(1, 3))
def test_noise_is_one_draw_per_step_whatever_the_pieces(examples: int, piece: int, steps: int) -> None:
    spec = make_spec()
    parameters = make_parameters(physical_batch_size=piece, local_steps=steps)
    model = make_model(spec, ModelFamily.WIDE_DEEP)
    trainer = LocalTrainer(
        model=model,
        spec=spec,
        parameters=parameters,
        profile=Profile.RECORD_LOCAL,
        rng=SimulationNoise(21),
        simulation=True,
    )
    update = trainer.train(start_vector(model, spec, 1), make_examples(spec, examples))
    expected = reference_training(spec, parameters, 21, examples)
    np.testing.assert_allclose(update.vector, expected, atol=2e-6)


def test_the_margin_for_rounding_is_far_below_what_noise_can_show() -> None:
    assert clip_bound(1.0, torch.float32) < 1
    assert 1 - clip_bound(1.0, torch.float32) < 1e-5
    assert 1 - clip_bound(1.0, torch.float64) < 1e-13
