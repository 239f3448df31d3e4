"""Mode 2 over HTTP: a pick changes what is answered, once it is consented to, charged and of the list in force."""

from __future__ import annotations

from typing import Any

import pytest
from sqlmodel import select

from common.taxonomy import FollowUp, Role
from common.wire.pick import CandidateList, Pick
from server.decisions.tables import DecidedPosition
from tests.service.test_picks import fetched, pick_of
from tests.service.world import APP, Device, World


@pytest.fixture
def backend(any_world: World) -> dict[str, str]:
    return any_world.key(Role.APP_BACKEND, app_id=APP)


def asked(world: World, device: Device, headers: dict[str, str], pick: Pick | object, **more: object) -> dict[str, Any]:
    body = pick.model_dump(mode="json") if isinstance(pick, Pick) else pick
    return world.decide(device.handle, headers, pick=body, **more)


def chosen(answer: dict[str, Any]) -> list[str]:
    return [slot["creative"]["creative_id"] for slot in answer["slots"] if slot["creative"]]


def outcome(answer: dict[str, Any]) -> tuple[str, str | None]:
    return answer["mode"], answer["slots"][0]["reason"]


def test_a_pick_leads_to_a_choice_of_the_service_with_tokens_and_says_so(
    any_world: World, backend: dict[str, str]
) -> None:
    world, listed, device = any_world, fetched(any_world), any_world.consenting()
    answer = asked(world, device, backend, pick_of(listed, 3))
    slot = answer["slots"][0]
    assert outcome(answer) == ("private_pick", None)
    assert (answer["permit"], answer["candidates"]) == (None, None), "the device chooses nothing"
    assert set(slot["tokens"]) >= {FollowUp.IMPRESSION.value, FollowUp.CLICK.value}
    assert "private answer" in slot["creative"]["why"]["main_parameters"][-1]
    assert "ε = 1" in slot["creative"]["why"]["personal_data"]
    chinese = asked(world, device, backend, pick_of(listed, 3), locale="zh-CN")["slots"][0]
    assert "加噪" in chinese["creative"]["why"]["personal_data"]
    with world.services.database.read() as session:
        query = select(DecidedPosition).where(DecidedPosition.decision_id == answer["decision_id"])
        row = session.exec(query).one()
        stored = (row.mode, row.reason, row.creative_id)
    assert stored == ("private_pick", None, slot["creative"]["creative_id"])
    seen = world.http.post("/v1/events", json={"token": slot["tokens"]["impression"], "follow_up": "impression"})
    assert seen.status_code == 202


def test_the_index_matters_and_the_rest_of_the_answer_does_not_tell(any_world: World, backend: dict[str, str]) -> None:
    """g sees E[Y | pick]: some answer of some device is placed otherwise than by context."""
    world, listed = any_world, fetched(any_world)
    plain = chosen(world.decide(None, backend))
    found = {i: chosen(asked(world, world.consenting(), backend, pick_of(listed, i))) for i in range(4)}
    assert {one for (one,) in found.values()} - set(plain), "no pick ever changed anything"
    assert plain[0] in {one for (one,) in found.values()}, "and not every pick does"


def test_retries_are_free_and_a_second_answer_is_refused(any_world: World, backend: dict[str, str]) -> None:
    world, listed, device = any_world, fetched(any_world), any_world.consenting()
    assert {outcome(asked(world, device, backend, pick_of(listed, 3)))[0] for _ in range(3)} == {"private_pick"}
    assert outcome(asked(world, device, backend, pick_of(listed, 2))) == ("contextual", "pick-redrawn")
    assert outcome(asked(world, device, backend, pick_of(listed, 3))) == ("private_pick", None)
    standing = world.services.picks.standing()
    assert standing is not None
    assert standing.spends == ((1.0, 1),)


def test_without_consent_a_pick_is_not_used_and_not_charged(any_world: World, backend: dict[str, str]) -> None:
    world, listed, device = any_world, fetched(any_world), any_world.consenting()
    world.withdraw(device, ["place.personalised"])
    plain = world.decide(None, backend)
    answer = asked(world, device, backend, pick_of(listed, 6))
    assert outcome(answer) == ("contextual", "consent-withdrawn")
    assert chosen(answer) == chosen(plain)
    standing = world.services.picks.standing()
    assert standing is not None
    assert standing.devices == 0


