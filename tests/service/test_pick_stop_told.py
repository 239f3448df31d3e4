"""``POST /v1/picks/stop``: a device's own word for its own subject, for the running epoch, and charged as drawn."""

from __future__ import annotations

import pytest

from common.taxonomy import RefusalReason
from tests.service.test_picks import charge, fetched, pick_of, told
from tests.service.world import Device, World

STOP = "/v1/picks/stop"


def stop(world: World, device: Device, handle: str | None = None) -> int:
    body = {"kind": "pick_stop", "handle": handle or device.handle}
    return world.http.post(STOP, json=body, headers=device.headers).status_code


def test_a_device_stops_its_own_picks_and_nobody_elses(any_world: World) -> None:
    world, listed = any_world, fetched(any_world)
    anna, bert = world.consenting(), world.consenting()
    assert stop(world, anna, bert.handle) == 403
    assert stop(world, anna) == 204
    answers = charge(world, (anna, pick_of(listed, 3)), (bert, pick_of(listed, 3)))
    assert answers == [RefusalReason.PICK_STOPPED, None]


def test_it_is_charged_as_drawn_once_and_said_once_in_the_log(any_world: World) -> None:
    world, listed = any_world, fetched(any_world)
    anna = world.consenting()
    assert [stop(world, anna), stop(world, anna)] == [204, 204]
    standing = world.services.picks.standing()
    assert standing is not None
    assert standing.spends == ((1.0, 1),)
    assert [entry["event"] for entry in told(world)] == ["list", "charged", "stopped"]
    assert anna.handle not in str(told(world))
    assert charge(world, (anna, pick_of(listed, 3)), (anna, pick_of(listed, 4))) == [RefusalReason.PICK_STOPPED] * 2
    again = world.services.picks.standing()
    assert again is not None
    assert again.spends == ((1.0, 1),), "a refused answer costs nothing more"


def test_the_next_epoch_is_free_again(any_world: World) -> None:
    world, first = any_world, fetched(any_world)
    anna = world.consenting()
    charge(world, (anna, pick_of(first, 3)))
    stop(world, anna)
    assert charge(world, (anna, pick_of(first, 3))) == [RefusalReason.PICK_STOPPED]
    world.clock.now = first.ends_at + 60
    assert charge(world, (anna, pick_of(fetched(world), 3))) == [None]


def test_erasing_takes_the_word_along_and_gives_nothing_back(any_world: World) -> None:
    world, listed = any_world, fetched(any_world)
    anna = world.consenting()
    stop(world, anna)
    with world.services.database.write() as session:
        assert world.services.picks.forget(session, [anna.key.public.raw]) == 1
    assert charge(world, (anna, pick_of(listed, 3))) == [RefusalReason.PICK_REDRAWN]


@pytest.mark.parametrize("body", [{}, {"kind": "pick_stop"}, {"kind": "pick_stop", "handle": "x", "picks": 1}, []])
def test_what_is_no_stop_is_refused(furnished: World, body: object) -> None:
    anna = furnished.consenting()
    assert furnished.http.post(STOP, json=body, headers=anna.headers).status_code == 422
