"""The trainer's way for many devices: which engine, what comes out under which profile, and errors in their places."""

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from client.training.local import LocalTrainer
from common.errors import InvalidLabel, PolicyError, ShapeMismatch, SpecMismatch, VaultCorrupt
from common.model.examples import Examples
from common.model.network import HashedLogistic, build_network
from common.privacy.clipping import clip_update
from common.privacy.parameters import LocalSgdParameters
from common.privacy.randomness import SecureNoise, SimulationNoise
from common.privacy.updates import ModelDelta, NoisedUpdate
from common.taxonomy import ModelFamily, Profile
from tests.training.worlds import make_examples, make_model, make_parameters, make_spec, start_vector

SPEC = make_spec()
SIZES = (7, 0, 30, 4, 4)
DEVICES = [make_examples(SPEC, size, seed) for seed, size in enumerate(SIZES)]
PLAIN = LocalSgdParameters(local_steps=2, expected_batch_size=40.0, learning_rate=0.1)


def make_trainer(
    profile: Profile = Profile.RECORD_LOCAL,
    family: ModelFamily = ModelFamily.WIDE_DEEP,
    **changes: Any,  # noqa: ANN401 - a value of any field of the trainer
) -> LocalTrainer:
    fields: dict[str, Any] = {
        "model": make_model(SPEC, family),
        "spec": SPEC,
        "parameters": make_parameters(local_steps=2, sampling_rate=0.6),
        "profile": profile,
        "rng": SimulationNoise(1),
        "device": torch.device("cpu"),
        "simulation": True,
    }
    return LocalTrainer(**fields | changes)


def start_of(trainer: LocalTrainer) -> np.ndarray:
    return start_vector(trainer.model, SPEC, 2)


def updates(trainer: LocalTrainer, loads: list[Any]) -> list[NoisedUpdate]:
    found = list(trainer.updates(start_of(trainer), loads))
    assert all(isinstance(one, NoisedUpdate) for one in found)
    return [one for one in found if isinstance(one, NoisedUpdate)]


def deltas(trainer: LocalTrainer, loads: list[Any]) -> list[np.ndarray]:
    found = list(trainer.deltas(start_of(trainer), loads))
    assert all(isinstance(one, ModelDelta) for one in found)
    return [one.vector for one in found if isinstance(one, ModelDelta)]


@pytest.mark.parametrize("family", ModelFamily)
@pytest.mark.parametrize("profile", [Profile.RECORD_LOCAL, Profile.NON_PRIVATE])
def test_updates_are_those_of_devices_trained_alone(family: ModelFamily, profile: Profile) -> None:
    """In float32: the same seeded draws, device by device, in order; and the same release."""
    alone = make_trainer(profile, family)
    expected = [alone.train(start_of(alone), examples) for examples in DEVICES]
    found = updates(make_trainer(profile, family), DEVICES)
    assert [one.release for one in found] == [one.release for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, atol=2e-6)
    assert np.abs(expected[0].vector).max() > 1e-3


@pytest.mark.parametrize("family", ModelFamily)
def test_deltas_without_noise_are_those_of_plain_sgd(family: ModelFamily) -> None:
    full = make_parameters(local_steps=2)
    plain = make_trainer(Profile.NON_PRIVATE, family, parameters=full)
    expected = [plain.train(start_of(plain), examples).vector for examples in DEVICES]
    for parameters in (full, PLAIN):
        found = deltas(make_trainer(Profile.USER_DISTRIBUTED, family, parameters=parameters), DEVICES)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_many_steps_lose_no_digits_of_a_large_bias() -> None:
    """float32, a bias near -2.2, 50 records in 5 steps of 10: within a few units in its last place of torch's own."""
    parameters = make_parameters(local_steps=5, sampling_rate=0.2, expected_batch_size=10.0)
    spec = make_spec(fields=0, numbers=32)
    model = make_model(spec, ModelFamily.WIDE_DEEP, contextual_weight=0.0, hidden_width=122)
    devices = [make_examples(spec, 50, seed) for seed in range(40)]
    start = start_vector(model, spec)
    changes: dict[str, Any] = {"model": model, "spec": spec, "parameters": parameters}
    together, alone = (make_trainer(Profile.USER_DISTRIBUTED, **changes) for _ in range(2))
    expected = [one for examples in devices for one in alone.deltas(start, [examples])]
    for one, other in zip(together.deltas(start, devices), expected, strict=True):
        assert isinstance(one, ModelDelta)
        assert isinstance(other, ModelDelta)
        np.testing.assert_allclose(one.vector, other.vector, rtol=0, atol=5e-7)


