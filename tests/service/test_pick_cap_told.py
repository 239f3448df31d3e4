"""The officers' cap on private picks as everybody is told it: the same bytes, signed, and in force at once."""

from __future__ import annotations

from common.wire.documents import open_document
from common.wire.pick_cap import PickCap
from policies import pick_caps
from tests.service.world import World


def heard(world: World) -> tuple[PickCap, bytes]:
    answer = world.http.get("/v1/pick-cap")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/jose")
    assert answer.headers["etag"]
    return open_document(answer.text, PickCap, world.services.keys), answer.content


def propose(world: World, epsilon: float) -> int:
    bound = world.services.caps.picks_in_force()
    assert bound is not None
    return world.services.caps.propose(bound.unit, bound.bound, epsilon, reason="a test", holder="ana").id


def test_everybody_gets_the_same_bytes_until_it_is_decided_anew(any_world: World) -> None:
    world = any_world
    first, body = heard(world)
    assert (first.number, first.epsilon_max, first.period_days) == (0, None, 28)
    assert first.issued_at <= world.clock() < first.expires_at == first.issued_at + pick_caps.VALID_S
    world.clock.now = first.issued_at + pick_caps.STEP_S - 1
    assert heard(world)[1] == body, "one text in a quarter of an hour, whoever asks"
    world.services.picks.cap._signed = None
    assert heard(world)[1] == body, "another process makes the same"
    again = world.http.get("/v1/pick-cap", headers={"if-none-match": world.http.get("/v1/pick-cap").headers["etag"]})
    assert again.status_code == 304
    world.clock.now += 1
    assert heard(world)[1] != body


def test_a_decision_is_told_at_once_and_only_a_later_one_raises_it(any_world: World) -> None:
    world = any_world
    lowered = propose(world, 2.0)
    assert (heard(world)[0].number, heard(world)[0].epsilon_max) == (lowered, 2.0)
    raising = propose(world, 3.0)
    assert heard(world)[0].number == lowered, "a proposal allows nothing yet"
    other = propose(world, 4.0)
    world.services.caps.approve(raising, holder="bo")
    assert (heard(world)[0].number, heard(world)[0].epsilon_max) == (raising, 3.0)
    assert raising > lowered
    last = propose(world, 0.0)
    assert (heard(world)[0].number, heard(world)[0].epsilon_max) == (last, 0.0)
    assert last > other, "numbers grow with decisions, so that devices know which one is later"


def test_the_document_names_nobody(any_world: World) -> None:
    told = heard(any_world)[0].model_dump()
    assert set(told) == {
        "kind", "number", "epsilon_max", "unit", "relation", "trust", "delta", "period_days", "issued_at", "expires_at",
    }  # fmt: skip
