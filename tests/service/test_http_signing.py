"""Signed requests: what is covered cannot be changed, what is old or was seen is refused, and only one form counts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import pytest
from sqlalchemy import text

from common.crypto.http_signing import MAX_AGE_S, SKEW_S, TAG, Signed, is_signed, sign, verify
from common.crypto.signing import PublicKey, SigningKey
from common.errors import InvalidSignature, StorageUnavailable
from common.taxonomy import Role
from server.api.services import build_services
from tests.service.http import DeviceAuth
from tests.service.world import Device, World, introduced

NOW = 1_800_000_000.0
KEY = SigningKey.generate()
HANDLE = "q3Yx0mVbS1uJ7eHcKf2nPw"
URL = "https://service.example/v1/consents?x=1"
BODY = b'{"handle":"q"}'
OWN = {"Idempotency-Key": "0123456789abcdef"}


def signed(**changes: object) -> dict[str, str]:
    given: dict[str, object] = {"key": KEY, "keyid": HANDLE, "now": NOW, "body": BODY, "headers": OWN}
    return sign("POST", URL, **(given | changes))  # type: ignore[arg-type]


def check(
    headers: dict[str, str],
    *,
    method: str = "POST",
    url: str = URL,
    body: bytes = BODY,
    now: float = NOW,
    keys: Callable[[str], PublicKey | None] = lambda _: KEY.public,
) -> Signed:
    return verify(method, url, headers=list(headers.items()), body=body, keys=keys, now=now)


def test_what_is_signed_verifies_and_says_whose_it_is() -> None:
    headers = signed()
    assert is_signed(headers.items())
    found = check(headers | OWN)
    assert (found.keyid, found.expires_at) == (HANDLE, int(NOW) + MAX_AGE_S + SKEW_S)
    assert check(signed() | OWN).nonce != found.nonce
    assert check(signed(body=b"", headers=None), body=b"")


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"url": URL + "0"},
        {"url": URL.replace("https", "http")},
        {"url": URL.replace("service", "other")},
        {"body": BODY + b" "},
        {"body": b""},
        {"now": NOW + MAX_AGE_S + SKEW_S},
        {"now": NOW - SKEW_S - 1},
        {"keys": lambda _: SigningKey.generate().public},
        {"keys": lambda _: None},
    ],
)
def test_a_change_of_anything_covered_is_caught(change: dict[str, object]) -> None:
    with pytest.raises(InvalidSignature, match=r"^the request's signature does not verify$"):
        check(signed() | OWN, **change)  # type: ignore[arg-type]


def test_the_edges_of_time_hold() -> None:
    assert check(signed() | OWN, now=NOW + MAX_AGE_S + SKEW_S - 1)
    assert check(signed() | OWN, now=NOW - SKEW_S)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h | {"idempotency-key": "fedcba9876543210"},
        lambda h: {name: value for name, value in h.items() if name != "idempotency-key"},
        lambda h: {name: value for name, value in h.items() if name != "content-digest"},
        lambda h: h | {"content-digest": h["content-digest"].replace("sha-256", "sha-512")},
        lambda h: h | {"signature-input": h["signature-input"].replace(TAG, "another-tag")},
        lambda h: h | {"signature-input": h["signature-input"].replace(HANDLE, HANDLE[::-1])},
        lambda h: h | {"signature-input": h["signature-input"].replace("created=1", "created=2")},
        lambda h: h | {"signature-input": h["signature-input"].replace('"content-digest"', '"content-type"')},
        lambda h: h | {"signature-input": h["signature-input"] + ";expires=1"},
        lambda h: h | {"signature-input": h["signature-input"] + ";alg=hmac-sha256"},
        lambda h: h | {"signature-input": h["signature-input"] + ", " + h["signature-input"].replace("sig=", "two=")},
        lambda h: h | {"signature": h["signature"].replace("sig=:", "sig=:AAAA")},
        lambda h: h | {"signature": "sig=::"},
        lambda h: h | {"signature-input": "(" * 900},
        lambda h: h | {"signature-input": "a" * 5000},
        lambda h: h | {"Signature-Input": h["signature-input"]},
        lambda h: {name: value for name, value in h.items() if name != "signature"},
        lambda h: {},
    ],
)
def test_another_form_is_refused(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    whole = signed() | {"idempotency-key": OWN["Idempotency-Key"]}
    assert check(whole)
    with pytest.raises(InvalidSignature):
        check(change(whole))


def test_a_signature_that_covers_less_is_refused_though_genuine() -> None:
    """The trap of RFC 9421 libraries: a valid signature over nothing that matters."""
    for covered in ('"@method" "@target-uri"', '"@method" "content-digest"', '"@target-uri" "content-digest"', ""):
        digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
        values = {'"@method"': "POST", '"@target-uri"': URL, '"content-digest"': f"sha-256=:{digest}:"}
        parameters = f'({covered});created={int(NOW)};keyid="{HANDLE}";nonce="{"n" * 22}";tag="{TAG}"'
        lines = [f"{name}: {values[name]}" for name in covered.split()]
        base = "\n".join([*lines, f'"@signature-params": {parameters}'])
        mark = base64.b64encode(KEY.sign_bytes(base.encode())).decode()
        headers = {
            "content-digest": values['"content-digest"'],
            "signature-input": f"sig={parameters}",
            "signature": f"sig=:{mark}:",
        }
        with pytest.raises(InvalidSignature):
            check(headers)


def test_a_nonce_is_long_enough_to_be_one() -> None:
    for nonce in ("", "short", "n" * 65):
        with pytest.raises(InvalidSignature):
            check(signed(nonce=nonce) | OWN)


def test_a_key_that_cannot_be_looked_up_is_no_bad_signature() -> None:
    def unreachable(_: str) -> PublicKey:
        raise StorageUnavailable("the database does not answer")

    with pytest.raises(StorageUnavailable):
        check(signed() | OWN, keys=unreachable)


# ── at the service ───────────────────────────────────────────────────────────────────────────────────────────────────


def mine(world: World, headers: dict[str, str]) -> int:
    return world.http.get("/v1/consents/me", headers=headers).status_code


def by_hand(device: Device, world: World, url: str = "http://service/v1/consents/me") -> dict[str, str]:
    return sign("GET", url, key=device.key, keyid=device.handle, now=world.clock())


def test_a_request_is_accepted_once_by_all_workers_together(any_world: World) -> None:
    device = any_world.enrol()
    headers = by_hand(device, any_world)
    assert mine(any_world, headers) == 200
    again = any_world.http.get("/v1/consents/me", headers=headers)
    assert (again.status_code, again.json()["title"]) == (409, "RequestReplayed")
    twin = World(build_services(any_world.services.settings, clock=any_world.clock), any_world.clock)
    try:
        assert mine(twin, headers) == 409
        assert mine(twin, by_hand(device, any_world)) == 200
    finally:
        twin.close()


def test_concurrent_replays_are_accepted_once(any_world: World) -> None:
    headers = by_hand(any_world.enrol(), any_world)
    answers = any_world.http.together(*[("GET", "/v1/consents/me", {"headers": headers})] * 12)
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 11


def test_another_subjects_key_old_signatures_and_other_hosts_open_nothing(world: World) -> None:
    device, other = world.enrol(), world.enrol()
    stolen = Device(other.handle, device.key, world.clock)
    assert mine(world, stolen.headers) == 401
    headers = by_hand(device, world)
    world.clock.advance(MAX_AGE_S + SKEW_S)
    assert mine(world, headers) == 401
    assert mine(world, by_hand(device, world, "http://elsewhere/v1/consents/me")) == 401
    assert mine(world, by_hand(device, world, "http://service/v1/consents/me/history")) == 401
    assert mine(world, Device("A" * 22, device.key, world.clock).headers) == 401
    assert mine(world, device.headers) == 200


def test_a_body_changed_on_the_way_is_refused(world: World) -> None:
    device = world.consenting()
    own = b'{"handle":"%s","purposes":["place.personalised"]}' % device.handle.encode()
    url = "http://service/v1/consents/withdraw"
    headers = sign("POST", url, key=device.key, keyid=device.handle, now=world.clock(), body=own)
    changed = own.replace(b'["place.personalised"]', b'"all"')
    kind = {"content-type": "application/json"}
    assert world.http.post("/v1/consents/withdraw", content=changed, headers=headers | kind).status_code == 401
    assert world.http.post("/v1/consents/withdraw", content=own, headers=headers | kind).status_code == 200


def test_nonces_name_nobody_and_are_forgotten(world: World) -> None:
    device = world.enrol()
    assert mine(world, device.headers) == 200

    def rows() -> list[tuple[str, int]]:
        with world.services.database.read() as session:
            return [tuple(row) for row in session.execute(text("SELECT digest, expires_at FROM request_nonce"))]

    assert len(rows()) == 2, "of the enrolment, and of this"
    assert not any(name in digest for name in (device.handle, device.key.public.x) for digest, _ in rows())
    world.clock.advance(MAX_AGE_S + SKEW_S + 60)
    assert mine(world, device.headers) == 200
    assert len(rows()) == 1


def test_a_device_has_no_bearer_key(world: World) -> None:
    device = world.enrol()
    body = {"public_key": device.key.public.x, "app_id": "a", "age_band": "adult", "jurisdiction": "CN"}
    answer = world.http.post("/v1/subjects", json=body, headers=introduced(device.key, world.clock))
    assert set(answer.json()) == {"handle", "certificate"}
    for token in (device.handle, f"rtk_device_{'A' * 43}"):
        assert mine(world, {"authorization": f"Bearer {token}"}) == 401


def test_a_proxy_in_front_needs_its_url_configured(world: World) -> None:
    from dataclasses import replace

    device = world.enrol()
    settings = replace(world.services.settings, public_url="https://ads.example/")
    behind = World(build_services(settings, clock=world.clock), world.clock)
    try:
        outside = by_hand(device, world, "https://ads.example/v1/consents/me")
        assert mine(behind, outside) == 200
        assert mine(behind, device.headers) == 401
        assert mine(world, by_hand(device, world, "https://ads.example/v1/consents/me")) == 401
    finally:
        behind.close()


def test_signatures_do_not_mix_with_keys(world: World) -> None:
    """A request that is signed counts as the device's, whatever key lies beside it."""
    device, admin = world.enrol(), world.key(Role.ADMIN)
    answer = world.http.get("/v1/api-keys", headers=device.headers | admin)
    assert (answer.status_code, answer.json()["title"]) == (403, "NotAllowed")
    assert DeviceAuth(device.key, device.handle).requires_request_body
