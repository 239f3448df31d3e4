"""Requests of a data subject, as the device remembers them. Owns ``requests.json`` (0600): what was asked and answered.

The file outlives erasure, because the signed acknowledgement in it is the owner's evidence that erasure was promised.
It holds no behaviour, no handle and no key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from client.pins import replace_private
from common.errors import InputError, StoreError
from common.taxonomy import RequestKind, RequestStatus


class AskedRequest(BaseModel):
    """One request.

    Attributes:
        request_id: the service's name for it; whoever knows it can read the acknowledgement and nothing else.
        received_at: when the service received it; ``due_at`` is by when the law wants it done. Seconds since the epoch.
        law: which law's deadline counts.
        explanation: after an erasure, what bounds that which remains in released models.
        acknowledgement: compact JWS of the service, verified when it arrived.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    device: str
    request_id: str
    request: RequestKind
    status: RequestStatus
    law: str
    received_at: int
    due_at: int
    completed_at: int | None = None
    explanation: str = ""
    acknowledgement: str = ""

    @property
    def open(self) -> bool:
        """Whether the service still owes an answer."""
        return self.status in {RequestStatus.PENDING, RequestStatus.IN_PROGRESS}


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    format: str = "reticent-requests-1"
    requests: tuple[AskedRequest, ...] = ()


class Requests:
    """The requests of one node's devices."""

    def __init__(self, path: Path) -> None:
        """Use the file at ``path``; an absent one holds nothing."""
        self._path: Final = path

    def of(self, device: str) -> list[AskedRequest]:
        """A device's requests, newest first.

        Raises:
            StoreError: the file does not decode.
        """
        mine = [request for request in self._all() if request.device == device]
        return sorted(mine, key=lambda request: -request.received_at)

    def one(self, device: str, request_id: str) -> AskedRequest:
        """The request of this id.

        Raises:
            InputError: this device never made it.
        """
        found = next((request for request in self.of(device) if request.request_id == request_id), None)
        if found is None:
            raise InputError("this device made no request of that id")
        return found

    def keep(self, asked: AskedRequest) -> None:
        """Remember a request, or how it stands now."""
        others = [one for one in self._all() if (one.device, one.request_id) != (asked.device, asked.request_id)]
        replace_private(self._path, _File(requests=(*others, asked)).model_dump_json(indent=1).encode())

    def _all(self) -> tuple[AskedRequest, ...]:
        try:
            return _File.model_validate_json(self._path.read_bytes()).requests
        except FileNotFoundError:
            return ()
        except ValidationError:
            raise StoreError(f"{self._path.name} does not decode; move it away to start empty") from None
