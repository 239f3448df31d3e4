"""Decisions: a personalised answer needs a live grant; everything else is a contextual answer that says why."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from client.placement import Installed, place
from common.crypto.signing import key_ring
from common.taxonomy import Purpose, Role
from common.wire.documents import open_document
from common.wire.messages import Catalogue, Creative, PlacementPermit, PolicyDocument
from policies.consent import Permit
from policies.placement.decide import decide as g
from server.access.principal import Principal
from server.api.services import build_services
from tests.service.test_consent import words
from tests.service.world import APP, OTHER_SPEC, Device, World, catalogue, register_model

DAY = 86_400


def sole(answer: dict[str, Any]) -> dict[str, Any]:
    assert len(answer["slots"]) == 1
    return dict(answer["slots"][0])


def assert_contextual(answer: dict[str, Any], reason: str) -> None:
    assert (answer["mode"], answer["permit"], answer["candidates"]) == ("contextual", None, None)
    for slot in answer["slots"]:
        assert (slot["mode"], slot["reason"]) == ("contextual", reason)
        assert slot["explanation"]
        assert slot["creative"]["label"]


def test_live_consent_lets_the_device_choose(any_world: World) -> None:
    device = any_world.consenting()
    answer = any_world.decide(device.handle, device.headers)
    slot = sole(answer)
    assert (answer["mode"], slot["mode"], slot["reason"], slot["tokens"]) == ("on_device", "on_device", None, None)
    assert slot["creative"]["why"]["is_ad"] is True
    assert len(answer["candidates"]) == 8
    keys = key_ring(any_world.services.signer.public)
    permit = open_document(answer["permit"], PlacementPermit, keys)
    assert (permit.handle, permit.decision_id) == (device.handle, answer["decision_id"])
    assert permit.expires_at == permit.issued_at + 300
    assert (permit.catalogue_version, permit.model_version) == (1, 1)


def test_every_way_of_not_consenting_is_contextual_and_says_why(furnished: World) -> None:
    world = furnished
    backend = world.key(Role.APP_BACKEND, APP)
    assert_contextual(world.decide(None, backend), "consent-required")
    assert_contextual(world.decide("x" * 22, backend), "unknown-subject")
    assert_contextual(world.decide(world.enrol().handle, backend), "consent-required")
    refused = world.enrol()
    world.change(refused, {"place.personalised": "refused"})
    assert_contextual(world.decide(refused.handle, backend), "consent-refused")
    lonely = world.enrol()
    world.change(lonely, {"place.personalised": "given"})
    assert_contextual(world.decide(lonely.handle, backend), "prerequisite-missing")
    for band in ("minor", "unknown"):
        young = world.enrol(band)
        world.change(young)
        assert_contextual(world.decide(young.handle, backend), "minor-protected")
    device = world.consenting()
    assert world.decide(device.handle, backend)["mode"] == "on_device"
    assert_contextual(world.decide(device.handle, world.key(Role.APP_BACKEND, "other")), "unknown-subject")
    assert_contextual(world.decide(device.handle, world.enrol().headers), "unknown-subject")
    world.withdraw(device)
    assert_contextual(world.decide(device.handle, backend), "consent-withdrawn")
    other = world.consenting()
    world.clock.advance(180 * DAY)
    assert_contextual(world.decide(other.handle, backend), "consent-expired")
    other = world.consenting()
    world.services.notices.publish(words(2, material=True))
    assert_contextual(world.decide(other.handle, backend), "notice-superseded")


HANDLES = ["short", "with space in it and long", 17, [], {}, True, "é" * 22, "a" * 65, ""]


def test_malformed_handle_is_contextual(furnished: World) -> None:
    headers = furnished.key(Role.APP_BACKEND)
    for handle in HANDLES:
        assert_contextual(furnished.decide(handle, headers), "malformed")


MALFORMED_PARTS: list[dict[str, Any]] = [
    {"context": "home"},
    {"context": {"page": ["home"]}},
    {"context": {f"k{i}": "v" for i in range(40)}},
    {"context": {"who": "x" * 500}},
    {"locale": "tlh"},
    {"locale": {}},
    {"signals": "none"},
    {"email": "a@b.example"},
]


def test_other_malformed_parts_are_contextual_even_with_consent(furnished: World) -> None:
    device = furnished.consenting()
    for more in MALFORMED_PARTS:
        assert_contextual(furnished.decide(device.handle, device.headers, **more), "malformed")


UNREADABLE = {
    b"{": 400,
    b"": 400,
    b"[]": 400,
    b"\xff\xfe": 400,
    b"[" * 20_000: 400,
    b"{}": 422,
    b'{"slots": []}': 422,
    b'{"slots": [{"slot_id": "a"}, {"slot_id": "a"}]}': 422,
    b'{"slots": [{"slot_id": "a", "count": 10}, {"slot_id": "b", "count": 1e9}]}': 422,
    b'{"slots": [{"slot_id": "<script>"}]}': 422,
}


def test_without_readable_slots_there_is_a_problem(furnished: World) -> None:
    headers = furnished.key(Role.APP_BACKEND)
    for body, status in UNREADABLE.items():
        answer = furnished.http.post("/v1/decisions", content=body, headers=headers)
        title = {400: "MalformedInput", 422: "InvalidRequest"}[status]
        assert (answer.status_code, answer.json()["title"]) == (status, title)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "script" not in answer.text


def with_gpc(world: World, device: Device, *values: str) -> dict[str, Any]:
    headers = [("sec-gpc", value) for value in values]
    body = {"handle": device.handle, "slots": [{"slot_id": "top"}]}
    return dict(world.http.post("/v1/decisions", json=body, headers=headers, auth=device.auth).json())


def test_gpc_header_is_honoured_and_shown(furnished: World) -> None:
    device = furnished.consenting()
    for values in (("1",), ("0", "1")):
        answer = with_gpc(furnished, device, *values)
        assert_contextual(answer, "signal-opt-out")
        assert (answer["privacy_signal"]["gpc"], answer["privacy_signal"]["honoured"]) == (True, True)
    for value in ("0", "true", "11", ""):
        assert with_gpc(furnished, device, value)["mode"] == "on_device"


def test_gpc_reported_by_the_app_counts_too(furnished: World) -> None:
    device = furnished.consenting()
    assert_contextual(furnished.decide(device.handle, device.headers, signals={"gpc": True}), "signal-opt-out")


@pytest.fixture
def twin(any_world: World) -> Iterator[World]:
    """A second process on the same database, as far as the service can tell."""
    world = World(build_services(any_world.services.settings, clock=any_world.clock), any_world.clock)
    yield world
    world.close()


def test_withdrawal_in_one_process_holds_for_the_next_decision_of_another(any_world: World, twin: World) -> None:
    device = any_world.consenting()
    for _ in range(3):
        assert twin.decide(device.handle, device.headers)["mode"] == "on_device"
        any_world.withdraw(device)
        assert_contextual(twin.decide(device.handle, device.headers), "consent-withdrawn")
        any_world.change(device)


def test_no_decision_asked_after_a_withdrawal_returned_is_personalised(any_world: World, twin: World) -> None:
    """One process decides without pause while another grants and withdraws; control: it does see the grants."""
    device, answers, stop = any_world.consenting(), list[tuple[float, str]](), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            asked_at = time.monotonic()
            answers.append((asked_at, twin.decide(device.handle, device.headers)["mode"]))

    def answered_since(moment: float) -> set[str]:
        while sum(asked_at > moment for asked_at, _ in answers) < 3:
            time.sleep(0.001)
        return {mode for asked_at, mode in answers if asked_at > moment}

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(10):
            any_world.change(device)
            assert answered_since(time.monotonic()) == {"on_device"}
            any_world.withdraw(device)
            assert answered_since(time.monotonic()) == {"contextual"}
    finally:
        stop.set()
        thread.join()


def test_without_model_or_catalogue_nothing_personal_happens(world: World) -> None:
    device = world.consenting()
    answer = world.decide(device.handle, device.headers)
    slot = sole(answer)
    assert (slot["mode"], slot["reason"], slot["creative"], slot["outcome"]) == (
        "contextual",
        "unavailable",
        None,
        "no-candidate",
    )
    world.services.catalogues.publish(catalogue().creatives)
    assert_contextual(world.decide(device.handle, device.headers), "unavailable")
    register_model(world.services)
    assert world.decide(device.handle, device.headers)["mode"] == "on_device"


def test_model_of_other_features_than_pinned_is_not_used(furnished: World) -> None:
    path = furnished.services.settings.state_dir / "spec.json"
    path.write_text(OTHER_SPEC.model_dump_json(), encoding="utf-8")
    settings = replace(furnished.services.settings, feature_spec=path)
    pinned = World(build_services(settings, clock=furnished.clock), furnished.clock)
    device = furnished.consenting()
    try:
        assert_contextual(pinned.decide(device.handle, device.headers), "unavailable")
        assert pinned.http.get("/readyz").json()["model"] == "not verified"
    finally:
        pinned.close()


def test_tampered_model_is_not_used(furnished: World) -> None:
    with furnished.services.database.write() as session:
        blob = session.execute(text("SELECT arrays FROM model_version")).scalar_one()
        flipped = blob[:-1] + bytes([blob[-1] ^ 1])
        session.execute(text("UPDATE model_version SET arrays = :a"), {"a": flipped})
    device = furnished.consenting()
    answer = furnished.decide(device.handle, device.headers)
    assert_contextual(answer, "unavailable")
    assert answer["model_version"] is None


def test_contextual_choice_follows_the_context(furnished: World) -> None:
    """The model's scores, not the hash, decide: one context, one winner, whatever the decision's salt."""
    headers = furnished.key(Role.APP_BACKEND)

    def winners(page: str) -> set[str]:
        answers = [furnished.decide(None, headers, context={"page": page, "discount": 0.5}) for _ in range(5)]
        return {sole(answer)["creative"]["creative_id"] for answer in answers}

    assert len(winners("home")) == len(winners("recipes")) == 1


def test_without_a_model_the_hash_spreads_the_choice(world: World) -> None:
    world.services.catalogues.publish(catalogue().creatives)
    headers = world.key(Role.APP_BACKEND)
    chosen = {sole(world.decide(None, headers))["creative"]["creative_id"] for _ in range(40)}
    assert len(chosen) >= 4


def test_no_creative_twice_in_one_answer_and_chinese_words(furnished: World) -> None:
    slots = [{"slot_id": "a", "count": 3}, {"slot_id": "b", "count": 6}]
    answer = furnished.decide(None, furnished.key(Role.APP_BACKEND), slots=slots, locale="zh-CN")
    shown = [slot["creative"]["creative_id"] for slot in answer["slots"] if slot["creative"]]
    assert len(shown) == len(set(shown)) == 8
    assert [slot["outcome"] for slot in answer["slots"]].count("no-candidate") == 1
    assert {slot["creative"]["label"] for slot in answer["slots"] if slot["creative"]} == {"广告"}
    assert answer["slots"][0]["explanation"] == "尚未就此目的取得同意。"


def test_device_and_service_run_the_same_g(furnished: World) -> None:
    """Same scores, slots, policy and salt: the device's placement is what the service would have chosen."""
    device = furnished.consenting()
    slots = [{"slot_id": "a", "count": 2}, {"slot_id": "b"}]
    answer = furnished.decide(device.handle, device.headers, slots=slots)
    keys = key_ring(furnished.services.signer.public)
    signed = furnished.http.get("/v1/catalog/current").text
    policy_document = open_document(furnished.http.get("/v1/policy/current").text, PolicyDocument, keys)
    model = furnished.services.scorer.current()
    assert model is not None
    held = Installed(
        handle=device.handle,
        keys=keys,
        catalogue=open_document(signed, Catalogue, keys),
        policy=furnished.services.policies.policies.placement,
        policy_digest=policy_document.digest,
        model_version=1,
    )
    permit = Permit(Purpose.PLACE_PERSONALISED, furnished.clock.now + 60, "0" * 64)

    def score(candidates: Sequence[Creative]) -> list[float]:
        return model.scores(candidates, context={"page": "home"}, numbers={}, now=furnished.clock.now)

    placed = place(answer["permit"], held, score=score, gate_permit=permit, now=furnished.clock.now)
    fallback = [(slot["slot_id"], slot["position"], slot["creative"]["creative_id"]) for slot in answer["slots"]]
    assert [(p.slot_id, p.position, p.creative_id) for p in placed] == fallback
    request = open_document(answer["permit"], PlacementPermit, keys)
    assert placed == g(held.policy, held.catalogue.creatives, score, request.slots, salt=answer["decision_id"])


