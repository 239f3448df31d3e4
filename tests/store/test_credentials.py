"""Credentials: identities and certificates of many devices in one file, read once."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from client import credentials
from client.agent import Agent, _Enrolled
from client.credentials import Credentials, Enrolment
from client.device import Node
from client.pins import Pins, read_pins, write_pins
from client.store.keys import DeviceId
from common.crypto.signing import SigningKey
from common.errors import MalformedInput, StoreError, TrustError, UnknownSigner
from common.secagg.certificate import CERTIFICATE_BYTES, issue_certificate

KEY, AUTHORITY = SigningKey.generate(), SigningKey.generate()
CERTIFICATE = issue_certificate(AUTHORITY, KEY.public.raw, 2e9)


def test_identity_and_certificate_are_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    Credentials(path).keep("anna", identity=KEY, certificate=CERTIFICATE)
    assert path.stat().st_mode & 0o777 == 0o600
    held = Credentials(path)
    found = held.identity("anna")
    assert found is not None
    assert (found[0].kid, found[1]) == (KEY.kid, CERTIFICATE)
    assert held.identity("bert") is None
    assert held.signing_key("bert") is None
    held.forget("anna")
    assert Credentials(path).identity("anna") is None


def test_a_device_without_certificate_has_a_key_but_no_identity(tmp_path: Path) -> None:
    held = Credentials(tmp_path / "credentials.json")
    held.keep("anna", identity=KEY)
    assert held.identity("anna") is None
    key = held.signing_key("anna")
    assert key is not None
    assert key.kid == KEY.kid


def test_hundreds_of_devices_are_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "credentials.json"
    names = [f"d{i}" for i in range(300)]
    Credentials(path).keep_many({name: Enrolment(KEY, CERTIFICATE) for name in names})
    reads = []
    real = credentials._File.model_validate_json
    monkeypatch.setattr(credentials._File, "model_validate_json", lambda data: reads.append(1) or real(data))
    held = Credentials(path)
    for _ in range(3):
        assert all(held.identity(name) for name in names)
    assert len(reads) == 1
    Credentials(path).keep("late", identity=KEY, certificate=CERTIFICATE)
    assert held.identity("late") is not None
    assert held.identity("d0") is not None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"devices": {"a": {"api_key": "k", "identity": "!"}}, "x": 1}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "credentials.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="enrol the device again"):
        Credentials(path).identity("anna")


def test_a_damaged_key_is_named_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text('{"devices": {"anna": {"api_key": "k", "identity": "c2VjcmV0", "certificate": "AA"}}}')
    with pytest.raises(StoreError) as caught:
        Credentials(path).identity("anna")
    assert "c2VjcmV0" not in str(caught.value)


def test_bearer_keys_of_older_installations_are_dropped_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    secret = base64.urlsafe_b64encode(KEY.secret).rstrip(b"=").decode()
    row = f'{{"api_key": "rtk_old", "identity": "{secret}"}}'
    path.write_text(f'{{"format": "reticent-credentials-1", "devices": {{"anna": {row}}}}}')
    held = Credentials(path)
    key = held.signing_key("anna")
    assert key is not None
    assert key.kid == KEY.kid
    assert "rtk_old" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert Credentials(path).signing_key("anna") is not None


def test_an_erased_device_keeps_its_identity_until_the_budget_period_ends(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    held = Credentials(path)
    held.keep("anna", identity=KEY, certificate=CERTIFICATE)
    held.retire("anna", 1000.0)
    assert held.identity("anna") is None, "a retired identity takes part in no round"
    assert base64.urlsafe_b64encode(CERTIFICATE).rstrip(b"=").decode() not in path.read_text()
    held.sweep(999.0)
    key = held.signing_key("anna")
    assert key is not None
    assert key.kid == KEY.kid
    held.sweep(1000.0)
    assert held.signing_key("anna") is None
    assert "anna" not in path.read_text()


def test_an_enrolment_shows_no_secret() -> None:
    assert KEY.secret.hex() not in repr(Enrolment(KEY, CERTIFICATE))


def test_authorities_are_pinned_apart_from_signing_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_pins(path, [KEY.public], [], [AUTHORITY.public])
    found = read_pins(path)
    assert [key.kid for key in found.authorities] == [AUTHORITY.kid]
    assert set(found.keys) == {KEY.kid}
    path.write_text('{"format": "reticent-pins-1", "keys": [], "notices": []}')
    assert read_pins(path) == Pins()
    path.write_text('{"format": "reticent-pins-1", "keys": [], "notices": [], "authorities": ["x"]}')
    with pytest.raises(MalformedInput, match="pin them again"):
        read_pins(path)


def agent(*authorities: SigningKey) -> Agent:
    node = SimpleNamespace(
        authorities=tuple(key.public for key in authorities), settings=SimpleNamespace(now=lambda: 1e9)
    )
    return Agent(cast("Node", node), DeviceId("anna"), lambda _signer: None)  # type: ignore[arg-type, return-value]


def test_an_agent_keeps_a_certificate_only_if_it_is_for_its_key() -> None:
    from server.consent.authority import Authority

    text = Authority(AUTHORITY, lambda: 1e9).certify(KEY.public.x)
    answer = _Enrolled(handle="h", certificate=text)
    assert len(agent(AUTHORITY)._certificate(answer, KEY)) == CERTIFICATE_BYTES
    assert agent()._certificate(answer, KEY) == b""
    assert agent(AUTHORITY)._certificate(_Enrolled(handle="h"), KEY) == b""
    with pytest.raises(UnknownSigner):
        agent(KEY)._certificate(answer, KEY)
    with pytest.raises(TrustError, match="another key"):
        agent(AUTHORITY)._certificate(answer, SigningKey.generate())
    with pytest.raises(MalformedInput):
        agent(AUTHORITY)._certificate(_Enrolled(handle="h", certificate="AA"), KEY)
