"""Requests that come again: one effect, one answer, for a day; and nothing of it is left in the clear."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from common.errors import IdempotencyMismatch, RequestInFlight
from common.taxonomy import ControlScope, InvalidationReason, Purpose, Role
from server.access.repeats import KEPT_S, LEASE_S, Answer, Repeats, Ticket
from server.settings import DATABASE_FILE
from tests.service.world import Device, World, bearer, introduced

RANDOM = "8e03978e-40d5-43e8-bc93-6894a57f9324"
KEY = {"idempotency-key": RANDOM}
OTHER = {"idempotency-key": "1e03978e-40d5-43e8-bc93-6894a57f9324"}
SHOP = {"role": "app_backend", "label": "shop"}


def keys(world: World) -> int:
    with world.services.database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM api_key")).scalar_one())


def kept(world: World) -> list[tuple[str, str | None, bytes | None]]:
    with world.services.database.read() as session:
        return [tuple(row) for row in session.execute(text("SELECT digest, subject, answer FROM kept_answer"))]


def test_the_same_request_has_one_effect_and_one_answer(any_world: World) -> None:
    admin = any_world.key(Role.ADMIN)
    first = any_world.http.post("/v1/api-keys", json=SHOP, headers=admin | KEY)
    before = keys(any_world)
    again = any_world.http.post("/v1/api-keys", json=SHOP, headers=admin | {"idempotency-key": f'"{RANDOM}"'})
    assert (first.status_code, again.status_code, keys(any_world)) == (201, 201, before)
    assert again.content == first.content
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert any_world.http.post("/v1/api-keys", json=SHOP, headers=admin | OTHER).json() != first.json()
    any_world.clock.advance(KEPT_S)
    assert any_world.http.post("/v1/api-keys", json=SHOP, headers=admin | KEY).json() != first.json()
    assert keys(any_world) == before + 2


def test_another_request_with_the_same_key_is_an_error(world: World) -> None:
    admin = world.key(Role.ADMIN)
    assert world.http.post("/v1/api-keys", json=SHOP, headers=admin | KEY).status_code == 201
    for path, body in (
        ("/v1/api-keys", SHOP | {"days": 3}),
        ("/v1/api-keys?x=1", SHOP),
        ("/v1/api-keys/key_x/rotate", SHOP),
    ):
        answer = world.http.post(path, json=body, headers=admin | KEY)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:reticent:problem:idempotency-mismatch"), path


def test_keys_of_different_callers_have_nothing_to_do_with_each_other(world: World) -> None:
    first, second = world.key(Role.ADMIN, holder="a"), world.key(Role.ADMIN, holder="b")
    answers = [world.http.post("/v1/api-keys", json=SHOP, headers=one | KEY).json() for one in (first, second)]
    assert answers[0] != answers[1]
    assert world.http.post("/v1/api-keys", json=SHOP, headers=KEY).status_code == 401


def test_a_rotated_key_still_finds_its_answers(world: World) -> None:
    issued = world.services.access.issue(Role.ADMIN, label="x")
    old = bearer(issued.token)
    first = world.http.post("/v1/api-keys", json=SHOP, headers=old | KEY).json()
    fresh = world.http.post(f"/v1/api-keys/{issued.key_id}/rotate", json={}, headers=old).json()["api_key"]
    assert world.http.post("/v1/api-keys", json=SHOP, headers=bearer(fresh) | KEY).json() == first


def test_at_once_the_work_is_done_once(any_world: World) -> None:
    admin = any_world.key(Role.ADMIN)
    before = keys(any_world)
    calls = [("POST", "/v1/api-keys", {"json": SHOP, "headers": admin | KEY})] * 12
    answers = any_world.http.together(*calls)
    assert keys(any_world) == before + 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    waiting = [answer for answer in answers if answer.status_code == 409]
    assert all((w.json()["title"], w.headers["retry-after"]) == ("RequestInFlight", "1") for w in waiting)


def test_without_the_header_every_request_counts(world: World) -> None:
    """The control of the tests above: the same requests, and twelve effects."""
    admin = world.key(Role.ADMIN)
    before = keys(world)
    world.http.together(*[("POST", "/v1/api-keys", {"json": SHOP, "headers": admin})] * 12)
    assert keys(world) == before + 12
    assert kept(world) == []


def test_a_refusal_is_not_kept(world: World) -> None:
    device = world.enrol()
    assert world.change(device, notice_digest="0" * 64).status_code == 404
    body = {"handle": device.handle, "notice_digest": "0" * 64, "decisions": {"train.local": "given"}}
    body |= {"locale": "en", "surface": "x"}
    assert world.http.post("/v1/consents", json=body, headers=device.headers | KEY).status_code == 404
    assert kept(world) == []
    good = body | {"notice_digest": world.notice()}
    assert world.http.post("/v1/consents", json=good, headers=device.headers | KEY).status_code == 201


def test_a_device_signs_its_key_along_and_every_try_afresh(world: World) -> None:
    device = world.consenting()
    body = {"handle": device.handle, "request": "access"}
    first = world.http.post("/v1/dsr", json=body, headers=device.headers | KEY)
    again = world.http.post("/v1/dsr", json=body, headers=device.headers | KEY)
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    stranger = Device(device.handle, world.enrol().key, world.clock)
    assert world.http.post("/v1/dsr", json=body, headers=stranger.headers | KEY).status_code == 401


def test_a_decision_is_never_repeated(furnished: World) -> None:
    """A kept answer would be a personalised one after a withdrawal: every decision is decided anew."""
    device, shop = furnished.consenting(), furnished.key(Role.APP_BACKEND)
    body = {"handle": device.handle, "slots": [{"slot_id": "top"}]}
    first = furnished.http.post("/v1/decisions", json=body, headers=shop | KEY)
    furnished.withdraw(device)
    again = furnished.http.post("/v1/decisions", json=body, headers=shop | KEY)
    assert again.content != first.content
    assert (first.json()["mode"], again.json()["mode"]) == ("on_device", "contextual")
    assert kept(furnished) == []


@pytest.mark.parametrize("key", ["short", "", "a" * 256, "ä" * 20, "with space inside it", '"short"'])
def test_a_key_must_be_hard_to_guess(world: World, key: str) -> None:
    raw = [(b"idempotency-key", key.encode("latin-1"))]
    admin = [(name.encode(), value.encode()) for name, value in world.key(Role.ADMIN).items()]
    answer = world.http.post("/v1/api-keys", json=SHOP, headers=raw + admin)
    assert (answer.status_code, answer.json()["title"]) == (400, "MalformedInput")


def test_a_body_that_is_too_long_is_refused_here_too(world: World) -> None:
    answer = world.http.post("/v1/subjects", content=b" " * (64 * 1024 + 1), headers=KEY)
    assert (answer.status_code, answer.json()["title"]) == (413, "BodyTooLarge")


def test_what_is_shown_once_is_not_stored_in_the_clear(world: World) -> None:
    """Neither the database alone nor the database with the pepper opens a kept answer: the caller's key is needed."""
    admin = world.key(Role.ADMIN)
    token = world.http.post("/v1/api-keys", json=SHOP, headers=admin | KEY).json()["api_key"]
    device = world.enrol()
    enrolment = {"public_key": device.key.public.x, "app_id": "a", "age_band": "adult", "jurisdiction": "CN"}
    own = introduced(device.key, world.clock) | KEY
    assert world.http.post("/v1/subjects", json=enrolment, headers=own).status_code == 201
    world.withdraw(device)
    ((digest, _, sealed),) = [row for row in kept(world) if row[0]][:1]
    assert sealed is not None
    guess = Repeats(world.services.database, world.services.settings.pepper.read_bytes(), world.clock)
    begun = guess.begin("another credential", RANDOM, b"x")
    assert isinstance(begun, Ticket)
    assert begun.digest != digest
    world.services.database.close()
    files = [Path(f) for f in world.services.settings.state_dir.glob(f"{DATABASE_FILE}*")]
    stored = b"".join(file.read_bytes() for file in files)
    assert b"kept_answer" in stored
    for secret in (token, RANDOM, token.removeprefix("rtk_app_backend_")):
        assert secret.encode() not in stored


