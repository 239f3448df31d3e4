"""Why this ad: effects are what the score loses without a group of signals, and only personal groups are named."""

from __future__ import annotations

import math

import numpy as np
import pytest

from client.why import SIGNALS_MAX, explain
from common.model.examples import Examples
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.model.network import initial_arrays, load_network
from common.taxonomy import FeatureBlock, ModelFamily
from common.wire.messages import ModelSpec

NAMES = ("bought.item.count30", "bought.item.any", "viewed.category.any", "bought.activity.one", "price")
SPEC = FeatureSpec(
    name="why",
    version=1,
    categorical=(CategoricalField(name="item", block=FeatureBlock.CONTEXT, buckets=8),),
    numeric=tuple(
        NumericField(name=name, block=FeatureBlock.CONTEXT if name == "price" else FeatureBlock.PERSONAL)
        for name in NAMES
    ),
)
MODEL = ModelSpec(family=ModelFamily.LOGISTIC, spec_digest=SPEC.digest, base_rate=0.1)


def network(*weights: float):  # type: ignore[no-untyped-def]
    arrays = {name: np.zeros_like(array) for name, array in initial_arrays(MODEL, SPEC).items()}
    (name,) = [name for name, array in arrays.items() if array.size == len(NAMES)]
    arrays[name] = np.array(weights, np.float32).reshape(arrays[name].shape)
    return load_network(arrays, MODEL, SPEC)


def examples(*rows: tuple[float, ...]) -> Examples:
    return Examples(
        categorical=np.tile(SPEC.offsets, (len(rows), 1)),
        numeric=np.array(rows, np.float32).reshape(len(rows), len(NAMES)),
        labels=np.zeros(0, np.float32),
        times=np.zeros(len(rows)),
        spec_digest=SPEC.digest,
    )


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_a_groups_effect_is_the_weight_of_its_columns_in_a_linear_model() -> None:
    (why,) = explain(network(0.5, 0.25, -0.4, 3.0, 2.0), examples((1, 1, 1, 1, 1)), SPEC)
    found = {(one.family, one.attribute): one.effect for one in why.signals}
    assert found == {
        ("bought", "item"): pytest.approx(0.75, abs=1e-3),
        ("viewed", "category"): pytest.approx(-0.4, abs=1e-3),
    }
    # The constant of every personal view is no signal, but part of the difference to the page alone.
    assert log_odds(why.score) - log_odds(why.contextual) == pytest.approx(0.5 + 0.25 - 0.4 + 3.0, abs=1e-3)


def test_each_example_has_its_own_reasons_the_strongest_first() -> None:
    first, second = explain(network(1.0, 0, 2.0, 0, 0), examples((1, 0, 0.1, 1, 0), (0, 0, 1, 1, 0)), SPEC)
    assert [(one.family, one.attribute) for one in first.signals] == [("bought", "item"), ("viewed", "category")]
    assert [(one.family, one.attribute) for one in second.signals] == [("viewed", "category")]
    assert len(first.signals) <= SIGNALS_MAX


def test_no_history_no_reasons() -> None:
    (why,) = explain(network(1.0, 1.0, 1.0, 0.0, 1.0), examples((0, 0, 0, 0, 1)), SPEC)
    assert why.signals == ()
    assert why.score == pytest.approx(why.contextual)
    assert explain(network(0, 0, 0, 0, 0), examples(), SPEC) == []
