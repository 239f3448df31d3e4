"""The enrolment authority: what it certifies, with which key, and where it is somebody else."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from common.crypto.signing import PublicKey, SigningKey
from common.errors import MalformedInput, TrustError
from common.secagg.certificate import open_certificate
from server.api.services import build_services, initialise
from server.consent.authority import CERTIFICATE_DAYS, Authority
from server.settings import Settings
from tests.service.world import APP, Clock, World, introduced

URL = "/.well-known/enrolment-authorities.json"


def keys_at(world: World, url: str) -> list[PublicKey]:
    return [PublicKey(key["x"]) for key in world.http.get(url).json()["keys"]]


def enrol(world: World, key: SigningKey) -> dict[str, str]:
    body = {"public_key": key.public.x, "app_id": APP, "age_band": "adult", "jurisdiction": "CN"}
    return dict(world.http.post("/v1/subjects", json=body, headers=introduced(key, world.clock)).json())


def test_enrolment_certifies_the_devices_own_key(world: World) -> None:
    key = SigningKey.generate()
    certificate = base64.urlsafe_b64decode(enrol(world, key)["certificate"] + "==")
    authorities = keys_at(world, URL)
    now = world.clock()
    assert open_certificate(certificate, authorities, now) == key.public.raw
    assert open_certificate(certificate, authorities, now + CERTIFICATE_DAYS * 86_400 - 1) == key.public.raw
    with pytest.raises(TrustError, match="expired"):
        open_certificate(certificate, authorities, now + CERTIFICATE_DAYS * 86_400 + 1)


def test_the_authority_is_not_the_signer(world: World) -> None:
    (authority,) = keys_at(world, URL)
    assert authority.kid not in {key.kid for key in keys_at(world, "/.well-known/jwks.json")}
    assert world.services.settings.authority_key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["short", "B" * 43])
def test_what_is_no_key_is_not_certified(text: str) -> None:
    with pytest.raises(MalformedInput):
        Authority(SigningKey.generate()).certify(text)  # the second: not canonical base64url of 32 bytes


def test_an_authority_elsewhere_certifies_elsewhere(settings: Settings) -> None:
    settings.authority_key.unlink()
    elsewhere = replace(settings, authority=SigningKey.generate().public.x)
    initialise(elsewhere, clock=Clock()).database.close()
    assert not settings.authority_key.exists()
    clock = Clock()
    world = World(build_services(elsewhere, clock=clock), clock)
    assert enrol(world, SigningKey.generate())["certificate"] is None
    assert keys_at(world, URL) == []
    world.close()
