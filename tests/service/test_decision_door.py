"""The short way of a decision: the ordinary way's answers, and nothing older than the last commit of anybody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from common.crypto.signing import key_ring
from common.taxonomy import ControlScope, Purpose, Role
from common.wire.documents import open_document
from common.wire.messages import PlacementPermit
from server.access.principal import Principal
from server.api.door import Service
from server.api.services import build_services
from server.decisions.committing import Outcome
from server.decisions.request import DecisionRequest
from server.decisions.schemas import DecisionAnswer
from server.decisions.seen import Remembered
from tests.service.world import APP, World, catalogue, register_model

SLOTS: list[dict[str, Any]] = [{"slot_id": "top"}]


class Watched:
    """Counts the decisions that went the ordinary way."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ordinary, decide = 0, world.services.decisions.decide

        def counted(request: DecisionRequest, caller: Principal) -> DecisionAnswer:
            self.ordinary += 1
            return decide(request, caller)

        monkeypatch.setattr(world.services.decisions, "decide", counted)

    def short(self, world: World, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        """The answer by the short way, which the first call has made ready."""
        ask(world, body, headers)
        before = self.ordinary
        answer = ask(world, body, headers)
        assert self.ordinary == before, "it went the ordinary way"
        return answer


@pytest.fixture
def watched(furnished: World, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(furnished, monkeypatch)


@pytest.fixture
def twin(any_world: World) -> Iterator[World]:
    """Another process on the same database, as far as the service can tell."""
    world = World(build_services(any_world.services.settings, clock=any_world.clock), any_world.clock)
    yield world
    world.close()


def post(world: World, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
    return world.http.post("/v1/decisions", json=body, headers=headers)


def ask(world: World, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    answer = post(world, body, headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ordinary(world: World, body: dict[str, Any], headers: dict[str, str]) -> tuple[httpx.Response, dict[str, Any]]:
    assert isinstance(world.app, Service)
    door, world.app.door = world.app.door, None
    try:
        answer = post(world, body, headers)
    finally:
        world.app.door = door
    return answer, dict(answer.json())


def without_chance(world: World, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from decision to decision."""
    slots = [{**slot, "tokens": slot["tokens"] and sorted(slot["tokens"])} for slot in answer["slots"]]
    permit = answer["permit"]
    if permit is not None:
        signed = open_document(permit, PlacementPermit, key_ring(world.services.signer.public))
        assert signed.decision_id == answer["decision_id"]
        permit = signed.model_copy(update={"decision_id": "-"}).model_dump()
    return {**answer, "decision_id": "-", "slots": slots, "permit": permit}


def test_both_ways_answer_alike(furnished: World, watched: Watched) -> None:
    key = furnished.key(Role.APP_BACKEND, APP)
    given, refused = furnished.consenting(), furnished.enrol()
    furnished.change(refused, {"place.personalised": "refused"})
    many = [{"slot_id": "a", "count": 3}, {"slot_id": "b", "count": 7}]
    bodies: list[dict[str, Any]] = [
        {"slots": SLOTS},
        {"slots": many, "locale": "zh-CN", "context": {"page": "home", "discount": 0.5}},
        {"slots": SLOTS, "handle": given.handle, "context": {"page": "news"}},
        {"slots": many, "handle": given.handle, "blocked_advertisers": ["Nobody"]},
        {"slots": SLOTS, "handle": refused.handle},
        {"slots": SLOTS, "handle": "x" * 22},
        {"slots": SLOTS, "handle": given.handle, "signals": {"gpc": True, "us_privacy": "1YNN"}},
        {"slots": SLOTS, "blocked_categories": ["Snacks"]},
        {"slots": SLOTS, "tmax": 60_000},
    ]
    modes = set()
    for body in bodies:
        short = watched.short(furnished, body, key)
        response, expected = ordinary(furnished, body, key)
        assert without_chance(furnished, short) == without_chance(furnished, expected)
        modes.add((short["mode"], short["slots"][0]["reason"]))
        assert DecisionAnswer.model_validate_json(json.dumps(short)).decision_id == short["decision_id"]
        assert response.headers["content-type"] == "application/json"
    assert len(modes) == 5
    first = post(furnished, bodies[0], key)
    second, _ = ordinary(furnished, bodies[0], key)
    assert {name for name, _ in first.headers.items()} == {name for name, _ in second.headers.items()}


def test_gpc_header_counts_on_the_short_way(furnished: World, watched: Watched) -> None:
    device, key = furnished.consenting(), furnished.key(Role.APP_BACKEND, APP)
    body = {"slots": SLOTS, "handle": device.handle}
    assert watched.short(furnished, body, key)["mode"] == "on_device"
    answer = watched.short(furnished, body, key | {"sec-gpc": "1"})
    assert (answer["mode"], answer["slots"][0]["reason"]) == ("contextual", "signal-opt-out")
    assert answer["privacy_signal"]["honoured"]


def test_what_another_process_commits_holds_at_once(any_world: World, twin: World) -> None:
    """Consent, kill switch, catalogue, model and key: each changed elsewhere after it was made ready here."""
    device, key = any_world.consenting(), any_world.key(Role.APP_BACKEND, APP)
    body = {"slots": SLOTS, "handle": device.handle}

    def state(world: World = any_world) -> tuple[str, str | None, int, int]:
        found = ask(world, body, key)
        return found["mode"], found["slots"][0]["reason"], found["catalogue_version"], found["model_version"]

    for _ in range(2):
        assert state() == ("on_device", None, 1, 1)
    twin.withdraw(device)
    assert state()[:2] == ("contextual", "consent-withdrawn")
    twin.change(device)
    assert state()[:2] == ("on_device", None)
    twin.services.controls.kill(ControlScope.PURPOSE, Purpose.PLACE_PERSONALISED.value, actor="privacy_officer:a")
    assert state()[:2] == ("contextual", "kill-switch")
    twin.services.controls.release(ControlScope.PURPOSE, Purpose.PLACE_PERSONALISED.value, actor="privacy_officer:a")
    shown = ask(any_world, body, key)["slots"][0]["creative"]
    twin.services.controls.kill(ControlScope.CAMPAIGN, shown["creative_id"], actor="privacy_officer:a")
    assert ask(any_world, body, key)["slots"][0]["creative"]["creative_id"] != shown["creative_id"]
    twin.services.catalogues.publish(catalogue(3).creatives)
    register_model(twin.services, seed=1)
    assert state()[2:] == (2, 2)
    assert state(twin)[2:] == (2, 2)


class _Deaf:
    """A cursor to which SQLite never says that somebody else has committed."""

    def __init__(self, cursor: Any) -> None:  # noqa: ANN401 - the driver's
        self._cursor = cursor

    def execute(self, statement: str, *more: Any) -> Any:  # noqa: ANN401 - likewise
        return self._cursor.execute("SELECT 1" if "data_version" in statement else statement, *more)


def test_a_memory_that_does_not_ask_is_caught(furnished: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without the question to SQLite, what another process commits is not seen."""
    read = Remembered.read
    monkeypatch.setattr(Remembered, "read", lambda self, cursor, *more: read(self, _Deaf(cursor), *more))
    twin = World(build_services(furnished.services.settings, clock=furnished.clock), furnished.clock)
    device, key = furnished.consenting(), furnished.key(Role.APP_BACKEND, APP)
    body = {"slots": SLOTS, "handle": device.handle}
    assert [ask(furnished, body, key)["mode"] for _ in range(2)] == ["on_device"] * 2
    twin.withdraw(device)
    twin.close()
    assert ask(furnished, body, key)["mode"] == "on_device"


def test_a_key_revoked_elsewhere_opens_nothing(any_world: World, twin: World) -> None:
    issued = any_world.services.access.issue(Role.APP_BACKEND, label="test", app_id=APP)
    key = {"authorization": f"Bearer {issued.token}"}
    for _ in range(2):
        ask(any_world, {"slots": SLOTS}, key)
    assert any_world.services.access.recall(issued.token.encode()) is not None
    twin.services.access.revoke(issued.key_id)
    assert post(any_world, {"slots": SLOTS}, key).status_code == 401
    assert any_world.services.access.recall(issued.token.encode()) is None


def test_roles_scopes_and_quotas_hold_on_the_short_way(furnished: World) -> None:
    body = {"slots": SLOTS}
    for role in (Role.ADMIN, Role.ADVERTISER):
        assert [post(furnished, body, furnished.key(role)).status_code for _ in range(2)] == [403, 403]
    narrow = furnished.services.access.issue(Role.APP_BACKEND, label="n", scopes=frozenset({"consents:read"})).token
    headers = {"authorization": f"Bearer {narrow}"}
    assert [post(furnished, body, headers).status_code for _ in range(2)] == [403, 403]
    settings = replace(furnished.services.settings, rate_limits="app_backend=3/60")
    hurried = World(build_services(settings, clock=furnished.clock), furnished.clock)
    try:
        key = hurried.key(Role.APP_BACKEND)
        assert [post(hurried, body, key).status_code for _ in range(4)] == [200, 200, 200, 429]
    finally:
        hurried.close()


def test_late_answers_are_contextual_and_say_so(furnished: World) -> None:
    """Somebody holds the write lock: the caller's time runs out first, on either way."""
    device, key = furnished.consenting(), furnished.key(Role.APP_BACKEND, APP)
    body = {"slots": SLOTS, "handle": device.handle, "tmax": 30}
    ready = {**body, "tmax": 60_000}
    assert [ask(furnished, ready, key)["mode"] for _ in range(2)] == ["on_device"] * 2
    with furnished.services.database.write() as session:
        session.execute(text("SELECT 1"))  # takes the lock
        answers = [ask(furnished, body, key), ordinary(furnished, body, key)[1]]
    for answer in answers:
        (slot,) = answer["slots"]
        assert (answer["mode"], slot["reason"], slot["tokens"], answer["permit"]) == ("contextual", "late", None, None)
        assert slot["creative"] is not None
    assert ask(furnished, ready, key)["mode"] == "on_device"
    assert set(furnished.services.decisions.tally()) == {("on_device", "permitted")}  # who gave up is not recorded


def test_many_at_once_share_commits(any_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key, journal = any_world.key(Role.APP_BACKEND), any_world.services.decisions.journal
    ask(any_world, {"slots": SLOTS}, key)
    sizes: list[int] = []
    committer = journal._committer
    commit = committer.commit
    monkeypatch.setattr(committer, "commit", lambda batch: (sizes.append(len(batch)), commit(batch))[1])
    calls: list[tuple[str, str, dict[str, object]]] = [
        ("POST", "/v1/decisions", {"json": {"slots": SLOTS}, "headers": key})
    ] * 40
    answers = any_world.http.together(*calls)
    assert [answer.status_code for answer in answers] == [200] * 40
    assert len({answer.json()["decision_id"] for answer in answers}) == sum(sizes) == 40
    assert len(sizes) < 20
    assert sum(any_world.services.decisions.tally().values()) == 41


def test_a_row_that_fits_no_table_takes_no_other_with_it(any_world: World) -> None:
    decisions, caller = any_world.services.decisions, Principal(Role.APP_BACKEND)
    slots = decisions.decide(DecisionRequest(None, _slots()), caller).slots
    made = [decisions.ready(DecisionRequest(None, _slots()), caller) for _ in range(3)]
    entries = [decisions.entry(one) for one in made if one is not None]
    entries[1].ask.decided_at = 2**70
    decisions.journal._committer.commit(entries)
    assert [entry.outcome for entry in entries] == [Outcome.RECORDED, Outcome.UNAVAILABLE, Outcome.RECORDED]
    assert len(slots) == 1
    assert sum(decisions.tally().values()) == 3


def test_an_entry_whose_judge_fails_lets_nobody_wait(furnished: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    decisions, caller = furnished.services.decisions, Principal(Role.APP_BACKEND)
    entry = decisions.entry(decisions.decided(DecisionRequest(None, _slots()), caller))
    monkeypatch.setattr(decisions.journal._committer._judge, "verdict", broken)
    assert decisions.journal.record(entry, 30)
    assert entry.outcome is Outcome.UNAVAILABLE


def _slots() -> tuple[Any, ...]:
    from common.wire.messages import SlotRequest

    return (SlotRequest(slot_id="top"),)
