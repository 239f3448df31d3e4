"""The utility bench trains on the product's own path, at the cost that it states."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from bench.utility import CHOICES, cost, point
from bench.utility_data import Rows
from bench.utility_path import Path as TrainingPath
from bench.utility_report import Curves, draw, targets
from client.population.description import load_description
from client.training.local import LocalTrainer
from common.model import arrays
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec, NumericField
from common.model.network import initial_arrays
from common.privacy.clipping import clip_update
from common.privacy.randomness import SimulationNoise
from common.taxonomy import FeatureBlock, PrivacyUnit, Profile
from policies import loader
from policies.schema import PrivacyBudgetPolicy
from tests.training.worlds import make_examples, make_spec

POLICY = PrivacyBudgetPolicy.model_validate(loader.read_yaml(loader.DOCUMENTS / "privacy_budget.yaml"))
GROCERY = load_description("completejourney")
USER = Profile.USER_DISTRIBUTED


def small_spec() -> FeatureSpec:
    spec = make_spec()
    one = NumericField(name="bought.activity.one", block=FeatureBlock.PERSONAL)
    return FeatureSpec(name="small", version=1, categorical=spec.categorical, numeric=(*spec.numeric, one))


def small_rows(spec: FeatureSpec, devices: int = 60) -> Rows:
    def some(n: int, seed: int) -> Examples:
        found = make_examples(spec, n, seed)
        found.numeric[:, -1] = 1
        return found

    return Rows(tuple(some(20, seed) for seed in range(devices)), some(400, 1000), some(400, 1001))


def small(profile: Profile, epsilon: float, *, rounds: int = 2) -> TrainingPath:
    return dataclasses.replace(point(profile, epsilon, POLICY, GROCERY, rounds=rounds).path, spec=small_spec())


@pytest.mark.parametrize("epsilon", [8.0, 4.0, 2.0, 1.0])
@pytest.mark.parametrize("profile", [USER, Profile.LAYERED])
def test_what_is_trained_costs_what_is_stated(profile: Profile, epsilon: float) -> None:
    made = point(profile, epsilon, POLICY, GROCERY)
    assert 0.99 * epsilon < cost(made.path.policy, 20) <= epsilon
    assert made.statements[0].unit is PrivacyUnit.USER
    assert made.statements[0].epsilon == pytest.approx(cost(made.path.policy, 20))
    assert [one.unit for one in made.statements[1:]] == [PrivacyUnit.RECORD] * (profile is Profile.LAYERED)


def test_the_shipped_documents_are_the_point_at_eight() -> None:
    releases = point(USER, 8.0, POLICY, GROCERY).path.policy.releases
    assert releases.training_update == POLICY.releases.training_update
    assert releases.calibration == POLICY.releases.calibration
    assert CHOICES[8.0].clipping_norm == POLICY.releases.training_update.clipping_norm


def test_record_level_points_have_record_level_statements() -> None:
    private, open_ = (point(Profile.RECORD_LOCAL, epsilon, POLICY, GROCERY) for epsilon in (2.0, math.inf))
    assert [one.unit for one in private.statements] == [PrivacyUnit.RECORD]
    assert private.statements[0].epsilon == pytest.approx(2.0, rel=0.01)
    assert open_.path.profile is Profile.NON_PRIVATE
    assert math.isinf(open_.statements[0].epsilon)


def test_without_noise_a_round_is_the_mean_of_clipped_updates() -> None:
    """To the rounding of 60 devices: each coordinate's error has at most a variance of 1/4 grid unit each."""
    path, spec = small(USER, math.inf), small_spec()
    rows, rng = small_rows(spec), SimulationNoise(1)
    model = path.config.model(spec)
    start = arrays.flatten(initial_arrays(model, spec))
    parameters = path.policy.user_training
    trainer = LocalTrainer(model=model, spec=spec, parameters=parameters, profile=USER, rng=rng, simulation=True)
    clipped = [clip_update(delta, 0.2).vector for delta in trainer.deltas(start, rows.train)]  # type: ignore[arg-type]
    assert any(np.linalg.norm(one) > 0.19 for one in clipped)
    found = path._mean_update(trainer, start, rows.train, rng)
    grid = path.policy.releases.training_update.grid
    np.testing.assert_allclose(found, np.mean(clipped, axis=0), atol=6 * 0.5 * grid / math.sqrt(60))


@pytest.mark.parametrize(("profile", "epsilon"), [(USER, 8.0), (Profile.LAYERED, 8.0), (Profile.RECORD_LOCAL, 8.0)])
def test_every_profile_trains_and_calibrates_where_it_can(profile: Profile, epsilon: float) -> None:
    path = small(profile, epsilon)
    before, after = path.run(small_rows(small_spec()), SimulationNoise(2))
    assert set(before) == {"later", "unseen"}
    assert bool(after) is (profile is not Profile.RECORD_LOCAL)


def test_a_noiseless_calibration_mends_both_views() -> None:
    """A base rate of 15 % for data of 30 %: predictions are far too low before, and within 15 % afterwards."""
    path = small(USER, math.inf, rounds=1)
    config = path.config.model_copy(update={"base_rate": 0.15, "server_learning_rate": 0.01})
    before, after = dataclasses.replace(path, config=config).run(small_rows(small_spec()), SimulationNoise(3))
    for view in ("personal", "contextual"):
        assert before["later"][view].calibration < 0.7
        assert after["later"][view].calibration == pytest.approx(1, abs=0.15)


def test_results_of_another_training_are_not_taken_over(tmp_path: Path) -> None:
    made = point(USER, 8.0, POLICY, GROCERY)
    curves = Curves({made.name: made.facts})
    curves.add(made.name, 0, small(USER, 8.0).run(small_rows(small_spec()), SimulationNoise(4)), 1.0)
    kept = json.loads(json.dumps(dataclasses.asdict(curves)))
    same, other = Curves({made.name: made.facts}), Curves({made.name: made.facts | {"noise_multiplier": 0.1}})
    same.take(kept)
    other.take(kept)
    assert same.has(made.name, 0)
    assert not other.has(made.name, 0)
    assert [passed for text, _, passed in targets(same) if text.startswith("AUC")] == [False]  # 60 devices, 2 rounds
    draw(same, tmp_path / "curve.png")
    assert {path.name for path in tmp_path.iterdir()} == {"curve.png", "curve.svg"}
