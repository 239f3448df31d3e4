"""G's inputs are put together in one way: bids and campaigns from the catalogue, the rest as it was told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import betainc, betaincinv

from common.wire.messages import Creative, SlotRequest
from policies.placement import beta_table
from policies.placement.assemble import Offers, campaign_of, inputs, offers
from policies.placement.decide import decide, decision
from policies.placement.eligibility import eligible, running
from policies.placement.inputs import Bid, Shown
from policies.placement.protocol import Step
from tests.placement.made import GREEDY, creative, policy

ONE = [SlotRequest(slot_id="s", count=3)]
A = creative("a", advertiser="x").model_copy(
    update={"campaign_id": "spring", "bid_micros": 5, "tags": ("Sweet-Things",)}
)
B = creative("b", advertiser="x").model_copy(update={"campaign_id": "autumn", "bid_micros": 9})
C = creative("c", advertiser="y", category="Tea").model_copy(update={"personal": False})
ALL = (A, B, C)


def flat(candidates: Sequence[Creative]) -> list[float]:
    return [0.5] * len(candidates)


def shown(**told: object) -> set[str | None]:
    placed = decide(GREEDY, ALL, flat, ONE, salt="x", inputs=inputs(ALL, now=100.0, **told))  # type: ignore[arg-type]
    return {one.creative_id for one in placed} - {None}


def test_the_catalogue_gives_campaigns_and_bids() -> None:
    made = offers(ALL)
    assert made.campaigns == {"a": "spring", "b": "autumn", "c": "y"}
    assert made.bids == {"a": Bid(5), "b": Bid(9)}
    assert [campaign_of(one) for one in ALL] == ["spring", "autumn", "y"]
    twice = offers([A, A.model_copy(update={"bid_micros": 7})])
    assert twice == Offers({"a": "spring"}, {"a": Bid(5)})
    assert inputs(ALL, now=1.0) == inputs(made, now=1.0)


def test_bids_order_by_value() -> None:
    by_value = policy({"kind": "greedy"}, score={"kind": "value"})
    placed = decide(by_value, ALL, flat, ONE, salt="x", inputs=inputs(ALL, now=1.0))
    assert [one.creative_id for one in placed] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ({}, {"a", "b", "c"}),
        ({"stopped": ["spring"]}, {"b", "c"}),
        ({"stopped": ["x"]}, {"c"}),
        ({"stopped": ["y"]}, {"a", "b"}),
        ({"stopped": ["c"]}, {"a", "b"}),
        ({"refused_tags": ["sweet things"]}, {"b", "c"}),
        ({"refused_tags": ["TEA"]}, {"a", "b"}),
        ({"refused_tags": ["x"]}, {"a", "b", "c"}),
        ({"personal": True}, {"a", "b"}),
        ({"pacing": {"autumn": 0.0}}, {"a", "c"}),
        ({"pacing": {"x": 0.0}}, {"a", "b", "c"}),
        ({"blocked_categories": ["tea"]}, {"a", "b"}),
        ({"blocked_advertisers": ["x"]}, {"c"}),
        ({"floors": {"s": 0.6}}, set()),
    ],
)
def test_each_input_has_its_effect(told: dict[str, object], left: set[str]) -> None:
    assert shown(**told) == left


def test_caps_count_by_the_campaign_that_the_catalogue_names() -> None:
    rules = policy({"kind": "greedy"}, caps=[{"scope": "campaign", "views_max": 1, "window_hours": 1}])
    seen = Shown("elsewhere", "spring", "x", "snacks", 50.0)
    placed = decide(rules, ALL, flat, ONE, salt="x", inputs=inputs(ALL, now=100.0, shown=[seen]))
    assert {one.creative_id for one in placed} == {"b", "c", None}


def test_a_switched_off_topic_is_told_as_safety() -> None:
    made = decision(GREEDY, ALL, flat, ONE, salt="x", inputs=inputs(ALL, now=1.0, refused_tags=["tea"]))
    assert made.dropped[Step.SAFETY] == 1


def test_a_stopped_campaign_is_not_its_neighbour() -> None:
    assert running(ALL, {"spring"}) == (B, C)
    assert running(ALL, {"x"}) == (C,)
    assert running(ALL, set()) == ALL


def test_the_last_catalogues_filter_is_remembered_and_never_mistaken() -> None:
    rules, others = GREEDY.eligibility, GREEDY.eligibility.model_copy(update={"denied_categories": ("tea",)})
    assert eligible(ALL, rules) is eligible(ALL, rules)
    assert eligible(ALL, others) == (A, B)
    assert eligible(ALL, rules) == ALL
    assert eligible((B, C), rules) == (B, C)
    assert eligible([A, B], rules) == (A, B)
    growing = [A]
    assert eligible(growing, rules) == (A,)
    growing.append(B)
    assert eligible(growing, rules) == (A, B), "a list may change: it is not remembered"


def table_error(nodes: int, draws: int = 400) -> float:
    """The worst distance to the exact integral, over posteriors of 2 to 100,000 observations."""
    rng, worst = np.random.default_rng(5), 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beta_table, "NODES", nodes)
        beta_table._rows.clear()
        for _ in range(draws):
            strength, mean = 10 ** rng.uniform(0.3, 5), rng.choice([rng.beta(1, 40), rng.uniform(0, 1)])
            alpha, beta = np.array([strength * mean]), np.array([strength * (1 - mean)])
            spans = betaincinv(alpha, beta, 1e-8), betaincinv(alpha, beta, 1 - 1e-8)
            places = np.sort(np.concatenate([rng.uniform(0, 1, 50), rng.uniform(spans[0][0], spans[1][0], 200)]))[None]
            found = beta_table.below(alpha, beta, places, spans)
            worst = max(worst, float(np.abs(found - betainc(alpha[:, None], beta[:, None], places)).max()))
            assert (np.diff(found) >= 0).all()
        beta_table._rows.clear()
    return worst


def test_tables_of_beta_posteriors_are_close_to_the_integral() -> None:
    assert table_error(beta_table.NODES) < 2e-5
    assert table_error(12) > 1e-4, "control: a coarse table is not"


def test_a_table_is_remembered_by_its_posterior() -> None:
    beta_table._rows.clear()
    alpha, beta, places = np.array([2.0, 30.0]), np.array([90.0, 60.0]), np.tile(np.linspace(0, 1, 9), (2, 1))
    spans = betaincinv(alpha, beta, 1e-8), betaincinv(alpha, beta, 1 - 1e-8)
    first = beta_table.below(alpha, beta, places, spans)
    assert set(beta_table._rows) == {(2.0, 90.0), (30.0, 60.0)}
    assert (beta_table.below(alpha, beta, places, spans) == first).all()
    assert (beta_table.below(alpha[1:], beta[1:], places[1:], (spans[0][1:], spans[1][1:])) == first[1:]).all()
