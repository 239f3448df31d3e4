"""The owner's switch for private picks alone: in force at the next decision, and nothing comes back into the budget."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from client.device import OWNER
from client.pick import before
from common.errors import EgressRefused, ServiceUnreachable
from common.privacy.randomness import SimulationNoise
from common.taxonomy import DecisionMode, Purpose, RefusalReason, Role
from policies.consent import Permit
from tests.device.picking import SLOT, Picking, Tripwire
from tests.service.world import APP


def posted(picking: Picking, body: bytes) -> tuple[str, str | None]:
    """What the app's backend is answered for a pick that it was handed."""
    world = picking.home.world
    backend = world.key(Role.APP_BACKEND, app_id=APP) | {"content-type": "application/json"}
    answer: dict[str, Any] = world.http.post("/v1/decisions", content=body, headers=backend).json()
    return answer["mode"], answer["slots"][0]["reason"]


def refused(picking: Picking) -> RefusalReason:
    with pytest.raises(EgressRefused) as found:
        picking.draw(Tripwire(1))
    return found.value.reason


def test_a_stop_ends_kept_answers_here_and_at_the_service_and_refunds_nothing(picking: Picking) -> None:
    handed = picking.picker.hand_over(picking.listed, picking.equipment, SLOT)
    assert posted(picking, handed) == ("private_pick", None)
    picking.picker.stop()
    assert posted(picking, handed) == ("contextual", "pick-stopped"), "what an app kept is used no more"
    assert refused(picking) is RefusalReason.PICK_STOPPED
    with pytest.raises(EgressRefused):
        before(picking.node, OWNER, picking.listed)
    picking.reopen()
    assert refused(picking) is RefusalReason.PICK_STOPPED, "it outlives the process"
    assert picking.node.picks.find(OWNER, "default", picking.listed.epoch) is None
    assert picking.spent == 1.0
    standing = picking.home.world.services.picks.standing()
    assert standing is not None
    assert standing.spends == ((1.0, 1),)
    permit = picking.node.gate.permits(OWNER, Purpose.PLACE_PERSONALISED)
    assert isinstance(permit, Permit), "ads that the device chooses go on"


def test_after_resuming_the_next_week_is_answered_and_this_one_is_not(picking: Picking) -> None:
    handed = picking.picker.hand_over(picking.listed, picking.equipment, SLOT)
    posted(picking, handed)
    picking.picker.stop()
    picking.picker.resume()
    assert refused(picking) is RefusalReason.PICK_REDRAWN, "the answer that somebody may have seen is not drawn again"
    assert posted(picking, handed) == ("contextual", "pick-stopped")
    picking.home.clock.now = picking.listed.ends_at + 3600
    (listed,) = picking.picker.fetch().values()
    spent = picking.spent
    assert posted(picking, picking.picker.hand_over(listed, picking.equipment, SLOT)) == ("private_pick", None)
    assert picking.spent == spent + 1.0, "a new draw, and paid for like any other"


def test_a_pick_that_was_handed_over_and_not_posted_yet_is_stopped_too(picking: Picking) -> None:
    handed = picking.picker.hand_over(picking.listed, picking.equipment, SLOT)
    picking.picker.stop()
    picking.picker.stop()
    assert posted(picking, handed) == ("contextual", "pick-stopped")
    standing = picking.home.world.services.picks.standing()
    assert standing is not None
    assert standing.spends == ((1.0, 1),), "charged as drawn, once"


def test_it_holds_here_before_anybody_is_told(picking: Picking) -> None:
    picking.draw(SimulationNoise(2))
    picking.home.wire.cut = True
    with pytest.raises(ServiceUnreachable):
        picking.picker.stop()
    assert refused(picking) is RefusalReason.PICK_STOPPED
    with closing(sqlite3.connect(picking.node.directory / "picks.db")) as connection, connection:
        connection.execute("DELETE FROM stopped")
    assert picking.draw(SimulationNoise(2)).charge.epsilon == 0.0, "the control: without the row it would answer"


def test_stopped_while_it_was_drawn_is_not_answered(picking: Picking) -> None:
    from client.pick import answer

    def scores(listed: Any) -> list[float]:  # noqa: ANN401 - a list of candidates
        picking.node.picks.stop(OWNER)
        return [0.0] * len(listed.candidates)

    with pytest.raises(EgressRefused) as found:
        answer(picking.node, OWNER, picking.listed, scores=scores)
    assert found.value.reason is RefusalReason.PICK_STOPPED
    assert picking.spent == 1.0, "paid, and not given"


def test_an_officers_stop_ends_a_kept_pick_at_the_next_decision(picking: Picking) -> None:
    handed = picking.picker.hand_over(picking.listed, picking.equipment, SLOT)
    assert posted(picking, handed) == ("private_pick", None)
    officer = picking.home.world.key(Role.PRIVACY_OFFICER)
    kill = {"scope": "purpose", "target": "place.personalised"}
    assert picking.home.world.http.post("/v1/controls/kill", json=kill, headers=officer).status_code == 200
    assert posted(picking, handed) == ("contextual", "kill-switch")
    assert picking.picker.decide(picking.listed, picking.equipment, SLOT).mode is DecisionMode.CONTEXTUAL
    assert picking.spent == 1.0