def broken(listed: CandidateList) -> dict[str, tuple[object, str]]:
    good = pick_of(listed, 3).model_dump(mode="json")
    return {
        "another epoch": (good | {"epoch": listed.epoch - 1}, "pick-outdated"),
        "another list": (good | {"list_hash": "0" * 64}, "pick-outdated"),
        "beyond the list": (good | {"index": 4}, "pick-outdated"),
        "another epsilon": (good | {"epsilon": 2.0}, "pick-outdated"),
        "no pick": ("3", "malformed"),
        "scores beside it": (good | {"scores": [0.5] * 8}, "malformed"),
        "another mechanism": (good | {"mechanism": "plain"}, "malformed"),
    }


def test_what_is_not_a_pick_of_the_list_in_force_is_answered_by_context(
    any_world: World, backend: dict[str, str]
) -> None:
    world, listed, device = any_world, fetched(any_world), any_world.consenting()
    plain = chosen(world.decide(None, backend))
    for name, (body, reason) in broken(listed).items():
        answer = asked(world, device, backend, body)
        assert outcome(answer) == ("contextual", reason), name
        assert chosen(answer) == plain, name


def test_an_exhausted_budget_is_answered_by_context_and_said(any_world: World, backend: dict[str, str]) -> None:
    world, device = any_world, any_world.enrol()
    start = (fetched(world).epoch // 4 + 1) * 28 * 86_400
    for week in range(4):
        world.clock.now = start + week * 7 * 86_400 + 60
        if week == 0:
            world.change(device, dict.fromkeys(("train.local", "place.personalised"), "given"))
        assert outcome(asked(world, device, backend, pick_of(fetched(world), 2)))[0] == "private_pick"
    from server.picks.service import PickClaim

    with world.services.database.write() as session:
        extra = pick_of(fetched(world), 2, slot_group="other")
        (found,) = world.services.picks.charge(session, [PickClaim(device.handle, extra)])
    assert found is not None
    assert found.value == "budget-exhausted"


def test_a_device_may_post_its_message_as_it_is_and_nobody_elses(any_world: World) -> None:
    world, listed = any_world, fetched(any_world)
    anna, bert = world.consenting(), world.consenting()
    body = {
        "kind": "private_pick",
        "handle": anna.handle,
        "slots": [{"slot_id": "top", "count": 1}],
        "context": {"page": "home"},
        "locale": "en",
        "pick": pick_of(listed, 3).model_dump(mode="json"),
    }
    mine = world.http.post("/v1/decisions", json=body, headers=anna.headers)
    assert mine.json()["mode"] == "private_pick"
    other = world.http.post("/v1/decisions", json=body, headers=bert.headers)
    assert other.json()["mode"] == "contextual"
    wrong = world.http.post("/v1/decisions", json=body | {"kind": "document_request"}, headers=anna.headers)
    assert outcome(wrong.json()) == ("contextual", "malformed")


def test_gpc_and_the_kill_switch_stop_picks_too(any_world: World, backend: dict[str, str]) -> None:
    world, listed, device = any_world, fetched(any_world), any_world.consenting()
    answer = asked(world, device, backend, pick_of(listed, 3), signals={"gpc": True})
    assert outcome(answer) == ("contextual", "signal-opt-out")
    officer = world.key(Role.PRIVACY_OFFICER)
    stop = {"scope": "purpose", "target": "place.personalised"}
    assert world.http.post("/v1/controls/kill", json=stop, headers=officer).status_code == 200
    assert outcome(asked(world, device, backend, pick_of(listed, 3))) == ("contextual", "kill-switch")
    standing = world.services.picks.standing()
    assert standing is not None
    assert standing.devices == 0


def test_a_stopped_campaign_stays_on_the_list_and_is_not_shown(any_world: World, backend: dict[str, str]) -> None:
    world, listed, device = any_world, fetched(any_world), any_world.consenting()
    (best,) = chosen(asked(world, device, backend, pick_of(listed, 3)))
    officer = world.key(Role.PRIVACY_OFFICER)
    stop = {"scope": "campaign", "target": best}
    assert world.http.post("/v1/controls/kill", json=stop, headers=officer).status_code == 200
    after = asked(world, device, backend, pick_of(listed, 3))
    assert outcome(after) == ("private_pick", None)
    assert best not in chosen(after)
    assert fetched(world) == listed
