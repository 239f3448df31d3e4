"""From a private delta to the wire form: clipping, noising, the integer grid, and what the types refuse."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as float_arrays

from client.training.contribution import contribution
from common.errors import NonFiniteValue, OutOfRange, PolicyError
from common.privacy.clipping import clip_update
from common.privacy.noise import noised_by_dp_sgd, unprotected
from common.privacy.updates import GRID, GRID_LIMIT, ModelDelta, NoisedUpdate
from common.taxonomy import Masking, Mechanism
from tests.training.worlds import make_parameters

ROOT = Path(__file__).resolve().parents[2]
finite = st.floats(allow_nan=False, allow_infinity=False)
vectors = float_arrays(np.float64, st.integers(0, 20), elements=finite)


def noised(vector: np.ndarray) -> NoisedUpdate:
    return noised_by_dp_sgd(ModelDelta(vector), make_parameters(), noised_steps=1)


@given(vector=vectors, clipping_norm=st.floats(1e-6, 1e6))
def test_a_clipped_update_is_never_longer_than_c(vector: np.ndarray, clipping_norm: float) -> None:
    before = vector.copy()
    clipped = clip_update(ModelDelta(vector), clipping_norm)
    largest = np.abs(clipped.vector).max(initial=0.0)
    scale = largest if largest > 0 else 1.0
    assert scale * np.linalg.norm(clipped.vector / scale) <= clipping_norm * (1 + 1e-15)
    assert np.array_equal(vector, before)
    assert clipped.clipping_norm == clipping_norm


def test_clipping_keeps_short_updates_and_directions() -> None:
    short, long = np.array([0.3, 0.4]), np.array([30.0, 40.0])
    assert np.array_equal(clip_update(ModelDelta(short), 0.5).vector, short)
    np.testing.assert_allclose(clip_update(ModelDelta(long), 0.5).vector, short, rtol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_update_is_refused_by_name(value: float) -> None:
    vector = np.array([0.0, value])
    with pytest.raises(NonFiniteValue):
        clip_update(ModelDelta(vector), 1.0)
    with pytest.raises(NonFiniteValue):
        contribution(noised(vector))


@pytest.mark.parametrize("clipping_norm", [0.0, -1.0, np.nan, np.inf])
def test_a_clipping_norm_that_bounds_nothing_is_refused(clipping_norm: float) -> None:
    with pytest.raises(ValueError, match="clipping norm"):
        clip_update(ModelDelta(np.zeros(2)), clipping_norm)


def test_the_release_is_that_of_the_parameters() -> None:
    parameters = make_parameters(sampling_rate=0.5, local_steps=3)
    delta = ModelDelta(np.zeros(2))
    release = noised_by_dp_sgd(delta, parameters, noised_steps=3).release
    assert (release.mechanism, release.noise_multiplier) == (Mechanism.POISSON_SUBSAMPLED_GAUSSIAN, 2.0)
    assert (release.sampling_rate, release.count) == (0.5, 3)
    assert unprotected(delta, parameters).release.mechanism is Mechanism.NONE


@pytest.mark.parametrize("noised_steps", [0, 2, 4])
def test_noise_off_or_drawn_twice_is_no_noised_update(noised_steps: int) -> None:
    with pytest.raises(PolicyError, match="3 steps"):
        noised_by_dp_sgd(ModelDelta(np.zeros(2)), make_parameters(local_steps=3), noised_steps=noised_steps)


@given(
    rows=st.lists(float_arrays(np.float64, 5, elements=st.floats(-1e6, 1e6)), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_the_grid_makes_sums_exact_in_any_order(rows: list[np.ndarray], order: np.random.Generator) -> None:
    on_grid = [contribution(noised(row)).vector for row in rows]
    for row, steps in zip(rows, on_grid, strict=True):
        assert steps.dtype == np.int64
        assert np.abs(steps * GRID - row).max() <= GRID / 2
    total = np.sum(on_grid, axis=0)
    order.shuffle(on_grid)
    assert np.array_equal(np.sum(on_grid, axis=0), total)


def test_a_contribution_carries_its_release() -> None:
    update = noised(np.array([GRID, -3 * GRID]))
    masked = contribution(update)
    assert masked.vector.tolist() == [1, -3]
    assert masked.release == update.release
    assert masked.masking is Masking.NONE


def test_beyond_the_grid_is_refused_by_name() -> None:
    limit = GRID_LIMIT * GRID
    assert contribution(noised(np.array([limit, -limit]))).vector.tolist() == [GRID_LIMIT, -GRID_LIMIT]
    with pytest.raises(OutOfRange):
        contribution(noised(np.array([limit + 1])))
    with pytest.raises(OutOfRange):
        contribution(noised(np.array([-1e300])))


def test_updates_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        noised(np.zeros(1)).vector = np.ones(1)  # type: ignore[misc]


SKIPS_A_STEP = """
import numpy as np
from client.training.contribution import contribution
from common.privacy.clipping import clip_update
from common.privacy.noise import noised_by_dp_sgd
from common.privacy.parameters import RecordDpParameters
from common.privacy.updates import ModelDelta

delta = ModelDelta(np.zeros(2))
def permitted(parameters: RecordDpParameters) -> None:
    contribution(noised_by_dp_sgd(delta, parameters, noised_steps=1))
contribution(delta)
contribution(clip_update(delta, 1.0))
"""


def test_mypy_refuses_to_send_what_is_not_noised(tmp_path: Path) -> None:
    source = tmp_path / "offender.py"
    source.write_text(SKIPS_A_STEP, encoding="utf-8")
    arguments = ["--follow-imports=silent", f"--cache-dir={tmp_path / 'cache'}", "--config-file=", str(source)]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    errors = [line for line in result.stdout.splitlines() if "error:" in line]
    assert [line.split(":")[1] for line in errors] == ["12", "13"], result.stdout + result.stderr
    assert all('expected "NoisedUpdate"' in line for line in errors)
