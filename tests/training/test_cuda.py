"""Training on CUDA equals training on the CPU. Runs where there is a GPU and says so where there is none."""

import numpy as np
import pytest
import torch

from client.training.local import LocalTrainer
from common.model.arrays import flatten
from common.model.network import choose_device, initial_arrays, load_network, probabilities
from common.privacy.randomness import SimulationNoise
from common.privacy.updates import NoisedUpdate
from common.taxonomy import ModelFamily, Profile
from tests.training.worlds import make_examples, make_model, make_parameters, make_spec

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")


def test_the_device_chosen_is_cuda_when_there_is_one() -> None:
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@needs_cuda
@pytest.mark.parametrize("family", ModelFamily)
@pytest.mark.parametrize("profile", [Profile.RECORD_LOCAL, Profile.NON_PRIVATE])
@pytest.mark.parametrize("records", [0, 37])
def test_cuda_gives_the_update_of_the_cpu(family: ModelFamily, profile: Profile, records: int) -> None:
    spec = make_spec()
    model = make_model(spec, family)
    start = flatten(initial_arrays(model, spec))
    parameters = make_parameters(local_steps=2, physical_batch_size=10, sampling_rate=0.7)

    def update(device: str) -> np.ndarray:
        trainer = LocalTrainer(
            model=model,
            spec=spec,
            parameters=parameters,
            profile=profile,
            rng=SimulationNoise(1),
            device=torch.device(device),
            simulation=True,
        )
        return trainer.train(start, make_examples(spec, records)).vector

    np.testing.assert_allclose(update("cuda"), update("cpu"), atol=2e-6)


@needs_cuda
@pytest.mark.parametrize("family", ModelFamily)
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("profile", [Profile.RECORD_LOCAL, Profile.NON_PRIVATE])
def test_a_cohort_on_cuda_gives_the_updates_of_the_cpu(family: ModelFamily, steps: int, profile: Profile) -> None:
    spec = make_spec()
    model = make_model(spec, family)
    start = flatten(initial_arrays(model, spec))
    parameters = make_parameters(local_steps=steps, physical_batch_size=10, sampling_rate=0.7)
    devices = [make_examples(spec, size, seed) for seed, size in enumerate((37, 0, 5, 12))]

    def updates(device: str) -> list[np.ndarray]:
        trainer = LocalTrainer(
            model=model,
            spec=spec,
            parameters=parameters,
            profile=profile,
            rng=SimulationNoise(1),
            device=torch.device(device),
            simulation=True,
        )
        found = list(trainer.updates(start, devices))
        return [one.vector for one in found if isinstance(one, NoisedUpdate)]

    on_cuda, on_cpu = updates("cuda"), updates("cpu")
    assert len(on_cuda) == len(devices)
    for one, other in zip(on_cuda, on_cpu, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@needs_cuda
@pytest.mark.parametrize("family", ModelFamily)
def test_cuda_gives_the_scores_of_the_cpu(family: ModelFamily) -> None:
    spec = make_spec()
    model = make_model(spec, family)
    named, examples = initial_arrays(model, spec), make_examples(spec, 50)
    on_cpu, on_cuda = (load_network(named, model, spec, torch.device(device)) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(
        probabilities(on_cuda, examples.categorical, examples.numeric),
        probabilities(on_cpu, examples.categorical, examples.numeric),
        atol=1e-6,
    )