def test_erasure_takes_kept_answers_and_leaves_others(world: World) -> None:
    one, other = world.consenting(), world.consenting()
    for device in (one, other):
        body = {"notice_digest": world.notice(), "decisions": {Purpose.TRAIN_LOCAL.value: "refused"}}
        body |= {"handle": device.handle, "locale": "en", "surface": "x"}
        assert world.http.post("/v1/consents", json=body, headers=device.headers | KEY).status_code == 201
    shop = world.key(Role.APP_BACKEND)
    assert world.http.post("/v1/consents", json=body | {"handle": one.handle}, headers=shop | KEY).status_code == 201
    assert len({row[1] for row in kept(world)}) == 2
    assert not any(device.handle in str(row) for row in kept(world) for device in (one, other))
    with world.services.database.write() as session:
        assert world.services.repeats.forget(session, one.handle) == 2
    assert len(kept(world)) == 1


def test_nothing_is_kept_about_somebody_who_was_erased_meanwhile(world: World) -> None:
    ticket = world.services.repeats.begin("c", "k" * 20, b"request")
    assert isinstance(ticket, Ticket)
    world.services.repeats.finish(ticket, Answer(200, (), b"{}"), subject="A" * 22)
    assert kept(world) == []


def test_the_work_of_a_worker_that_died_is_taken_up_after_a_minute(any_world: World) -> None:
    begin: Callable[[], Ticket | Answer] = lambda: any_world.services.repeats.begin("c", "k" * 20, b"request")  # noqa: E731
    dead = begin()
    assert isinstance(dead, Ticket)
    with pytest.raises(RequestInFlight):
        begin()
    with pytest.raises(IdempotencyMismatch):
        any_world.services.repeats.begin("c", "k" * 20, b"another")
    any_world.clock.advance(LEASE_S)
    taken = begin()
    assert isinstance(taken, Ticket)
    any_world.services.repeats.finish(dead, Answer(500, (), b"late"))
    any_world.services.repeats.finish(taken, Answer(200, (("x", "y"),), b"done"))
    assert begin() == Answer(200, (("x", "y"),), b"done")


