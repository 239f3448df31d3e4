"""Evaluation and calibration from one noisy sum over devices.

Random devices below: 1,500 with 10 to 600 examples each, 2 % positives, AUC about 0.82. Noise multiplier 5 on sums
whose terms have L2 norm at most 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from common.errors import OneClassData, ShapeMismatch, SpecMismatch
from common.model import arrays
from common.model.evaluation import Estimate, Evaluation, evaluation_vector, example_weight, read_evaluation
from common.model.examples import Examples
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.model.measurement import bias_correction, calibration_vector, clip_bit, histogram_vector, read_histogram
from common.model.network import initial_arrays
from common.model.sizes import CALIBRATION_LENGTH, evaluation_length, histogram_length, network_length
from common.privacy.clipping import clip_update
from common.privacy.updates import ModelDelta
from common.taxonomy import FeatureBlock, ModelFamily
from common.wire.messages import ModelSpec

BINS, RATE, NOISE = 12, 0.02, 5.0
Device = tuple[np.ndarray, np.ndarray]
SPEC = FeatureSpec(
    name="sizes",
    version=1,
    categorical=tuple(CategoricalField(name=n, block=FeatureBlock.CONTEXT, buckets=b) for n, b in (("a", 5), ("b", 9))),
    numeric=(NumericField(name="x", block=FeatureBlock.CONTEXT),),
)


def people(seed: int = 0, devices: int = 1500, shift: float = 0.0) -> list[Device]:
    """Predictions and outcomes; ``shift`` is how far the predictions' log-odds are off."""
    rng = np.random.default_rng(seed)
    found = []
    for size in np.exp(rng.uniform(np.log(10), np.log(600), devices)).astype(int):
        odds = rng.normal(-4.7, 0.5) + 1.3 * rng.standard_normal(size)
        labels = (rng.random(size) < 1 / (1 + np.exp(-odds))).astype(np.float32)
        found.append((1 / (1 + np.exp(-(odds + shift))), labels))
    return found


