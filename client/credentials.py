"""Credentials of a node's devices at the service. Owns ``credentials.json``: API keys and identity keys, mode 0600."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from client.pins import replace_private
from common.crypto.signing import SigningKey
from common.errors import StoreError


class _Credential(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    api_key: str
    identity: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: str = "reticent-credentials-1"
    devices: dict[str, _Credential] = {}


class Credentials:
    """What each device needs to speak for itself at the service."""

    def __init__(self, path: Path) -> None:
        """Use the file at ``path``; an absent one holds nothing."""
        self._path: Final = path

    def api_key(self, device: str) -> str:
        """The device's API key; empty before it enrolled.

        Raises:
            StoreError: the file does not decode.
        """
        found = self._read().devices.get(device)
        return "" if found is None else found.api_key

    def keep(self, device: str, *, api_key: str, identity: SigningKey) -> None:
        """Remember an enrolment."""
        file = self._read()
        secret = base64.urlsafe_b64encode(identity.secret).rstrip(b"=").decode()
        file.devices[device] = _Credential(api_key=api_key, identity=secret)
        replace_private(self._path, file.model_dump_json().encode())

    def forget(self, device: str) -> None:
        """Forget a device's credentials."""
        file = self._read()
        if file.devices.pop(device, None) is not None:
            replace_private(self._path, file.model_dump_json().encode())

    def _read(self) -> _File:
        try:
            return _File.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _File()
        except ValidationError:
            raise StoreError(f"{self._path.name} does not decode; enrol the device again") from None