def test_two_workers_begin_one_work(any_world: World) -> None:
    """The lock is the database's: threads of one process stand for workers, each with its own connection."""
    outcomes: list[str] = []

    def work() -> None:
        try:
            begun = any_world.services.repeats.begin("c", "k" * 20, b"request")
            outcomes.append(type(begun).__name__)
        except RequestInFlight:
            outcomes.append("RequestInFlight")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["RequestInFlight"] * 7 + ["Ticket"]


def test_what_protects_is_done_anew_although_its_key_comes_again(furnished: World) -> None:
    """A kept answer must not say that something is withdrawn or stopped which was granted or released meanwhile."""
    device, officer = furnished.consenting(), furnished.key(Role.PRIVACY_OFFICER)
    body, stop = {"handle": device.handle, "purposes": "all"}, {"scope": "purpose", "target": "train.contribute"}
    for _ in range(2):
        furnished.change(device)
        answer = furnished.http.post("/v1/consents/withdraw", json=body, headers=device.headers | KEY)
        assert answer.status_code == 200
        assert not any(state.permitted for state in furnished.services.consent.effective(device.handle))
    for _ in range(2):
        assert furnished.http.post("/v1/controls/kill", json=stop, headers=officer | OTHER).status_code == 200
        assert furnished.services.controls.stopped()
        furnished.services.controls.release(ControlScope.PURPOSE, "train.contribute", actor="test")


def test_an_answer_with_a_receipt_of_somebody_goes_with_them(furnished: World) -> None:
    device, officer = furnished.consenting(), furnished.key(Role.PRIVACY_OFFICER)
    receipt = furnished.services.consent.history(device.handle)[-1].receipt_id
    body = {"receipt_id": receipt, "reason": next(iter(InvalidationReason)).value}
    first = furnished.http.post("/v1/consents/invalidate", json=body, headers=officer | KEY)
    assert first.status_code == 200, first.text
    erased = furnished.http.post(
        "/v1/dsr", json={"handle": device.handle, "request": "erasure"}, headers=device.headers
    )
    assert erased.status_code == 201
    assert kept(furnished) == []
    assert furnished.http.post("/v1/consents/invalidate", json=body, headers=officer | KEY).status_code == 404


def test_an_answer_that_is_kept_while_its_subject_is_erased_does_not_outlive_them(any_world: World) -> None:
    """The erasure holds the subject's row; whoever keeps an answer about them has to wait for it, and then sees."""
    device, services = any_world.consenting(), any_world.services
    ticket = services.repeats.begin("device:x", RANDOM, b"request")
    assert isinstance(ticket, Ticket)
    answer = Answer(200, (), device.handle.encode())
    late = threading.Thread(target=lambda: services.repeats.finish(ticket, answer, subject=device.handle))
    with services.database.write() as session:
        services.consent.forget(session, device.handle)
        services.repeats.forget(session, device.handle)
        late.start()
        late.join(0.5)
    late.join()
    assert kept(any_world) == []
