"""Shares of a score add up to it exactly: weights times values in a linear model, Shapley values in any other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from client.attributions import Method, attribute, families_of, log_odds
from client.explanation import lines
from client.scoring import score
from client.store.placed import FamilyEffect, PlacedAd
from common.model.examples import Examples
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.model.network import initial_arrays, load_network
from common.taxonomy import FeatureBlock, ModelFamily
from common.wire.messages import ModelSpec

NAMES = ("price", "bought.item.any", "bought.category.any", "viewed.item.any", "said.item.any", "bought.activity.one")
SPEC = FeatureSpec(
    name="shares",
    version=1,
    categorical=(
        CategoricalField(name="item", block=FeatureBlock.CONTEXT, buckets=8),
        CategoricalField(name="viewed.last", block=FeatureBlock.PERSONAL, buckets=4),
        CategoricalField(name="unheard-of", block=FeatureBlock.PERSONAL, buckets=4),
    ),
    numeric=tuple(
        NumericField(name=name, block=FeatureBlock.CONTEXT if name == "price" else FeatureBlock.PERSONAL)
        for name in NAMES
    ),
)
FAMILIES = {
    "bought": ((), (1, 2)), "viewed": ((1,), (3,)), "said": ((), (4,)), "presence": ((), (5,)), "other": ((2,), ()),
}  # fmt: skip


def network(family: ModelFamily, seed: int) -> nn.Module:
    model = ModelSpec(family=family, spec_digest=SPEC.digest, base_rate=0.1, embedding_dim=2, hidden_width=6)
    rng = np.random.default_rng(seed)
    arrays = {n: rng.normal(0, 1, a.shape).astype(np.float32) for n, a in initial_arrays(model, SPEC).items()}
    return load_network(arrays, model, SPEC)


def examples(count: int, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(o, o + f.buckets, count) for o, f in zip(SPEC.offsets, SPEC.categorical, strict=True)])
    return Examples(
        categorical=ids.T.astype(np.int64),
        numeric=rng.normal(0, 1, (count, len(NAMES))).astype(np.float32),
        labels=np.zeros(0, np.float32),
        times=np.zeros(count),
        spec_digest=SPEC.digest,
    )


def test_columns_belong_to_families() -> None:
    assert {name: (one.categorical, one.numeric) for name, one in families_of(SPEC).items()} == FAMILIES


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list(ModelFamily)), st.integers(0, 1000))
def test_shares_add_up_to_the_score(family: ModelFamily, seed: int) -> None:
    made, some = network(family, seed), examples(5, seed)
    shares = attribute(made, some, SPEC)
    total = shares.base + sum(shares.effects.values())
    assert np.allclose(total, log_odds(score(made, some, SPEC)), atol=1e-6)
    assert shares.method is (Method.ADDITIVE if family is ModelFamily.LOGISTIC else Method.SHAPLEY)


def test_in_a_linear_model_a_share_is_weights_times_values() -> None:
    made, some = network(ModelFamily.LOGISTIC, 3), examples(4, 1)
    weights = dict(made.named_parameters())
    numbers, table = weights["numeric.weight"].detach().numpy()[0], weights["table.weight"].detach().numpy()[:, 0]
    shares = attribute(made, some, SPEC)
    for name, (categorical, numeric) in FAMILIES.items():
        exact = sum(numbers[j] * some.numeric[:, j] for j in numeric) + sum(
            table[some.categorical[:, j]] - table[SPEC.offsets[j]] for j in categorical
        )
        assert np.allclose(shares.effects[name], exact, atol=1e-5), name
    assert np.allclose(shares.base, weights["numeric.bias"].item() + table[SPEC.offsets].sum(), atol=1e-5)


def test_a_deep_models_shares_are_averages_over_all_orders() -> None:
    """Against the definition: every order of arrival, each family's gain when it arrives."""
    from client.attributions import Columns, without

    made, some = network(ModelFamily.WIDE_DEEP, 5), examples(3, 2)
    columns = families_of(SPEC)

    def value(present: Sequence[str]) -> np.ndarray:
        absent = sum((one for name, one in columns.items() if name not in present), Columns())
        return log_odds(score(made, without(some, absent, SPEC), SPEC))

    gains = dict.fromkeys(columns, 0.0)
    for order in itertools.permutations(columns):
        for place, name in enumerate(order):
            gains[name] = gains[name] + (value(order[: place + 1]) - value(order[:place])) / math.factorial(len(order))
    found = attribute(made, some, SPEC).effects
    for name, gain in gains.items():
        assert np.allclose(found[name], gain, atol=1e-6), name
    ablated = {name: value(list(columns)) - value([n for n in columns if n != name]) for name in columns}
    total = value(list(columns)) - value([])
    assert not np.allclose(sum(ablated.values()), total, atol=1e-2), (
        "control: leaving out one at a time adds up to less"
    )


def test_a_family_that_does_nothing_has_no_share() -> None:
    made, some = network(ModelFamily.WIDE_DEEP, 7), examples(3, 4)
    some.numeric[:, 4] = 0
    assert np.allclose(attribute(made, some, SPEC).effects["said"], 0, atol=1e-9)


def ad(**more: object) -> PlacedAd:
    fields: dict[str, object] = {
        "time": 1.0, "slot_id": "top", "creative_id": "c", "title": {"en": "Oats", "zh-CN": "燕麦"},
        "category": "snack bars", "advertiser": "Grocer", "payer": "Farmers", "model_version": 1,
        "policy_digest": "d" * 64, "score": 0.3, "contextual": 0.1, "propensity": 0.25, "signals": (),
        "decision_id": "dec_1", "base": -2.0, "method": "additive",
        "families": (FamilyEffect("page", 0.2), FamilyEffect("bought", 0.95), FamilyEffect("said", 0.0001)),
    }  # fmt: skip
    return PlacedAd(**(fields | more))  # type: ignore[arg-type]


def test_the_explanation_says_who_paid_how_what_spoke_for_it_and_what_noise_there_was() -> None:
    text = "\n".join(lines(ad(), "en"))
    parts = ("Oats", "Grocer", "Farmers", "Chosen on this device", "ε = 0", "30 %", "10 %", "exact")
    for part in (
        *parts,
        "what you bought: × 2.6",
        "with probability 25 %",
        "tags off 'snack bars'",
        "place.personalised",
    ):
        assert part in text, part
    assert "words you searched" not in text, "what made no difference is not named"
    noisy = "\n".join(lines(ad(mode="private_pick", epsilon=1.0, propensity=1.0, payer="Grocer"), "en"))
    for part in ("private pick", "noise in it: ε = 1", "no chance in it", "Shown for and paid by Grocer"):
        assert part in noisy, part


def test_the_explanation_in_chinese() -> None:
    text = "\n".join(lines(ad(method="shapley"), "zh-CN"))
    for part in ("广告：燕麦", "付费方：Farmers", "由本设备", "您购买过的：× 2.6", "所有加入顺序", "25 %"):
        assert part in text, part
    assert "Chosen" not in text


def test_an_ad_that_was_kept_before_there_were_shares_is_explained_too() -> None:
    text = "\n".join(lines(ad(families=(), method="", base=0.0), "en"))
    assert "odds owe" not in text


@pytest.mark.parametrize("tag", ["a'; rm -rf /", "two words", "plain"])
def test_a_tag_is_quoted_for_the_shell(tag: str) -> None:
    import shlex

    (line,) = [one for one in lines(ad(tags=(tag,)), "en") if "tags off" in one]
    assert shlex.split(line.partition("tags off ")[2].partition(". No")[0]) == [tag]
