"""A slot's least bid takes part in g: before the pool, per slot, in every strategy; nothing changes without one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.wire.messages import Creative, SlotRequest
from policies.placement.assemble import inputs
from policies.placement.decide import decide, decision, filtered, order_of
from policies.placement.document import PlacementPolicy
from policies.placement.protocol import Decision, PlacementReason
from policies.placement.record import DecisionRecord, recorded, replay
from policies.placement.slates import slates
from tests.placement.made import creative

STRATEGIES = [
    {"kind": "greedy"},
    {"kind": "threshold", "score_min": 0.2},
    {"kind": "top_k", "k": 2},
    {"kind": "softmax", "temperature": 0.2, "k": 2},
    {"kind": "epsilon_greedy", "exploration": 0.5, "k": 2},
    {"kind": "thompson", "k": 2, "cells": 50},
]
SLOT = (SlotRequest(slot_id="a"),)


def policy(strategy: dict[str, object], **more: object) -> PlacementPolicy:
    eligibility = {"denied_categories": [], "require_label": False}
    body = {"version": 1, "name": "n", "eligibility": eligibility, "strategy": strategy} | more
    return PlacementPolicy.model_validate(body)


def offered(*bids: int) -> tuple[Creative, ...]:
    return tuple(creative(f"c{i}").model_copy(update={"bid_micros": bid}) for i, bid in enumerate(bids))


def falling(candidates: Sequence[Creative]) -> list[float]:
    """The earlier, the better: c0 is the best of all."""
    return [0.9 - int(one.creative_id[1:]) / 10 for one in candidates]


def drawn(made: Decision) -> list[tuple[object, ...]]:
    """Everything but the word for a position that stays empty."""
    return [(turn.choices, turn.probabilities, turn.placement.creative_id) for turn in made.turns]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda one: one["kind"])
def test_a_cheap_best_one_does_not_hide_a_dearer_one(strategy: dict[str, object]) -> None:
    """Four cheap ones are better, and more than any pool; the page takes the fifth or nothing."""
    creatives, rule = offered(1, 1, 1, 1, 5), policy(strategy)
    (placed,) = decide(rule, creatives, falling, SLOT, salt="x", inputs=inputs(creatives, now=0, least_bids={"a": 5}))
    assert (placed.creative_id, placed.propensity) == ("c4", pytest.approx(1))
    (free,) = decide(rule, creatives, falling, SLOT, salt="x", inputs=inputs(creatives, now=0))
    assert free.creative_id != "c4", "the control: compared after the choice, the slot would have stayed empty"
    (none,) = decide(rule, creatives, falling, SLOT, salt="x", inputs=inputs(creatives, now=0, least_bids={"a": 6}))
    assert (none.creative_id, none.reason) == (None, PlacementReason.BELOW_THRESHOLD)


def test_each_slot_has_its_own() -> None:
    creatives = offered(1, 2, 3, 4)
    slots = tuple(SlotRequest(slot_id=name) for name in ("dear", "cheap", "free"))
    told = inputs(creatives, now=0, least_bids={"dear": 4, "cheap": 2})
    placed = decide(policy({"kind": "top_k", "k": 1}), creatives, falling, slots, salt="x", inputs=told)
    assert [one.creative_id for one in placed] == ["c3", "c1", "c0"], "a pool of one, of each slot's own"


def test_least_bids_and_least_scores_hold_together() -> None:
    creatives = offered(1, 5)
    rule = policy({"kind": "greedy"}, score={"kind": "response", "floor": 0.85})
    (placed,) = decide(rule, creatives, falling, SLOT, salt="x", inputs=inputs(creatives, now=0, least_bids={"a": 5}))
    assert placed.creative_id is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=0, max_size=7),
    st.sampled_from(STRATEGIES),
    st.lists(st.integers(1, 2), min_size=1, max_size=2),
    st.sampled_from([(), ({"scope": "advertiser", "views_max": 1, "window_hours": 1},)]),
    st.integers(0, 50),
)
def test_asking_for_nothing_is_asking_nothing(
    bids: list[int], strategy: dict[str, object], counts: list[int], caps: tuple[object, ...], salt: int
) -> None:
    creatives, rule = offered(*bids), policy(strategy, caps=caps)
    slots = tuple(SlotRequest(slot_id=f"s{i}", count=count) for i, count in enumerate(counts))
    plain = decision(rule, creatives, falling, slots, salt=str(salt), inputs=inputs(creatives, now=0))
    told = inputs(creatives, now=0, least_bids={"s0": 0})
    same = decision(rule, creatives, falling, slots, salt=str(salt), inputs=told)
    assert drawn(same) == drawn(plain)
    asked = inputs(creatives, now=0, least_bids={slot.slot_id: 2 for slot in slots})
    for placed in decide(rule, creatives, falling, slots, salt=str(salt), inputs=asked):
        assert placed.creative_id is None or bids[int(placed.creative_id[1:])] >= 2


def test_propensities_stay_exact_and_a_record_replays() -> None:
    creatives, rule = offered(1, 5, 1, 5, 5), policy({"kind": "softmax", "temperature": 0.3, "k": 2})
    slots = (SlotRequest(slot_id="a"), SlotRequest(slot_id="b"))
    told = inputs(creatives, now=0, least_bids={"a": 5})
    left, _ = filtered(rule, creatives, told, "x")
    every = slates(rule, order_of(rule, left, falling(left), told, "x"), slots, told)
    assert sum(every.values()) == pytest.approx(1)
    assert {slate[0] for slate in every} == {"c1", "c3"}
    found, record = recorded(
        rule, creatives, falling, slots, salt="x", inputs=told, policy_digest="0" * 64, catalogue_version=1
    )
    shown = tuple(one.creative_id for one in found.placements)
    assert found.slate_propensity == pytest.approx(every[shown])
    kept = DecisionRecord.model_validate_json(record.model_dump_json())
    again = replay(kept, rule, creatives, policy_digest="0" * 64, catalogue_version=1)
    assert again.placements == found.placements