def test_layered_deltas_hold_the_noise_of_their_records() -> None:
    found = deltas(make_trainer(Profile.LAYERED), DEVICES)
    expected = updates(make_trainer(Profile.RECORD_LOCAL), DEVICES)
    assert all(np.array_equal(one, other.vector) for one, other in zip(found, expected, strict=True))
    assert clip_update(ModelDelta(found[0]), 0.01).clipping_norm == 0.01


@pytest.mark.parametrize("profile", [Profile.USER_DISTRIBUTED, Profile.LAYERED])
def test_a_single_device_gives_the_same_delta(profile: Profile) -> None:
    """By Opacus or torch, not by the cohort; float32."""
    alone = make_trainer(profile)
    found = deltas(alone, DEVICES[2:3])
    assert alone._engine is not None
    np.testing.assert_allclose(found[0], deltas(make_trainer(profile), DEVICES[2:4])[0], atol=2e-6)


def test_one_device_is_trained_by_opacus_and_many_without_it() -> None:
    """Opacus takes a second to import: a node that hosts many devices need not wait for it."""
    one, many = make_trainer(), make_trainer()
    updates(one, DEVICES[:1])
    updates(many, DEVICES)
    assert type(one._engine).__name__ == "DpSgd"
    assert many._engine is None
    code = "import sys, client.training.local; sys.exit('opacus' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


class OwnFamily(HashedLogistic):
    """A network that computes something else than its parent."""

    def forward(self, categorical: torch.Tensor, numeric: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = super().forward(categorical, numeric)
        return 2 * logits


def test_a_family_without_closed_form_is_trained_by_opacus(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(model: object, spec: object) -> torch.nn.Module:
        network = OwnFamily(SPEC.table_rows, len(SPEC.numeric)).to_empty(device="cpu")
        network.load_state_dict(build_network(make_model(SPEC), SPEC).state_dict())
        return network

    monkeypatch.setattr("client.training.local.build_network", build)
    trainer = make_trainer(family=ModelFamily.LOGISTIC)
    assert len(updates(trainer, DEVICES)) == len(DEVICES)
    assert type(trainer._engine).__name__ == "DpSgd"


# ── errors keep their places ─────────────────────────────────────────────────────────────────────────────────────────


def broken(examples: Examples) -> Examples:
    return dataclasses.replace(examples, labels=np.full(len(examples), 2, np.float32))


@pytest.mark.parametrize("memory_bytes_max", [1, 1 << 28])
def test_an_error_comes_back_in_its_place_and_harms_nobody(memory_bytes_max: int) -> None:
    foreign = make_examples(make_spec(buckets=5), 3)
    not_loaded = VaultCorrupt("unreadable")
    loads = [DEVICES[0], not_loaded, DEVICES[1], broken(DEVICES[2]), DEVICES[3], foreign, DEVICES[4]]
    trainer = make_trainer(memory_bytes_max=memory_bytes_max)
    found = list(trainer.updates(start_of(trainer), loads))
    assert found[1] is not_loaded
    assert isinstance(found[3], InvalidLabel)
    assert isinstance(found[5], SpecMismatch)
    sound = [one for one in found if isinstance(one, NoisedUpdate)]
    expected = updates(make_trainer(), [DEVICES[i] for i in (0, 1, 3, 4)])
    for one, other in zip(sound, expected, strict=True):  # nor did the failed ones draw noise
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"categorical": np.zeros((4, 3), np.int32)},
        {"numeric": np.zeros((4, 5), np.float64)},
        {"numeric": np.zeros((4, 4), np.float32)},
        {"labels": np.zeros(0, np.float32)},
        {"labels": np.zeros(3, np.float32)},
        {"categorical": np.full((4, 3), 12, np.int64)},
        {"numeric": np.full((4, 5), np.nan, np.float32)},
    ],
)
def test_what_train_refuses_is_refused_among_many(wrong: dict[str, np.ndarray]) -> None:
    """Joining must not hide what is wrong with one part: say a missing label made up for by a neighbour."""
    trainer = make_trainer()
    examples = dataclasses.replace(make_examples(SPEC, 4), **wrong)
    with pytest.raises(Exception) as refused:  # noqa: PT011 - whichever it is, it must be the same
        trainer.train(start_of(trainer), examples)
    found = list(trainer.updates(start_of(trainer), [DEVICES[0], examples, DEVICES[2]]))
    assert type(found[1]) is refused.type
    assert isinstance(found[0], NoisedUpdate)
    assert isinstance(found[2], NoisedUpdate)