def test_recorded_decisions_name_nobody(any_world: World) -> None:
    device = any_world.consenting()
    answer = any_world.decide(device.handle, device.headers)
    any_world.decide(None, device.headers)
    with any_world.services.database.read() as session:
        rows = [dict(row._mapping) for row in session.execute(text("SELECT * FROM decision"))]
    assert len(rows) == 2
    assert device.handle not in json.dumps(rows)
    on_device = next(row for row in rows if row["decision_id"] == answer["decision_id"])
    assert (on_device["creative_id"], on_device["reason"]) == (None, None)
    tally = any_world.services.decisions.tally()
    assert tally == {("on_device", "permitted"): 1, ("contextual", "consent-required"): 1}


def test_unreachable_database_is_contextual_inside_the_engine(furnished: World) -> None:
    device = furnished.consenting()
    caller = Principal(Role.DEVICE, device.handle, APP)
    with furnished.services.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE consent_state")
    from server.decisions.request import read_request

    request = read_request(json.dumps({"handle": device.handle, "slots": [{"slot_id": "a"}]}).encode())
    answer = furnished.services.decisions.decide(request, caller)
    assert_contextual(answer.model_dump(mode="json"), "unavailable")
    assert answer.slots[0].tokens is None


def test_creative_text_is_escaped_where_it_is_rendered(world: World) -> None:
    nasty = (
        catalogue(1)
        .creatives[0]
        .model_copy(
            update={
                "title": {"en": '"><script>alert(1)</script>', "zh-CN": "<b>好</b>"},
                "landing_url": 'https://x.example/"><i>',
            }
        )
    )
    world.services.catalogues.publish([nasty])
    creative = sole(world.decide(None, world.key(Role.APP_BACKEND)))["creative"]
    assert "<script" not in creative["html"]
    assert "<i>" not in creative["html"]
    assert creative["title"].startswith('">')
    svg = world.http.get(creative["image_url"])
    assert (svg.status_code, svg.headers["content-type"]) == (200, "image/svg+xml")
    assert "<script" not in svg.text
    assert "default-src 'none'" in svg.headers["content-security-policy"]
