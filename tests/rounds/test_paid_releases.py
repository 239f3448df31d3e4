"""What is paid after the last round, or beside any training: calibration, evaluation, histograms of features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import client.app
from client.features.cache import load_examples
from client.store.keys import DeviceId
from common.errors import PolicyError
from common.model.network import load_network, probabilities
from common.taxonomy import Purpose, ReleaseKind, Task
from server.rounds.training import RoundReport
from tests.flower.nodes import SPEC, World
from tests.rounds.secagg_world import charged, examples, make, run, run_measurement, use_environment


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = make(tmp_path)
    use_environment(made, monkeypatch)
    yield made
    client.app._WARM.close()


def test_a_paid_calibration_restores_the_mean_prediction(world: World) -> None:
    """A base rate of 2 % for data of 23 % leaves predictions far too low after one round; the paid sums mend it."""
    before: list[RoundReport] = []
    config = {"num_server_rounds": 1, "base_rate": 0.05, "server_learning_rate": 0.1, "evaluate": False}
    done = run(world, lambda report: before.append(report) or {}, **config)
    rows = examples(world, "train")
    rate = float(rows.labels.mean())

    def mean(model: Mapping[str, np.ndarray]) -> float:
        network = load_network(model, done.manifest.model, SPEC)
        return float(probabilities(network, rows.categorical, rows.numeric).mean())

    assert mean(before[0].model) / rate < 0.6
    assert 0.85 < mean(done.model) / rate < 1.15
    figures = done.manifest.metrics
    assert figures["paid_calibration_ratio"] == pytest.approx(rate / mean(before[0].model), rel=0.1)
    assert figures["paid_calibration_ratio_low"] < rate / mean(before[0].model) < figures["paid_calibration_ratio_high"]


def test_a_paid_evaluation_is_near_the_truth_and_says_how_near(world: World) -> None:
    """8 devices, 1,200 held-out rows, z = 0.05; the interval is of 95 %, the seed is fixed."""
    done = run(world, num_server_rounds=3)
    rows = examples(world, "holdout")
    assert len(rows) > 1000
    network = load_network(done.model, done.manifest.model, SPEC)
    predicted = probabilities(network, rows.categorical, rows.numeric)
    rate = float(rows.labels.mean())
    loss = float(-np.where(rows.labels == 1, np.log(predicted), np.log1p(-predicted)).mean())
    truth = {"log_loss": loss, "rate": rate, "prediction_mean": float(predicted.mean())}
    truth |= {"calibration": truth["prediction_mean"] / rate, "auc": _auc(predicted, rows.labels)}
    figures = done.manifest.metrics
    for name, value in truth.items():
        low, high = figures[f"paid_evaluation_{name}_low"], figures[f"paid_evaluation_{name}_high"]
        assert low - 0.02 <= value <= high + 0.02, name
        assert figures[f"paid_evaluation_{name}"] == pytest.approx(value, abs=0.1), name
    assert figures["paid_evaluation_devices"] == 8


def _auc(scores: np.ndarray, labels: np.ndarray) -> float:
    ups, downs = scores[labels == 1], scores[labels == 0]
    return float(((ups[:, None] > downs) + 0.5 * (ups[:, None] == downs)).mean())


def test_a_registered_model_can_be_evaluated_and_features_counted_beside_any_training(world: World) -> None:
    done = run(world, num_server_rounds=1, evaluate=False)
    found = run_measurement(world, task="evaluate")
    assert (found.task, found.devices) == (Task.EVALUATE, 8)
    assert 0.3 < found.figures["paid_evaluation_auc"] < 1
    assert "evaluation" not in str(done.manifest.metrics)
    counted = run_measurement(world, task="histogram")
    shares = counted.histograms["page"].shares
    rows = examples(world, "train")
    column = [field.name for field in SPEC.categorical].index("page")
    truth = np.bincount(rows.categorical[:, column] - SPEC.offsets[column], minlength=8) / len(rows)
    assert np.abs(shares - truth).max() < 5 * counted.histograms["page"].stddev + 0.02
    kinds = charged(world)["n0-d0"]
    assert kinds[-2:] == [ReleaseKind.EVALUATION, ReleaseKind.FEATURE_HISTOGRAM]
    with world.node(0) as node:
        entry = node.ledger.entries(DeviceId("n0-d0"))[-1]
    assert entry.purpose is Purpose.MEASURE_AGGREGATE


def test_a_profile_without_masks_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, profile="record_local")
    use_environment(made, monkeypatch)
    done = run(made, num_server_rounds=1)
    client.app._WARM.close()
    assert not any(name.startswith("paid_") for name in done.manifest.metrics)
    with pytest.raises(PolicyError, match="no release for the task histogram"):
        run_measurement(made, task="histogram")


def test_a_node_is_what_the_tests_think_it_is(world: World) -> None:
    with world.node(0) as node:
        assert len(load_examples(node, DeviceId("n0-d0"), "train")) == 150
