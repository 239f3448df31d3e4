"""Private pick: what candidates are scored by, and what leaves the device."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from client.pick import own_scores
from common.errors import EgressRefused, StoreError
from common.taxonomy import DecisionMode, Role
from policies.placement.assemble import inputs
from policies.placement.document import PlacementPolicy, ScoreRule
from policies.placement.inputs import Inputs
from tests.device.picking import SLOT, Picking, Tripwire
from tests.service.world import APP


def test_what_must_not_be_shown_stays_in_the_domain_at_minus_infinity(picking: Picking) -> None:
    off = picking.listed.candidates[2]

    def predict(creatives: object) -> list[float]:
        return [0.1 for _ in creatives]  # type: ignore[attr-defined]

    told = own_scores(
        picking.listed,
        picking.equipment.policy,
        predict=predict,
        inputs=Inputs(blocked_advertisers=frozenset({off.advertiser})),
    )
    blocked = [one.advertiser == off.advertiser for one in picking.listed.candidates]
    assert [score == -math.inf for score in told] == blocked
    assert any(blocked)


def test_the_lists_rule_orders_candidates_whichever_policy_the_device_holds(picking: Picking) -> None:
    """What answers mean is fixed when the list is published; a policy that came later changes nothing here."""
    candidates = tuple(
        one.model_copy(update={"bid_micros": (1 + i) * 1_000_000}) for i, one in enumerate(picking.listed.candidates)
    )
    listed = picking.listed.model_copy(update={"candidates": candidates})
    policy = picking.equipment.policy
    by_value = policy.model_copy(update={"score": ScoreRule(kind="value")})

    def told(rule: str, held: PlacementPolicy) -> tuple[float, ...]:
        one = listed.model_copy(update={"ordered_by": rule})
        return own_scores(one, held, predict=lambda cs: [0.1] * len(cs), inputs=inputs(candidates, now=0.0))

    assert told("response", policy) == told("response", by_value) == (0.1,) * len(candidates)
    assert told("value", policy) == told("value", by_value) == tuple(0.1 * (1 + i) for i in range(len(candidates)))


def test_the_answer_depends_on_the_person_and_not_on_the_page(picking: Picking) -> None:
    scores = picking.picker._scores(picking.listed, picking.equipment)
    assert len(set(scores)) > 1
    assert all(math.isfinite(one) for one in scores)
    bodies = [
        json.loads(picking.picker.hand_over(picking.listed, picking.equipment, SLOT, context={"page": page}))
        for page in ("home", "recipes")
    ]
    assert bodies[0]["pick"] == bodies[1]["pick"]


def test_the_message_holds_nothing_else_of_the_person(picking: Picking) -> None:
    body = json.loads(picking.picker.hand_over(picking.listed, picking.equipment, SLOT, context={"page": "home"}))
    assert set(body) == {"kind", "handle", "slots", "context", "locale", "pick"}
    assert set(body["pick"]) == {"slot_group", "epoch", "index", "mechanism", "epsilon", "list_hash"}
    from client.journal import read_journal

    rows = [row for row in read_journal(picking.node.directory / "journal.db") if row.kind == "private_pick"]
    assert [(row.purpose, row.epsilon) for row in rows] == [("place.personalised", 1.0)]
    picking.picker.hand_over(picking.listed, picking.equipment, SLOT)
    rows = [row for row in read_journal(picking.node.directory / "journal.db") if row.kind == "private_pick"]
    assert [row.epsilon for row in rows] == [1.0, 0.0], "repeating is free, and said to be"


def test_an_answer_does_not_leave_without_its_charge(picking: Picking) -> None:
    given = picking.draw()
    message = picking.picker._message(picking.listed, picking.equipment, SLOT, context=None, locale="en")[0]
    for charge in (None, replace(given.charge, charge=99)):
        with pytest.raises((EgressRefused, StoreError)):
            picking.home.agent.send(message, charge=charge)


def test_the_service_chooses_by_the_answer_and_the_device_sends_nothing_else(picking: Picking) -> None:
    before = len(picking.home.wire.requests)
    made = picking.picker.decide(picking.listed, picking.equipment, SLOT, context={"page": "home"})
    (request,) = picking.home.wire.requests[before:]
    assert (made.mode, made.slots[0].reason) == (DecisionMode.PRIVATE_PICK, None)
    assert made.slots[0].creative is not None
    assert made.slots[0].tokens
    assert json.loads(request.content)["pick"] == picking.draw(Tripwire(1)).pick.model_dump(mode="json")
    again = picking.picker.decide(picking.listed, picking.equipment, SLOT, context={"page": "home"})
    assert (again.mode, picking.spent) == (DecisionMode.PRIVATE_PICK, 1.0)
    standing = picking.home.world.services.picks.standing()
    assert standing is not None
    assert standing.spends == ((1.0, 1),)


def test_a_backend_may_post_what_the_device_has_handed_over(picking: Picking) -> None:
    body = json.loads(picking.picker.hand_over(picking.listed, picking.equipment, SLOT))
    headers = picking.home.world.key(Role.APP_BACKEND, app_id=APP)
    answer = picking.home.world.http.post("/v1/decisions", json=body, headers=headers)
    assert answer.json()["mode"] == "private_pick"
