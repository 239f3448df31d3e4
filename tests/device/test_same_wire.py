"""Mode 1: what a device sends does not depend on what its owner did. Byte by byte, with clock and nonces held still.

Two copies of one enrolled device (same keys, same consent) get different histories and live the same day: fetch, place,
see, follow, close, buy, switch a topic off, ask how they stand, fetch again. Every byte on the wire must be the same.
Leaks are built in on purpose, small ones too, and the same comparison must find each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import client.egress
from client.agent import Agent
from client.attribution import Conversion
from client.behavior.events import Purchase
from client.choosing import switch
from client.device import OWNER
from client.store.placed import Position
from common.errors import MalformedInput
from common.taxonomy import FollowUp
from common.wire.messages import DocumentRequest
from policies.placement.protocol import Placement
from tests.device.conftest import Household
from tests.device.twins import PAGE, Origin, permit, shopper, stranger

Leak = Callable[[Household, Agent, tuple[Placement, ...]], None]


@pytest.fixture
def origin(agreed: Household, tmp_path: Path) -> Origin:
    return Origin.of(agreed, tmp_path / "twins")


def nothing_more(_home: Household, _agent: Agent, _placed: tuple[Placement, ...]) -> None:
    """No leak."""


def a_day(home: Household, agent: Agent, leak: Leak = nothing_more) -> dict[str, Any]:
    """A whole day of one device; what it chose, how much it sent while choosing, and what the service recorded."""
    equipment = agent.fetch()
    allowed = permit(home)
    before = len(home.wire.requests)
    placed = agent.place(allowed, equipment, context=PAGE, now=home.clock())
    leak(home, agent, placed)
    sent = len(home.wire.requests) - before
    (first, *_) = home.node.placements.read(OWNER, newest=1)
    where = Position(first.decision_id, placed[0].slot_id, 0)
    agent.feedback.seen(where, now=home.clock())
    agent.feedback.clicked(where, now=home.clock())
    agent.feedback.closed(where, now=home.clock())
    agent.record(Purchase(time=home.clock(), app="grocer", item=first.item))
    agent.feedback.converted(Conversion(home.clock(), campaign=first.campaign), value_micros=5)
    switch(home.node, OWNER, first.category, off=True)
    agent.standing()
    agent.fetch()
    with home.world.services.database.read() as session:
        found = session.execute(text("SELECT * FROM decision ORDER BY slot_id, position"))
        rows = [dict(row._mapping) for row in found]
    for row in rows:
        del row["decision_id"]  # drawn at random by the service
    return {"chosen": [one.creative_id for one in placed], "sent": sent, "rows": rows}


def lived(origin: Origin, leak: Leak = nothing_more) -> tuple[tuple[list[bytes], Any], tuple[list[bytes], Any]]:
    def day(home: Household, agent: Agent) -> dict[str, Any]:
        return a_day(home, agent, leak)

    return origin.lived("shopper", shopper, day), origin.lived("stranger", stranger, day)


def test_two_histories_one_wire(origin: Origin) -> None:
    (first, of_shopper), (second, of_stranger) = lived(origin)
    assert of_shopper["chosen"] != of_stranger["chosen"], "the histories did make a difference, on the device"
    assert (of_shopper["sent"], of_stranger["sent"]) == (0, 0), "nothing is sent at decision time"
    assert len(first) > 10
    assert first == second
    assert of_shopper["rows"] == of_stranger["rows"], "what the service recorded is the same too"


def tells_what_it_chose(home: Household, agent: Agent, placed: tuple[Placement, ...]) -> None:
    with contextlib.suppress(MalformedInput):  # the service does not know the token; it has read it all the same
        agent.report(f"rft1.{placed[0].creative_id}", FollowUp.IMPRESSION)


def fetches_once_more(home: Household, agent: Agent, placed: tuple[Placement, ...]) -> None:
    """A public document, asked for by those who have a history: when something is sent tells as much as what is."""
    if knows(home):
        agent.send(DocumentRequest(document="catalogue"))


def orders_by_taste(home: Household, agent: Agent, placed: tuple[Placement, ...]) -> None:
    """The same two fetches by everybody, in an order that depends on the history."""
    for document in sorted(("catalogue", "placement_policy"), reverse=knows(home)):
        agent.send(DocumentRequest(document=document))  # type: ignore[arg-type]


def says_it_in_a_nonce(home: Household, agent: Agent, placed: tuple[Placement, ...]) -> None:
    """One random number more or less: nonces are held still here, so that even these can tell nothing."""
    if knows(home):
        client.egress.secrets.token_urlsafe(16)


def knows(home: Household) -> bool:
    """Whether this device has a history."""
    return home.node.vault.count(OWNER) > 5


@pytest.mark.parametrize("leak", [tells_what_it_chose, fetches_once_more, orders_by_taste, says_it_in_a_nonce])
def test_a_leak_is_found(origin: Origin, leak: Leak) -> None:
    (first, _), (second, _) = lived(origin, leak)
    assert first != second


def test_the_comparison_finds_nothing_between_two_of_the_same(origin: Origin) -> None:
    """Control of the control: whatever differs above is due to the histories."""
    one, _ = origin.lived("one", shopper, a_day)
    other, _ = origin.lived("other", shopper, a_day)
    assert one == other
