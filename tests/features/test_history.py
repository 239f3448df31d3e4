"""Personal columns against a reference that looks at one candidate at a time and one event at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.behavior.events import BehaviourEvent, Click, Comment, Impression, Purchase, Search
from client.features.extract import examples_from, featurise
from client.features.history import DAY, SIGNALS, History
from common.errors import SpecMismatch
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.model.situation import Situation
from common.taxonomy import FeatureBlock

NAMES = [f"bought.{a}.{s}" for a in ("item", "category", "activity") for s in SIGNALS]


def spec(names: list[str] = NAMES) -> FeatureSpec:
    return FeatureSpec(
        name="test",
        version=1,
        categorical=(CategoricalField(name="item", block=FeatureBlock.CONTEXT, buckets=16),),
        numeric=tuple(NumericField(name=n, block=FeatureBlock.PERSONAL, clip=100) for n in names),
    )


def met(events: Sequence[Purchase] | Sequence[Impression], attribute: str, at: Situation) -> set[float]:
    """Distinct moments before the candidate's own at which its value was met."""
    before = [e for e in events if round(e.time * 1e3) < round(at.time * 1e3)]
    match attribute:
        case "activity":
            return {e.time for e in before}
        case "item":
            return {e.time for e in before if e.item == at.item}
        case _:
            return {e.time for e in before if e.attributes.get("category") == at.attributes.get("category")}


def reference(name: str, purchases: list[Purchase], impressions: list[Impression], at: Situation) -> float:
    """One signal, straight from its definition."""
    _, attribute, signal = name.split(".")
    times = met(purchases, attribute, at)
    count, total, shown = len(times), len(met(purchases, "activity", at)), len(met(impressions, attribute, at))
    age = (at.time - max(times)) / DAY if times else math.inf

    def since(days: float) -> int:
        return sum(t >= at.time - days * DAY for t in times)

    return {
        "any": float(count > 0),
        "count": math.log1p(count) / 3,
        "count30": math.log1p(since(30)) / 2,
        "count90": math.log1p(since(90)) / 2.5,
        "recent7": math.exp(-age / 7),
        "recent30": math.exp(-age / 30),
        "recent90": math.exp(-age / 90),
        "share": math.sqrt(count / max(total, 1)),
        "rate": (math.log((count + 0.1) / (total + 2)) + 4) / 2.5,
        "yield": math.log((count + 0.2) / (shown + 3)),
        "one": 1.0,
    }[signal]


days = st.integers(0, 200)
items = st.sampled_from("abcd")
categories = st.sampled_from("xy")


@given(
    bought=st.lists(st.tuples(days, items, categories), max_size=25),
    shown=st.lists(st.tuples(days, items, categories), max_size=25),
    candidates=st.lists(st.tuples(days, items, categories), min_size=1, max_size=8),
)
def test_columns_equal_the_definition(
    bought: list[tuple[int, str, str]], shown: list[tuple[int, str, str]], candidates: list[tuple[int, str, str]]
) -> None:
    purchases = [Purchase(time=d * DAY, app="shop", item=i, attributes={"category": c}) for d, i, c in sorted(bought)]
    impressions = [Impression(time=d * DAY, app="s", item=i, attributes={"category": c}) for d, i, c in sorted(shown)]
    situations = [Situation(d * DAY, i, {"category": c}) for d, i, c in candidates]
    history = History.of(sorted([*purchases, *impressions], key=lambda event: event.time))
    found = featurise(spec(), history, situations).numeric
    expected = [[reference(name, purchases, impressions, s) for name in NAMES] for s in situations]
    np.testing.assert_allclose(found, np.array(expected, np.float32), rtol=2e-5, atol=2e-6)


def test_an_outcome_never_feeds_its_own_features() -> None:
    events: list[BehaviourEvent] = [
        Impression(time=100.0, app="shop", item="a", outcome=1),
        Purchase(time=100.0, app="shop", item="a"),
    ]
    examples = examples_from(spec(["bought.item.any", "engaged.item.any", "shown.item.any"]), events)
    assert examples.numeric.tolist() == [[0.0, 0.0, 0.0]]
    assert examples.labels.tolist() == [1.0]


