"""Run-config: pyproject declares exactly the keys that the server understands, with the same defaults."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import MalformedInput
from common.model.feature_spec import FeatureSpec
from common.taxonomy import Profile
from policies import loader
from server.rounds.plan import Protection
from server.rounds.training_config import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
SPEC = FeatureSpec(name="none", version=1, categorical=(), numeric=())
BUDGET = loader.load().policies.privacy_budget
PROTECTION = Protection(BUDGET, Profile.USER_DISTRIBUTED, BUDGET.training)


def declared() -> dict[str, object]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"])


def test_pyproject_declares_the_keys_and_defaults_of_the_code() -> None:
    assert TrainingConfig.from_run_config(declared()) == TrainingConfig()
    assert set(declared()) == {name.replace("_", "-") for name in TrainingConfig.model_fields}


@pytest.mark.parametrize(
    "values",
    [{"num-server-rounds": 0}, {"server-optimiser": "sgd"}, {"unknown": 1}, {"base-rate": 1.5}, {"run-name": "a b"}],
)
def test_bad_values_are_named_and_not_echoed(values: dict[str, object]) -> None:
    with pytest.raises(MalformedInput, match="run-config") as caught:
        TrainingConfig.from_run_config(values)
    assert "a b" not in str(caught.value)
    assert "sgd" not in str(caught.value)


def test_privacy_parameters_are_the_policys() -> None:
    assert TrainingConfig().protection(BUDGET) == Protection(BUDGET, BUDGET.profile, BUDGET.training)
    changed = {"local-steps": 7, "local-learning-rate": 0.5, "local-expected-batch-size": 3.0}
    with pytest.raises(MalformedInput, match="non_private"):
        TrainingConfig.from_run_config(changed).protection(BUDGET)
    found = TrainingConfig.from_run_config(changed | {"profile": "non_private"}).protection(BUDGET)
    parameters = found.parameters
    assert (found.profile, found.noiseless, found.secure) == (Profile.NON_PRIVATE, True, False)
    assert (parameters.local_steps, parameters.learning_rate, parameters.expected_batch_size) == (7, 0.5, 3.0)


def test_the_digest_covers_what_shapes_the_result_and_not_the_waiting() -> None:
    base = TrainingConfig().digest(SPEC, PROTECTION)
    waiting = TrainingConfig(run_name="x", round_deadline_s=1, node_wait_s=0, round_attempts=3, evaluate=False)
    assert waiting.digest(SPEC, PROTECTION) == base
    assert TrainingConfig(model_seed=1).digest(SPEC, PROTECTION) != base
    assert TrainingConfig(calibrate=False).digest(SPEC, PROTECTION) != base
    more = BUDGET.training.model_copy(update={"local_steps": 2})
    assert TrainingConfig().digest(SPEC, replace(PROTECTION, parameters=more)) != base
    steps = BUDGET.model_copy(update={"user_training": BUDGET.user_training.model_copy(update={"local_steps": 2})})
    assert TrainingConfig().digest(SPEC, replace(PROTECTION, policy=steps)) != base
