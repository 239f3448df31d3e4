"""Devices that fall silent, withdraw, run out of budget or fail: the others' sum stays exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import client.app
import client.stages
from client.store.keys import DeviceId
from common.errors import StoreError, TooFewSurvivors
from common.taxonomy import ConsentState, Purpose, Stage
from common.wire.codec import decode, encode
from common.wire.secagg import SecAggAdvert
from tests.flower.nodes import RELEASE, World
from tests.rounds.secagg_ears import Ear, hub, journal, spent, states


@pytest.mark.parametrize("lost", [Stage.SHARE, Stage.MASK, Stage.CONFIRM, Stage.REVEAL])
def test_a_node_that_falls_silent_leaves_the_exact_sum_of_the_others(
    build: Callable[..., World], ear: Ear, lost: Stage
) -> None:
    world = build(nodes=8, devices=2)
    session = hub(world)
    others = [node for node in session.nodes if node != 5]
    here = {stage: others if list(Stage).index(stage) >= list(Stage).index(lost) else session.nodes for stage in Stage}
    roster = session.advertise(here[Stage.ADVERTISE])
    deliveries = session.share(roster, here[Stage.SHARE])
    survivors = session.mask(deliveries, here[Stage.MASK])
    confirmations = session.confirm(survivors, here[Stage.CONFIRM])
    total = session.reveal(confirmations, here[Stage.REVEAL])
    assert len(total.survivors) == (14 if lost in {Stage.SHARE, Stage.MASK} else 16)
    ear.check(total)


def test_too_few_survivors_end_the_session_and_keep_the_charge(world: World) -> None:
    session = hub(world)
    deliveries = session.share(session.advertise())
    with pytest.raises(TooFewSurvivors):
        session.mask(deliveries, [0, 1])
    assert set(spent(world, 0).values()) == {1}
    assert set(spent(world, 2).values()) == {0}


@pytest.mark.parametrize("stage", [Stage.SHARE, Stage.MASK, Stage.CONFIRM, Stage.REVEAL])
def test_a_consent_withdrawn_between_stages_takes_the_device_out(world: World, ear: Ear, stage: Stage) -> None:
    def withdraw() -> None:
        world.decide(1, "n1-d1", ConsentState.WITHDRAWN, Purpose.TRAIN_CONTRIBUTE)

    session = hub(world, between={stage: withdraw})
    total = session.run()
    early = stage in {Stage.SHARE, Stage.MASK}
    assert len(total.survivors) == (8 if early else 9)
    ear.check(total)
    lines = [(kind, outcome) for device, kind, outcome in journal(world, 1) if device == "n1-d1"]
    assert lines[-1] == (session.plan.kind(stage), "consent-withdrawn")
    assert spent(world, 1)[DeviceId("n1-d1")] == (0 if early else 1)
    assert states(world, 1) == 0  # its keys are gone too


@pytest.mark.parametrize("stage", [Stage.SHARE, Stage.MASK, Stage.CONFIRM, Stage.REVEAL])
def test_a_device_erased_mid_round_is_gone_and_the_others_go_on(world: World, ear: Ear, stage: Stage) -> None:
    def erase() -> None:
        with world.node(2) as node:
            node.erase(DeviceId("n2-d0"))

    session = hub(world, between={stage: erase})
    total = session.run()
    assert len(total.survivors) == (8 if stage in {Stage.SHARE, Stage.MASK} else 9)
    ear.check(total)


@pytest.mark.parametrize("stage", [Stage.ADVERTISE, Stage.MASK])
def test_a_device_whose_budget_is_used_up_is_left_out_silently(
    build: Callable[..., World], ear: Ear, stage: Stage
) -> None:
    """Whoever cannot pay does not even promise; whose budget goes between promise and payment is a dropout."""
    world = build(nodes=2, devices=3, epsilon_cap=3.0, epsilon_declared=3.0, rounds_max=3, releases=TIGHT)

    def spend() -> None:
        with world.node(0) as node:
            for i in range(20):
                node.ledger.reserve([DeviceId("n0-d2")], hub(world).plan.planned, cause=f"earlier-{i}")

    if stage is Stage.ADVERTISE:
        spend()
    session = hub(world, between={stage: spend})
    total = session.run()
    with world.node(0) as node:
        before = len([one for one in node.ledger.entries(DeviceId("n0-d2")) if one.cause.startswith("earlier")])
    assert session.declined == {}
    assert len(total.survivors) == 5
    ear.check(total)
    assert ("n0-d2", session.plan.kind(stage), "budget-exhausted") in journal(world, 0)
    assert spent(world, 0)[DeviceId("n0-d2")] == before


TIGHT = {"training_update": RELEASE | {"noise_multiplier": 6.0, "releases_max": 3}}


def test_a_device_that_cannot_compute_is_left_out_and_stays_charged(
    world: World, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = client.app.load_examples

    def broken(node, device, part="train"):  # type: ignore[no-untyped-def]
        if device == "n0-d0":
            raise StoreError("its disk is damaged")
        return load(node, device, part)

    monkeypatch.setattr(client.app, "load_examples", broken)
    total = hub(world).run()
    assert len(total.survivors) == 8
    ear.check(total)
    assert ("n0-d0", "masked_update", "unavailable") in journal(world, 0)
    assert spent(world, 0)[DeviceId("n0-d0")] == 1


def test_a_device_that_was_not_drawn_is_done_with_the_session(world: World, ear: Ear) -> None:
    session = hub(world)
    for node in session.nodes:
        for body in session.bodies(Stage.ADVERTISE, node)[: 3 if node else 2]:
            advert = decode(body, SecAggAdvert)
            session.aggregator.add_advert(advert)
            session.home[advert.agreement_key] = node  # type: ignore[index]
    roster = session.aggregator.close_adverts()
    session.home = {i: session.home[one.agreement_key] for i, one in enumerate(roster.adverts)}  # type: ignore[index]
    deliveries = session.share(encode(roster))
    assert len(session.home) == 8
    assert states(world, 0) == 2
    assert [row for row in journal(world, 0) if row[2] != "sent"] == []
    ear.check(session.reveal(session.confirm(session.mask(deliveries))))


def test_a_device_without_a_certificate_stays_out(world: World, ear: Ear) -> None:
    with world.node(0) as node:
        node.credentials.forget("n0-d1")
    total = hub(world).run()
    assert len(total.survivors) == 8
    assert ("n0-d1", "secagg_advert", "unavailable") in journal(world, 0)