def test_a_later_impression_sees_the_earlier_outcome() -> None:
    events: list[BehaviourEvent] = [
        Impression(time=100.0, app="shop", item="a", outcome=1),
        Impression(time=101.0, app="shop", item="a", outcome=0),
    ]
    examples = examples_from(spec(["engaged.item.any", "shown.item.any"]), events)
    assert examples.numeric.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_responses_are_attributed_inside_the_window_only() -> None:
    events: list[BehaviourEvent] = [
        Impression(time=0.0, app="shop", item="a"),
        Impression(time=0.0, app="shop", item="b"),
        Impression(time=0.0, app="shop", item="c"),
        Click(time=3600.0, app="other", item="a"),
        Purchase(time=25 * 3600.0, app="shop", item="b"),
    ]
    assert examples_from(spec([]), events).labels.tolist() == [1.0, 0.0, 0.0]


def test_words_of_searches_and_comments_meet_the_candidates_attributes() -> None:
    events: list[BehaviourEvent] = [
        Search(time=10.0, app="shop", query="Cheap RUNNING shoes"),
        Comment(time=20.0, app="shop", item="z", text="I like green tea"),
    ]
    situations = [
        Situation(50.0, "1", {"category": "running gear"}),
        Situation(50.0, "2", {"category": "tea"}),
        Situation(50.0, "3", {"category": "toys"}),
    ]
    found = featurise(spec(["said.category.any"]), History.of(events), situations).numeric
    assert found[:, 0].tolist() == [1.0, 1.0, 0.0]


def test_a_yield_needs_no_other_field_of_the_shown_family() -> None:
    events: list[BehaviourEvent] = [
        Impression(time=1.0, app="shop", item="a", outcome=1),
        Impression(time=2.0, app="shop", item="a", outcome=0),
        Impression(time=3.0, app="shop", item="b", outcome=0),
    ]
    names = ["engaged.item.yield", "engaged.activity.yield"]
    found = featurise(spec(names), History.of(events), [Situation(3.0, "a"), Situation(4.0, "b")]).numeric
    logs = [[math.log(1.2 / 5), math.log(1.2 / 5)], [math.log(0.2 / 4), math.log(1.2 / 6)]]
    np.testing.assert_allclose(found, logs, rtol=1e-6)


def test_the_personal_intercept_is_found_and_absent_without_history() -> None:
    fields = spec(["bought.item.any", "bought.activity.one"])
    assert fields.personal_intercept == (1, 1.0)
    assert spec(["bought.item.any"]).personal_intercept is None
    examples = featurise(fields, History.of([]), [Situation(0.0, "a")])
    assert examples.numeric.tolist() == [[0.0, 1.0]]
    assert not fields.contextual(examples.categorical, examples.numeric)[1].any()


def test_the_contextual_view_hides_every_personal_column() -> None:
    history = History.of([Purchase(time=1.0, app="shop", item="a", attributes={"category": "x"})])
    examples = featurise(spec(), history, [Situation(DAY, "a", {"category": "x"})])
    assert examples.numeric.any()
    ids, numbers = spec().contextual(examples.categorical, examples.numeric)
    assert not numbers.any()
    assert ids.tolist() == examples.categorical.tolist()


@pytest.mark.parametrize("name", ["bought.item", "sold.item.any", "bought.item.median"])
def test_an_unknown_personal_feature_is_refused_by_name(name: str) -> None:
    with pytest.raises(SpecMismatch, match=name):
        featurise(spec([name]), History.of([]), [Situation(0.0, "a")])


def test_no_candidates_and_no_history() -> None:
    assert len(featurise(spec(), History.of([]), [])) == 0
    assert np.isfinite(featurise(spec(), History.of([]), [Situation(0.0, "a")]).numeric).all()
