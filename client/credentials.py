"""Credentials of a node's devices. Owns ``credentials.json`` (0600): identity keys and their certificates.

The identity is what a device signs with, its requests to the service and its part of a secure aggregation alike; the
certificate, from the enrolment authority, is why other devices believe it. There is no other secret: what format 1 kept
beside it (API keys) is dropped from the file as soon as it is read. The identity of an erased device is kept, without
its certificate, until the budget period ends: enrolling again with it lets the service go on with the budget that was
spent. The file is read again only when it has changed: a node may host hundreds of devices.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from client.pins import replace_private
from common.crypto.signing import SigningKey
from common.errors import StoreError

_OLD: Final = "reticent-credentials-1"
_FORMAT: Final = "reticent-credentials-2"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a device got when it enrolled.

    Attributes:
        identity: the device's own Ed25519 key.
        certificate: of that key, by the enrolment authority; empty where the service is none.
    """

    identity: SigningKey
    certificate: bytes = b""


class _Credential(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    identity: str
    certificate: str = ""
    retired_until: int | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    format: Literal["reticent-credentials-1", "reticent-credentials-2"] = _FORMAT
    devices: dict[str, _Credential] = {}

    @model_validator(mode="before")
    @classmethod
    def _without_bearer_keys(cls, value: object) -> object:
        """Format 1 kept an API key beside each identity; nobody accepts it any more."""
        if isinstance(value, dict) and value.get("format", _OLD) == _OLD and isinstance(value.get("devices"), dict):
            devices = value["devices"].items()
            kept = {name: _without_key(row) for name, row in devices}
            return {**value, "format": _OLD, "devices": kept}
        return value


def _without_key(row: object) -> object:
    return {name: part for name, part in row.items() if name != "api_key"} if isinstance(row, dict) else row


class Credentials:
    """What each device needs to speak for itself: to the service, and to other devices."""

    def __init__(self, path: Path) -> None:
        """Use the file at ``path``; an absent one holds nothing."""
        self._path: Final = path
        self._read_at: tuple[int, int, int] | None = None
        self._devices: dict[str, _Credential] = {}
        self._identities: dict[str, tuple[SigningKey, bytes]] = {}

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
        """The device's Ed25519 key, certified or not, retired or not; None before it enrolled.

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

    def keep(self, device: str, *, identity: SigningKey, certificate: bytes = b"") -> None:
        """Remember an enrolment."""
        self.keep_many({device: Enrolment(identity, certificate)})

    def keep_many(self, enrolments: Mapping[str, Enrolment]) -> None:
        """Remember many enrolments at once."""
        rows = {
            device: _Credential(identity=_encoded(one.identity.secret), certificate=_encoded(one.certificate))
            for device, one in enrolments.items()
        }
        self._write({**self._current(), **rows})

    def forget(self, device: str) -> None:
        """Forget a device's credentials."""
        held = self._current()
        if device in held:
            self._write({name: row for name, row in held.items() if name != device})

    def retire(self, device: str, until: float) -> None:
        """Keep an erased device's identity for enrolling again, and nothing else, until a moment.

        **Privacy:** whoever enrols again in the same budget period is recognised by this key, which is its purpose: the
        budget is not refilled. After that nothing is left.
        """
        held = self._current()
        if device in held:
            self._write({**held, device: _Credential(identity=held[device].identity, retired_until=int(until))})

    def sweep(self, now: float) -> None:
        """Forget retired identities whose time is over."""
        held = self._current()
        kept = {name: row for name, row in held.items() if row.retired_until is None or now < row.retired_until}
        if kept != held:
            self._write(kept)

    def _write(self, devices: dict[str, _Credential]) -> None:
        replace_private(self._path, _File(format=_FORMAT, devices=devices).model_dump_json().encode())

    def _current(self) -> dict[str, _Credential]:
        try:
            stat = self._path.stat()
            read_at = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if read_at != self._read_at:
                found = _File.model_validate_json(self._path.read_bytes())
                self._devices, self._read_at, self._identities = found.devices, read_at, {}
                if found.format != _FORMAT:
                    self._write(found.devices)
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