def clipped_sum(devices: list[Device], vector: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    return np.sum([clip_update(ModelDelta(vector(*one)), 1.0).vector for one in devices], axis=0)


def evaluated(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return evaluation_vector(p, y, BINS, base_rate=RATE)


def calibrated(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return calibration_vector(p, y, base_rate=RATE)


def read(total: np.ndarray, noise_stddev: float = 0.0) -> Evaluation:
    return read_evaluation(total, bins=BINS, base_rate=RATE, noise_stddev=noise_stddev)


def test_unclipped_light_devices_are_read_exactly() -> None:
    devices = [(p[:100], y[:100]) for p, y in people()]
    p, y = (np.concatenate(column) for column in zip(*devices, strict=True))
    found = read(np.sum([evaluated(*one) for one in devices], axis=0))
    assert found.log_loss.value == pytest.approx(log_loss(y, p), rel=1e-9)
    assert found.rate.value == pytest.approx(y.mean(), rel=1e-6)
    assert found.calibration.value == pytest.approx(p.mean() / y.mean(), rel=1e-6)
    assert found.prediction_mean.value == pytest.approx(p.mean(), rel=1e-9)
    assert found.auc.value == pytest.approx(roc_auc_score(y, p), abs=0.004)


def test_clipping_and_weights_move_figures_little() -> None:
    devices = people()
    p, y = (np.concatenate(column) for column in zip(*devices, strict=True))
    found = read(clipped_sum(devices, evaluated))
    assert found.auc.value == pytest.approx(roc_auc_score(y, p), abs=0.012)
    assert found.log_loss.value == pytest.approx(log_loss(y, p), rel=0.05)
    assert found.calibration.value == pytest.approx(p.mean() / y.mean(), rel=0.05)
    clipped = np.mean([np.linalg.norm(evaluated(*one)) > 1 for one in devices])
    assert clipped < 0.15


def covered(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def coverage(noise_stated: float) -> dict[str, float]:
    """Share of 300 noisy sums whose interval holds the noiseless figure."""
    total, rng = clipped_sum(people(), evaluated), np.random.default_rng(1)
    truth, draws = read(total), 300
    names = ["auc", "log_loss", "prediction_mean", "rate", "calibration"]
    hits = dict.fromkeys(names, 0)
    for _ in range(draws):
        found = read(total + NOISE * rng.standard_normal(total.size), noise_stated)
        for name in names:
            hits[name] += covered(getattr(found, name), getattr(truth, name).value)
    return {name: count / draws for name, count in hits.items()}


def test_intervals_cover_the_noise() -> None:
    """300 draws at 95 %: fewer than 90 % with probability 2e-4 for each of the five; a third of the noise is caught."""
    assert min(coverage(NOISE).values()) >= 0.90
    broken = coverage(NOISE / 3)
    assert max(value for name, value in broken.items() if name != "auc") < 0.90


def test_errors_are_those_the_module_states() -> None:
    total, rng = clipped_sum(people(), evaluated), np.random.default_rng(2)
    found = [read(total + NOISE * rng.standard_normal(total.size), NOISE) for _ in range(200)]
    assert np.std([one.auc.value for one in found]) < 0.02
    assert np.std([one.calibration.value for one in found]) < 0.05
    loss = [one.log_loss.value for one in found]
    assert np.std(loss) / np.mean(loss) < 0.05


def test_a_devices_weight_follows_from_its_number_of_examples_alone() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.random(400), np.zeros(400, np.float32)
    quiet, busy = evaluated(p, y), evaluated(p, (np.arange(400) < 40).astype(np.float32))
    assert quiet[0] == busy[0]
    assert quiet[2] == busy[2]
    assert example_weight(100, RATE, 3.0) == 1.0
    assert example_weight(300, RATE, 3.0) == 0.5
    assert not evaluated(np.zeros(0), np.zeros(0)).any()


def test_certain_predictions_stay_finite() -> None:
    p, y = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    assert np.isfinite(evaluated(p, y)).all()
    assert np.isfinite(calibrated(p, y)).all()
    with pytest.raises(ShapeMismatch):
        evaluated(p, y[:-1])
    with pytest.raises(ShapeMismatch):
        calibrated(p, y[:-1])


def test_noise_that_hides_everything_is_said_by_name() -> None:
    total = evaluated(*people(devices=3)[0])
    with pytest.raises(OneClassData):
        read(total - 1000, 100.0)
    with pytest.raises(OneClassData):
        bias_correction(np.array([-1.0, 0.0, 0.0, 0.0]), noise_stddev=1.0)
    for wrong in (np.zeros(3), np.zeros(evaluation_length(BINS) + 1)):
        with pytest.raises(ShapeMismatch):
            read(wrong)
    with pytest.raises(ShapeMismatch):
        bias_correction(np.zeros(2), noise_stddev=1.0)


@pytest.mark.parametrize("shift", [-0.6, -0.2, 0.0, 0.5])
def test_a_bias_refit_mends_calibration(shift: float) -> None:
    """The mean prediction comes within 5 % of the rate, noise included; left alone it is off by up to 80 %."""
    devices = people(shift=shift)
    p, y = (np.concatenate(column) for column in zip(*devices, strict=True))
    odds, rng = np.log(p / (1 - p)), np.random.default_rng(3)
    total = clipped_sum(devices, calibrated)
    for _ in range(10):
        found = bias_correction(total + NOISE * rng.standard_normal(total.size), noise_stddev=NOISE)
        mended = 1 / (1 + np.exp(-(odds + found.shift.value)))
        assert mended.mean() / y.mean() == pytest.approx(1, abs=0.05)
    assert np.mean([np.linalg.norm(calibrated(*one)) > 1 for one in devices]) < 0.15


def test_each_view_is_mended_by_a_shift_of_its_own() -> None:
    """Personal predictions too low by 0.3, contextual ones too high by 0.4: both within 5 % afterwards."""
    devices = people(shift=-0.3)
    shifted = [1 / (1 + np.exp(-(np.log(p / (1 - p)) + 0.7))) for p, _ in devices]
    vectors = [
        calibration_vector(p, y, base_rate=RATE, contextual=c) for (p, y), c in zip(devices, shifted, strict=True)
    ]
    total = np.sum([clip_update(ModelDelta(vector), 1.0).vector for vector in vectors], axis=0)
    found = bias_correction(total + NOISE * np.random.default_rng(5).standard_normal(total.size), noise_stddev=NOISE)
    rate = np.concatenate([y for _, y in devices]).mean()
    for shift, columns in ((found.shift, [p for p, _ in devices]), (found.contextual_shift, shifted)):
        p = np.concatenate(columns)
        assert np.mean(1 / (1 + np.exp(-(np.log(p / (1 - p)) + shift.value)))) / rate == pytest.approx(1, abs=0.05)
    assert np.mean([np.linalg.norm(vector) > 1 for vector in vectors]) < 0.15


def test_intervals_of_the_shift_cover_the_noise() -> None:
    total, rng = clipped_sum(people(shift=-0.4), calibrated), np.random.default_rng(4)
    truth = bias_correction(total, noise_stddev=0.0)
    noises = NOISE * rng.standard_normal((300, CALIBRATION_LENGTH))
    draws = [bias_correction(total + noise, noise_stddev=NOISE) for noise in noises]
    assert np.mean([covered(one.shift, truth.shift.value) for one in draws]) >= 0.90
    assert np.mean([covered(one.ratio, truth.ratio.value) for one in draws]) >= 0.90
    assert np.mean([covered(one.contextual_ratio, truth.contextual_ratio.value) for one in draws]) >= 0.90
    assert total.shape == (CALIBRATION_LENGTH,)


def test_the_clip_bit_is_one_half_either_way() -> None:
    assert [clip_bit(norm, 1.0).tolist() for norm in (0.0, 1.0, 1.0001, math.inf, math.nan)] == [
        [0.5],
        [0.5],
        [-0.5],
        [-0.5],
        [-0.5],
    ]


def examples(rows: list[list[int]]) -> Examples:
    ids = np.array(rows, np.int64).reshape(-1, 2)
    n = len(ids)
    return Examples(ids, np.zeros((n, 1), np.float32), np.zeros(n, np.float32), np.zeros(n), SPEC.digest)


def test_histograms_are_shares_by_field() -> None:
    devices = [examples([[0, 5], [1, 5], [1, 6], [1, 13]]), examples([[4, 13]] * 50), examples([])]
    vectors = [histogram_vector(one, SPEC) for one in devices]
    assert [np.linalg.norm(vector) <= 1 + 1e-12 for vector in vectors] == [True] * 3
    found = read_histogram(np.sum(vectors[:2], axis=0), SPEC, devices=2, noise_stddev=4.0)
    np.testing.assert_allclose(found["a"].shares, [1 / 8, 3 / 8, 0, 0, 1 / 2])
    assert found["b"].shares.sum() == pytest.approx(1)
    assert found["b"].stddev == pytest.approx(4 * math.sqrt(2) / 2)
    assert not vectors[2].any()
    other = SPEC.model_copy(update={"version": 2})
    with pytest.raises(SpecMismatch):
        histogram_vector(devices[0], FeatureSpec.model_validate(other.model_dump()))
    with pytest.raises(ShapeMismatch):
        read_histogram(np.zeros(3), SPEC, devices=2, noise_stddev=1.0)


@pytest.mark.parametrize("family", list(ModelFamily))
@pytest.mark.parametrize("spec", [SPEC, SPEC.model_copy(update={"numeric": ()})])
def test_lengths_are_known_without_building_a_network(family: ModelFamily, spec: FeatureSpec) -> None:
    spec = FeatureSpec.model_validate(spec.model_dump())
    model = ModelSpec(family=family, spec_digest=spec.digest, base_rate=0.1, hidden_width=7, embedding_dim=3)
    assert network_length(model, spec) == arrays.length(initial_arrays(model, spec))
    assert histogram_length(spec) == 14
    with pytest.raises(SpecMismatch):
        network_length(model.model_copy(update={"spec_digest": "0" * 64}), spec)
