"""g made ready gives g's own answers: random catalogues, policies, ties, pacing, floors, least bids and blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from common.wire.messages import Creative, SlotRequest
from common.wire.placement import ViewCap
from policies.placement import assemble
from policies.placement.decide import decide as g
from policies.placement.document import PlacementPolicy
from policies.placement.inputs import Inputs
from server.decisions.board import board

STRATEGIES = [
    {"kind": "greedy"},
    {"kind": "threshold", "score_min": 0.4},
    {"kind": "top_k", "k": 3},
    {"kind": "softmax", "temperature": 0.2, "k": 4},
    {"kind": "epsilon_greedy", "exploration": 0.3, "k": 4},
    {"kind": "thompson", "k": 3, "cells": 50},
]
CATEGORIES = ["snacks", "snacks", "snacks", "toys", "gambling"]
SCORES = st.sampled_from([0.25, 0.4, 0.5, 0.5, 0.5, 0.9])  # with ties on purpose


@st.composite
def creatives(draw: st.DrawFn) -> list[Creative]:
    count = draw(st.integers(0, 3) | st.integers(6, 12))
    return [
        Creative(
            creative_id=f"c{draw(st.integers(0, 20))}",
            item_id=str(number),
            attributes={"page": draw(st.sampled_from(["home", "home", "news"]))},
            category=draw(st.sampled_from(CATEGORIES)),
            advertiser=draw(st.sampled_from(["A", "B"])),
            payer="P",
            title={"en": "t"},
            description={"en": "d"},
            image_url="/x.svg",
            image_alt={"en": "a"},
            landing_url="https://x.example/",
            label={"en": "Ad"},
            campaign_id=draw(st.sampled_from([None, "k1", "k2"])),
            bid_micros=draw(st.sampled_from([0, 1_000_000, 1_000_000, 2_000_000])),
            starts_at=draw(st.sampled_from([None, None, None, None, 50, 150])),
            ends_at=draw(st.sampled_from([None, None, None, None, 160, 90])),
            caps=draw(st.sampled_from([(), (), (), (), (), (), (ViewCap(views_max=1, window_hours=24),)])),
        )
        for number in range(count)
    ]


@st.composite
def policies(draw: st.DrawFn) -> PlacementPolicy:
    return PlacementPolicy.model_validate(
        {
            "version": 1,
            "name": "random",
            "eligibility": {
                "denied_categories": ["gambling"],
                "languages": ["en"],
                "match_context": draw(st.sampled_from([[], ["page"]])),
            },
            "caps": draw(st.sampled_from([[], [], [{"scope": "advertiser", "views_max": 1, "window_hours": 1}]])),
            "score": draw(st.sampled_from([{"kind": "response"}, {"kind": "value", "floor": 0.3}])),
            "strategy": draw(st.sampled_from(STRATEGIES)),
        }
    )


SLOTS = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(
    lambda counts: tuple(SlotRequest(slot_id=f"s{i}", count=count) for i, count in enumerate(counts))
)


@settings(max_examples=300, deadline=None)
@given(
    creatives(),
    policies(),
    SLOTS,
    st.just({}) | st.dictionaries(st.sampled_from(["k1", "k2", "A"]), st.sampled_from([0.0, 0.3, 1.0])),
    st.just({}) | st.dictionaries(st.sampled_from(["s0", "s1"]), st.sampled_from([0.2, 0.45])),
    st.lists(SCORES, min_size=21, max_size=21),
    st.integers(0, 1000),
    st.sampled_from([frozenset(), frozenset({"Toys"})]),
    st.just({}) | st.dictionaries(st.sampled_from(["s0", "s1"]), st.sampled_from([0, 1, 1_000_001, 3_000_000])),
)
def test_board_is_g(
    catalogue: list[Creative],
    policy: PlacementPolicy,
    slots: tuple[SlotRequest, ...],
    pacing: dict[str, float],
    floors: dict[str, float],
    scores: list[float],
    salt: int,
    blocked: frozenset[str],
    least_bids: dict[str, int],
) -> None:
    def score(candidates: Sequence[Creative]) -> list[float]:
        return [scores[int(candidate.creative_id[1:])] for candidate in candidates]

    def told(**more: object) -> Inputs:
        return assemble.inputs(catalogue, now=100.0, blocked_categories=blocked, context={"page": "home"}, **more)

    inputs = told(pacing=pacing, floors=floors, least_bids=least_bids)
    expected = g(policy, catalogue, score, slots, salt=f"dec{salt}", inputs=inputs)
    ready = board(policy, catalogue, score, told())
    assert ready.decide(slots, salt=f"dec{salt}", pacing=pacing, floors=floors, least_bids=least_bids) == expected
    shape = ready.shape(slots, salt=f"dec{salt}", pacing=pacing)
    if shape is not None:
        assert shape.placements == g(policy, catalogue, score, slots, salt=f"dec{salt}", inputs=told(pacing=pacing))
        assert ready.shape(slots, salt=f"dec{salt}", pacing=pacing) is shape


def test_a_board_ends_where_a_creative_begins_or_ends() -> None:
    policy = PlacementPolicy.model_validate(
        {
            "version": 1,
            "name": "n",
            "eligibility": {"denied_categories": []},
            "strategy": {"kind": "greedy"},
        }
    )
    one = Creative(
        creative_id="c1",
        item_id="1",
        attributes={},
        category="toys",
        advertiser="A",
        payer="P",
        title={"en": "t"},
        description={"en": "d"},
        image_url="/x.svg",
        image_alt={"en": "a"},
        landing_url="https://x.example/",
        label={"en": "Ad"},
        starts_at=150,
        ends_at=200,
    )

    def until(now: float) -> float:
        return board(policy, [one], lambda c: [0.5] * len(c), assemble.inputs([one], now=now)).until

    assert [until(100.0), until(150.0), until(200.0)] == [150, 200, math.inf]
