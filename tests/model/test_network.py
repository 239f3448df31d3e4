"""The two families: shapes, initial weights, and the way from arrays to probabilities."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from torch import nn

from client.scoring import score, score_contextual
from common.errors import NonFiniteValue, ShapeMismatch, SpecMismatch
from common.model import arrays
from common.model.feature_spec import FeatureSpec, NumericField
from common.model.network import (
    SCORING_BATCH,
    build_network,
    initial_arrays,
    load_network,
    probabilities,
    read_vector,
    state,
    with_view_shifts,
    write_vector,
)
from common.taxonomy import FeatureBlock, ModelFamily
from common.wire.messages import ModelSpec
from tests.training.worlds import make_examples, make_model, make_spec, start_vector

SPEC = make_spec()
families = pytest.mark.parametrize("family", ModelFamily)


@given(
    family=st.sampled_from(ModelFamily),
    fields=st.integers(0, 3),
    numbers=st.integers(0, 3),
    leading=st.lists(st.integers(0, 3), max_size=3),
)
def test_any_leading_dimensions(family: ModelFamily, fields: int, numbers: int, leading: list[int]) -> None:
    spec = make_spec(fields=fields, numbers=numbers)
    network = build_network(make_model(spec, family), spec)
    write_vector(network, start_vector(make_model(spec, family), spec, 1))
    count = math.prod(leading)
    examples = make_examples(spec, count)
    ids, values = torch.tensor(examples.categorical), torch.tensor(examples.numeric)
    with torch.inference_mode():
        together = network(ids.reshape(*leading, fields), values.reshape(*leading, numbers))
        apart = [float(network(ids[row], values[row])) for row in range(count)]
    assert together.shape == tuple(leading)
    np.testing.assert_allclose(together.reshape(-1).numpy(), apart, rtol=1e-4, atol=1e-5)


@families
def test_first_predictions_are_near_the_base_rate(family: ModelFamily) -> None:
    model = make_model(SPEC, family, base_rate=0.03)
    network = load_network(initial_arrays(model, SPEC), model, SPEC)
    predicted = score(network, make_examples(SPEC, 200), SPEC)
    np.testing.assert_allclose(predicted, 0.03, rtol=1e-5 if family is ModelFamily.LOGISTIC else 0.5)
    if family is ModelFamily.WIDE_DEEP:
        assert predicted.std() > 0  # a dead deep part would never learn


@families
def test_initial_weights_follow_the_public_seed_only(family: ModelFamily) -> None:
    def digest(seed: int) -> str:
        return arrays.digest(initial_arrays(make_model(SPEC, family, seed=seed), SPEC))

    torch.manual_seed(1)
    before, first = torch.get_rng_state(), digest(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert digest(3) == first
    assert (digest(4) == first) is (family is ModelFamily.LOGISTIC)  # whose start has nothing random in it


@families
def test_every_parameter_lies_in_an_embedding_or_a_linear_layer(family: ModelFamily) -> None:
    network = build_network(make_model(SPEC, family), SPEC)
    holders = [type(m) for m in network.modules() if list(m.parameters(recurse=False))]
    assert set(holders) == {nn.Embedding, nn.Linear}
    assert not list(network.buffers())


def test_sizes_are_as_configured() -> None:
    model = make_model(SPEC, ModelFamily.WIDE_DEEP, hidden_width=7, embedding_dim=2)
    shapes = {name: array.shape for name, array in initial_arrays(model, SPEC).items()}
    assert shapes == {
        "head.weight": (1, 7),
        "hidden.bias": (7,),
        "hidden.weight": (7, 3 * 2 + 5),
        "table.weight": (12, 2),
        "wide.numeric.bias": (1,),
        "wide.numeric.weight": (1, 5),
        "wide.table.weight": (12, 1),
    }


def test_the_hidden_layer_is_64_rectified_units_unless_said_otherwise() -> None:
    assert ModelSpec.model_fields["hidden_width"].default == 64
    network = build_network(make_model(SPEC, ModelFamily.WIDE_DEEP), SPEC)
    ids = torch.tensor(SPEC.offsets)
    with torch.no_grad():
        network.hidden.weight.zero_()  # type: ignore[union-attr, operator]
        network.hidden.bias.fill_(-1.0)  # type: ignore[union-attr, operator]
        logit = float(network(ids, torch.zeros(5)))
    assert logit == pytest.approx(math.log(0.1 / 0.9), rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_logistic_is_its_formula(scale: float) -> None:
    model = make_model(SPEC, wide_scale=scale)
    weights = arrays.unflatten(start_vector(model, SPEC, 1), initial_arrays(model, SPEC))
    examples = make_examples(SPEC, 40)
    ids = weights["table.weight"][examples.categorical, 0].sum(1)
    expected = expit(scale * ids + examples.numeric @ weights["numeric.weight"][0] + weights["numeric.bias"][0])
    np.testing.assert_allclose(score(load_network(weights, model, SPEC), examples, SPEC), expected, rtol=1e-5)


@families
def test_vector_order_is_that_of_the_arrays(family: ModelFamily) -> None:
    model = make_model(SPEC, family)
    network = build_network(model, SPEC)
    vector = start_vector(model, SPEC, 9)
    write_vector(network, vector)
    assert np.array_equal(read_vector(network), vector)
    assert np.array_equal(arrays.flatten(state(network)), vector)
    with pytest.raises(ShapeMismatch):
        write_vector(network, vector[1:])


@families
def test_scoring_in_batches_equals_scoring_at_once(family: ModelFamily) -> None:
    model = make_model(SPEC, family)
    network = load_network(arrays.unflatten(start_vector(model, SPEC, 1), initial_arrays(model, SPEC)), model, SPEC)
    examples = make_examples(SPEC, SCORING_BATCH + 3)
    predicted = score(network, examples, SPEC)
    assert predicted.shape == (len(examples),)
    tail = examples.select(np.arange(SCORING_BATCH - 2, SCORING_BATCH + 3))
    np.testing.assert_allclose(predicted[-5:], score(network, tail, SPEC), rtol=1e-5)
    assert probabilities(network, examples.categorical[:0], examples.numeric[:0]).shape == (0,)


@families
def test_contextual_scores_do_not_see_personal_columns(family: ModelFamily) -> None:
    model = make_model(SPEC, family)
    network = load_network(arrays.unflatten(start_vector(model, SPEC, 1), initial_arrays(model, SPEC)), model, SPEC)
    one, other = make_examples(SPEC, 30, seed=1), make_examples(SPEC, 30, seed=2)
    other.categorical[:, ~SPEC.personal_categorical] = one.categorical[:, ~SPEC.personal_categorical]
    other.numeric[:, ~SPEC.personal_numeric] = one.numeric[:, ~SPEC.personal_numeric]
    assert np.array_equal(score_contextual(network, one, SPEC), score_contextual(network, other, SPEC))
    assert not np.allclose(score(network, one, SPEC), score(network, other, SPEC))


def test_wrong_models_and_examples_are_refused_by_name() -> None:
    model, other = make_model(SPEC), make_spec(buckets=5)
    with pytest.raises(SpecMismatch):
        build_network(model, other)
    with pytest.raises(ShapeMismatch):
        load_network(initial_arrays(make_model(other), other), model, SPEC)
    poisoned = initial_arrays(model, SPEC)
    poisoned["numeric.bias"][0] = np.nan
    with pytest.raises(NonFiniteValue):
        load_network(poisoned, model, SPEC)
    with pytest.raises(SpecMismatch):
        score(build_network(model, SPEC), make_examples(other, 2), SPEC)


@families
def test_each_view_moves_by_its_own_shift(family: ModelFamily) -> None:
    one = NumericField(name="bought.activity.one", block=FeatureBlock.PERSONAL, center=0.5, scale=0.25)
    spec = FeatureSpec(name="with one", version=1, categorical=SPEC.categorical, numeric=(*SPEC.numeric, one))
    model, examples = make_model(spec, family), make_examples(spec, 50)
    examples.numeric[:, -1] = 2.0
    assert spec.personal_intercept == (len(SPEC.numeric), 2.0)
    named = arrays.unflatten(start_vector(model, spec, 3), initial_arrays(model, spec))
    moved = with_view_shifts(named, family, spec, personal=0.4, contextual=-0.3)
    for predict, shift in ((score, 0.4), (score_contextual, -0.3)):
        odds = [logit(predict(load_network(one, model, spec), examples, spec)) for one in (named, moved)]
        np.testing.assert_allclose(odds[1] - odds[0], shift, atol=1e-4)


def test_without_a_personal_intercept_both_views_move_alike() -> None:
    model, examples = make_model(SPEC), make_examples(SPEC, 50)
    named = initial_arrays(model, SPEC)
    moved = with_view_shifts(named, ModelFamily.LOGISTIC, SPEC, personal=0.4, contextual=-0.3)
    for predict in (score, score_contextual):
        odds = [logit(predict(load_network(one, model, SPEC), examples, SPEC)) for one in (named, moved)]
        np.testing.assert_allclose(odds[1] - odds[0], 0.4, atol=1e-4)