def test_nobody_and_only_errors() -> None:
    trainer = make_trainer()
    start = start_of(trainer)
    assert list(trainer.updates(start, [])) == []
    errors = [VaultCorrupt("a"), VaultCorrupt("b"), VaultCorrupt("c")]
    assert list(trainer.updates(start, errors)) == errors
    assert list(trainer.updates(start, errors[:1])) == errors[:1]
    assert isinstance(next(trainer.updates(start, [broken(DEVICES[0])])), InvalidLabel)


def test_loads_are_read_as_windows_need_them() -> None:
    """A node with many devices must not hold all their examples at once."""
    read = 0

    def loads() -> Any:  # noqa: ANN401 - a generator
        nonlocal read
        for _ in range(500):
            read += 1
            yield make_examples(SPEC, 50)

    trainer = make_trainer(memory_bytes_max=1 << 20)
    found = trainer.updates(start_of(trainer), loads())
    next(found)
    assert read < 100
    assert sum(1 for _ in found) == 499


def test_wrong_weights_are_refused() -> None:
    trainer = make_trainer()
    with pytest.raises(ShapeMismatch):
        next(trainer.updates(start_of(trainer)[:-1], DEVICES))


# ── profiles ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("profile", Profile)
def test_each_profile_has_one_way_out(profile: Profile) -> None:
    """A private delta must not pass for a protected update, nor may user-level noise be left out."""
    trainer = make_trainer(profile)
    start = start_of(trainer)
    if profile in (Profile.RECORD_LOCAL, Profile.NON_PRIVATE):
        with pytest.raises(PolicyError):
            trainer.deltas(start, DEVICES)
    else:
        with pytest.raises(PolicyError):
            trainer.updates(start, DEVICES)
        with pytest.raises(PolicyError):
            trainer.train(start, DEVICES[0])


@pytest.mark.parametrize("profile", [Profile.RECORD_LOCAL, Profile.LAYERED, Profile.NON_PRIVATE])
def test_parameters_without_noise_are_for_user_level_protection_alone(profile: Profile) -> None:
    with pytest.raises(PolicyError, match="record-level"):
        make_trainer(profile, parameters=PLAIN)


@pytest.mark.parametrize("rng", [SimulationNoise(1), SecureNoise()])
def test_real_devices_refuse_what_protects_nobody(rng: SimulationNoise | SecureNoise) -> None:
    silent = make_parameters(noise_multiplier=0.0)
    with pytest.raises(PolicyError):
        make_trainer(Profile.LAYERED, parameters=silent, rng=rng, simulation=False)
    if rng.simulation:
        with pytest.raises(PolicyError, match="seeded"):
            make_trainer(Profile.USER_DISTRIBUTED, parameters=PLAIN, rng=rng, simulation=False)
    else:
        make_trainer(Profile.USER_DISTRIBUTED, parameters=PLAIN, rng=rng, simulation=False)
