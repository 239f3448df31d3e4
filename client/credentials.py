"""Credentials of a node's devices. Owns ``credentials.json`` (0600): API keys, identity keys, their certificates.

The identity is what a device signs with in a secure aggregation; the certificate, from the enrolment authority, is why
other devices believe it. The file is read again only when it has changed: a node may host hundreds of devices.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from client.pins import replace_private
from common.crypto.signing import SigningKey
from common.errors import StoreError


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a device got when it enrolled.

    Attributes:
        api_key: at the service; empty for simulated owners, who never speak to one.
        identity: the device's own Ed25519 key.
        certificate: of that key, by the enrolment authority; empty where the service is none.
    """

    api_key: str = field(repr=False)
    identity: SigningKey
    certificate: bytes = b""


class _Credential(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    api_key: str
    identity: str
    certificate: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    format: str = "reticent-credentials-1"
    devices: dict[str, _Credential] = {}


class Credentials:
    """What each device needs to speak for itself: to the service, and to other devices."""

    def __init__(self, path: Path) -> None:
        """Use the file at ``path``; an absent one holds nothing."""
        self._path: Final = path
        self._read_at: tuple[int, int, int] | None = None
        self._devices: dict[str, _Credential] = {}
        self._identities: dict[str, tuple[SigningKey, bytes]] = {}

    def api_key(self, device: str) -> str:
        """The device's API key; empty before it enrolled.

        Raises:
            StoreError: the file does not decode.
        """
        found = self._current().get(device)
        return "" if found is None else found.api_key

    def identity(self, device: str) -> tuple[SigningKey, bytes] | None:
        """The device's Ed25519 key and its certificate; None for a device that has no certificate.

        Raises:
            StoreError: the file does not decode.
        """
        found = self._current().get(device)
        if found is None or not found.certificate:
            return None
        return self._keys(device, found)

    def signing_key(self, device: str) -> SigningKey | None:
        """The device's Ed25519 key, certified or not; None before it enrolled.

        Raises:
            StoreError: the file does not decode.
        """
        found = self._current().get(device)
        return None if found is None else self._keys(device, found)[0]

    def _keys(self, device: str, found: _Credential) -> tuple[SigningKey, bytes]:
        if device not in self._identities:
            try:
                pair = SigningKey(_decoded(found.identity)), _decoded(found.certificate)
            except ValueError:
                raise StoreError(f"{self._path.name} does not decode; enrol the device again") from None
            self._identities[device] = pair
        return self._identities[device]

    def keep(self, device: str, *, api_key: str, identity: SigningKey, certificate: bytes = b"") -> None:
        """Remember an enrolment."""
        self.keep_many({device: Enrolment(api_key, identity, certificate)})

    def keep_many(self, enrolments: Mapping[str, Enrolment]) -> None:
        """Remember many enrolments at once."""
        rows = {
            device: _Credential(
                api_key=one.api_key, identity=_encoded(one.identity.secret), certificate=_encoded(one.certificate)
            )
            for device, one in enrolments.items()
        }
        self._write({**self._current(), **rows})

    def forget(self, device: str) -> None:
        """Forget a device's credentials."""
        held = self._current()
        if device in held:
            self._write({name: row for name, row in held.items() if name != device})

    def _write(self, devices: dict[str, _Credential]) -> None:
        replace_private(self._path, _File(devices=devices).model_dump_json().encode())

    def _current(self) -> dict[str, _Credential]:
        try:
            stat = self._path.stat()
            read_at = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if read_at != self._read_at:
                self._devices = _File.model_validate_json(self._path.read_bytes()).devices
                self._read_at, self._identities = read_at, {}
        except FileNotFoundError:
            self._read_at, self._devices, self._identities = None, {}, {}
        except ValidationError:
            self._read_at = None
            raise StoreError(f"{self._path.name} does not decode; enrol the device again") from None
        return self._devices


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
