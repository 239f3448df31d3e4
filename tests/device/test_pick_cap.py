"""The privacy officers' cap on picks, on the device: refused before it is paid, and no older cap raises it again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from client import pick_cap
from client.device import OWNER
from client.pick import before
from client.store.pick_file import FORMAT
from common.crypto.signing import SigningKey
from common.errors import BudgetExhausted, TrustError
from common.privacy.randomness import SimulationNoise
from common.taxonomy import DecisionMode
from common.wire.documents import open_document, seal
from common.wire.messages import DocumentRequest
from common.wire.pick_cap import PickCap
from policies import pick_caps, picks
from tests.device.picking import SLOT, Picking, Tripwire


def cap(picking: Picking, epsilon: float) -> None:
    """Officers lower the cap; a raise is approved by a second one."""
    caps = picking.home.world.services.caps
    bound = caps.picks_in_force()
    assert bound is not None
    made = caps.propose(bound.unit, bound.bound, epsilon, reason="a test", holder="ana")
    if epsilon > bound.in_force:
        caps.approve(made.id, holder="bo")


def published(picking: Picking) -> str:
    return picking.home.agent.send(DocumentRequest(document="pick_cap")).decode()


def test_beyond_the_officers_cap_nothing_is_paid_and_nothing_drawn(picking: Picking) -> None:
    picking.draw()
    picking.week(0)
    cap(picking, 1.5)
    picking.draw(listed=picking.week(0))
    listed = picking.week(1)
    standing = before(picking.node, OWNER, listed)
    assert (standing.cap, standing.left, standing.draws_left) == (1.5, 0.5, 0)
    with pytest.raises(BudgetExhausted):
        picking.draw(Tripwire(1), listed=listed)
    assert picking.spent == 1.0, "not a thing was charged"
    (refusal,) = picking.node.pick_ledger.refusals(OWNER)
    assert (refusal.epsilon_max, refusal.epsilon_would_be) == (1.5, 2.0), "the owner can read why"
    cap(picking, 4.0)
    with pytest.raises(BudgetExhausted):
        picking.draw(Tripwire(1), listed=listed)
    picking.hear_cap()
    picking.draw(listed=listed)
    assert picking.spent == 2.0, "two officers have raised it again, and the device has heard of it"


def test_who_has_not_heard_of_a_lower_cap_pays_for_an_hour_at_most(picking: Picking) -> None:
    """The control: without the document the ledger alone lets the draw through, and the service then takes no pick."""
    picking.draw(listed=picking.week(0))
    listed = picking.week(1)
    cap(picking, 1.0)
    picking.home.clock.now += pick_caps.VALID_S
    with pytest.raises(TrustError):
        picking.draw(Tripwire(1), listed=listed)
    assert picking.spent == 1.0
    picking.home.clock.now -= pick_caps.VALID_S
    picking.draw(listed=listed)
    assert picking.spent == 2.0, "an older cap is worth what its validity allows"


def test_an_older_cap_raises_nothing(picking: Picking) -> None:
    picking.draw(listed=picking.week(0))
    listed = picking.week(1)
    high = published(picking)
    cap(picking, 1.0)
    picking.hear_cap()
    with pytest.raises(TrustError, match="earlier decision"):
        pick_cap.hear(picking.node, high, picking.node.server_keys)
    picking.reopen()
    picking.home.wire.change = lambda path, body: high.encode() if path == "/v1/pick-cap" else body
    with pytest.raises(TrustError):
        picking.picker.fetch()
    with pytest.raises(BudgetExhausted):
        picking.draw(Tripwire(1), listed=listed)
    assert picking.spent == 1.0


Change = dict[str, Any]
ODD: dict[str, Callable[[PickCap], Change]] = {
    "another line": lambda _: {"delta": 1e-5},
    "another period": lambda _: {"period_days": 7},
    "valid for long": lambda one: {"expires_at": one.issued_at + pick_caps.VALID_S + 1},
    "over": lambda one: {"issued_at": one.issued_at - 7200, "expires_at": one.expires_at - 7200},
    "of the future": lambda one: {"issued_at": one.issued_at + 7200, "expires_at": one.expires_at + 7200},
    "another word on the same decision": lambda _: {"epsilon_max": 3.0},
    "no decision, and yet an ε": lambda _: {"number": 0},
    "not a number": lambda _: {"epsilon_max": float("nan")},
    "negative": lambda _: {"epsilon_max": -1.0},
    "of nobody": lambda _: {"number": -1},
}


def test_what_is_odd_is_no_cap(picking: Picking) -> None:
    cap(picking, 2.0)
    picking.hear_cap()
    held = picking.node.pick_caps.last()
    one = open_document(published(picking), PickCap, picking.node.server_keys)
    for odd, change in ODD.items():
        jws = seal(one.model_copy(update=change(one)), picking.home.world.services.signer)
        with pytest.raises(TrustError):
            pick_cap.hear(picking.node, jws, picking.node.server_keys)
        assert picking.node.pick_caps.last() == held, odd
    pick_cap.hear(picking.node, seal(one, picking.home.world.services.signer), picking.node.server_keys)


def test_only_the_services_own_word_counts(picking: Picking) -> None:
    one = open_document(published(picking), PickCap, picking.node.server_keys)
    higher = one.model_copy(update={"number": 9, "epsilon_max": 4.0})
    signer, keys = picking.home.world.services.signer, picking.node.server_keys
    for jws in (seal(higher, SigningKey.generate()), seal(picking.listed, signer), "", "{}"):
        with pytest.raises(TrustError):
            pick_cap.hear(picking.node, jws, keys)
    pick_cap.hear(picking.node, seal(higher, signer), keys)


def test_without_a_cap_nothing_is_drawn_and_what_was_paid_stays_usable(picking: Picking) -> None:
    first = picking.draw(SimulationNoise(3))
    with closing(sqlite3.connect(picking.node.directory / "picks.db")) as connection, connection:
        connection.execute("DELETE FROM caps")
    assert picking.draw(Tripwire(1)).pick == first.pick
    picking.home.clock.now += 7 * 86_400
    later = picking.listed.model_copy(update={"epoch": picking.listed.epoch + 1})
    spent = picking.spent
    with pytest.raises(TrustError, match="fetch the lists"):
        picking.draw(Tripwire(1), listed=later)
    assert picking.spent == spent


def test_a_file_of_the_format_before_keeps_its_answers(picking: Picking) -> None:
    first = picking.draw(SimulationNoise(3))
    path = picking.node.directory / "picks.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript("DROP TABLE caps; DROP TABLE stopped; PRAGMA user_version = 1")
    assert picking.draw(Tripwire(1)).pick == first.pick
    picking.hear_cap()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)


def test_the_cap_is_fetched_alike_whatever_was_spent(picking: Picking) -> None:
    def fetched() -> list[tuple[str, str, bytes]]:
        start = len(picking.home.wire.requests)
        picking.picker.fetch()
        return [(one.method, one.url.path, one.content) for one in picking.home.wire.requests[start:]]

    first = fetched()
    assert [path for _, path, _ in first] == ["/v1/pick-cap", "/v1/candidates/default"]
    picking.draw()
    cap(picking, 1.0)
    assert fetched() == first, "neither what is left nor what officers allow makes a difference"


def test_within_the_cap_the_service_takes_what_the_device_has_paid(picking: Picking) -> None:
    cap(picking, 1.0)
    listed = picking.picker.fetch()["default"]
    decision = picking.picker.decide(listed, picking.equipment, SLOT)
    assert (decision.mode, picking.spent) == (DecisionMode.PRIVATE_PICK, 1.0)
    rules = picks.rules_of(picking.node.policies.policies.privacy_budget)
    assert rules.epsilon_cap == 4.0, "the document would have allowed more"
