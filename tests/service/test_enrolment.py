"""Enrolment: only whoever holds a key enrols it, once per signature, and what was signed is what is enrolled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import httpx
from sqlalchemy import text

from common.crypto.http_signing import MAX_AGE_S, SKEW_S, sign
from common.crypto.signing import SigningKey
from common.taxonomy import Purpose, Role
from common.wire.messages import SubjectEnrolment
from server.api.services import build_services
from server.settings import Settings
from tests.service.http import DeviceAuth, SignedHeaders
from tests.service.world import APP, Clock, World, introduced

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
URL = "http://service/v1/subjects"
REPEATED = {"idempotency-key": "0123456789abcdef0123"}
SENT = {"content-type": "application/json"}


def body(key: SigningKey = KEY, app_id: str = APP) -> bytes:
    return (
        b'{"public_key": "%s", "app_id": "%s", "age_band": "adult", "jurisdiction": "CN"}'
        % (key.public.x.encode(), app_id.encode())
    )  # fmt: skip


def by_hand(world: World, **changes: object) -> dict[str, str]:
    """The signature of a genuine enrolment of ``KEY``, but for what is changed."""
    given: dict[str, object] = {"key": KEY, "keyid": KEY.public.x, "now": world.clock(), "body": body()}
    return sign("POST", str(changes.pop("url", URL)), **(given | changes))  # type: ignore[arg-type]


def post(world: World, headers: Mapping[str, str], content: bytes | None = None) -> httpx.Response:
    return world.http.post("/v1/subjects", content=body() if content is None else content, headers=headers | SENT)


def enrolled(world: World) -> int:
    with world.services.database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM subject")).scalar_one())


def test_a_key_is_enrolled_by_whoever_holds_it_alone(world: World) -> None:
    forged: dict[str, Mapping[str, str]] = {
        "unsigned": {},
        "by a key that is not the one it names": by_hand(world, key=OTHER),
        "by another key, genuinely": by_hand(world, key=OTHER, keyid=OTHER.public.x),
        "for another body": by_hand(world, body=body(app_id="another")),
        "for another host": by_hand(world, url="http://elsewhere/v1/subjects"),
        "for another path": by_hand(world, url="http://service/v1/consents"),
        "long ago": by_hand(world, now=world.clock() - MAX_AGE_S - SKEW_S),
        "by what is no key": by_hand(world, keyid="B" * 43),
        "without the idempotency key": by_hand(world) | REPEATED,
        "by a handle": SignedHeaders(DeviceAuth(KEY, world.enrol().handle, world.clock)),
    }
    before = enrolled(world)
    for what, headers in forged.items():
        refused = post(world, headers)
        assert (refused.status_code, refused.json()["title"]) == (401, "PossessionNotProven"), what
        assert refused.json()["type"] == "urn:reticent:problem:possession-not-proven"
        assert enrolled(world) == before, what
    assert post(world, by_hand(world)).status_code == 201
    assert enrolled(world) == before + 1


def test_a_stranger_cannot_keep_a_device_out_of_rounds(world: World) -> None:
    """A round takes a device only if everybody who enrolled its key agrees: it has to be the device itself."""
    device = world.consenting()

    def takes_part() -> bool:
        with world.services.database.read() as session:
            found = world.services.consent.permitted_keys(session, [device.key.public.x], Purpose.TRAIN_CONTRIBUTE)
        return found[device.key.public.x]

    assert post(world, introduced(OTHER, world.clock), body(device.key)).status_code == 401
    assert post(world, world.key(Role.APP_BACKEND), body(device.key)).status_code == 403
    assert takes_part()
    world.services.consent.enrol(SubjectEnrolment.model_validate_json(body(device.key)))  # as if nothing were checked
    assert not takes_part()


def test_an_api_key_enrols_nobodys_device(world: World) -> None:
    for role in (Role.APP_BACKEND, Role.ADMIN):
        refused = post(world, world.key(role))
        assert (refused.status_code, refused.json()["title"]) == (403, "NotAllowed")
    assert enrolled(world) == 0
    assert post(world, world.key(Role.APP_BACKEND) | by_hand(world)).status_code == 201


def test_an_enrolment_is_accepted_once_by_all_workers_together(any_world: World) -> None:
    headers = by_hand(any_world)
    assert post(any_world, headers).status_code == 201
    twin = World(build_services(any_world.services.settings, clock=any_world.clock), any_world.clock)
    try:
        for world in (any_world, twin):
            again = post(world, headers)
            assert (again.status_code, again.json()["title"]) == (409, "RequestReplayed")
    finally:
        twin.close()
    assert enrolled(any_world) == 1


def test_a_kept_answer_is_for_whoever_proves_the_key_again(world: World) -> None:
    first = by_hand(world, headers=REPEATED) | REPEATED
    handle = post(world, first).json()["handle"]
    again = post(world, by_hand(world, headers=REPEATED) | REPEATED)
    assert (again.json()["handle"], again.headers["idempotent-replayed"]) == (handle, "true")
    for caught in (first, {}, REPEATED):
        refused = post(world, caught)
        assert refused.status_code in {401, 409}
        assert handle not in refused.text
    other = post(world, introduced(OTHER, world.clock) | REPEATED, body(OTHER))
    assert other.json()["handle"] != handle


def test_all_enrolments_share_one_limit_whatever_keys_are_made_up(settings: Settings) -> None:
    clock = Clock()
    world = World(build_services(replace(settings, rate_limits="enrolment=3/60"), clock=clock), clock)
    try:
        keys = [SigningKey.generate() for _ in range(4)]
        codes = [post(world, introduced(key, clock), body(key)).status_code for key in keys]
        assert codes == [201, 201, 201, 429]
    finally:
        world.close()


def test_what_was_proved_at_the_door_opens_nothing_else(world: World) -> None:
    world.enrol()
    for path in ("/v1/consents/me", "/v1/consents/me/history"):
        refused = world.http.get(path, headers=introduced(KEY, world.clock))
        assert (refused.status_code, refused.json()["title"]) == (401, "NotAuthenticated")
