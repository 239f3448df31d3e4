"""Questions and answers about data subjects' requests. Owns their form."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from common.taxonomy import DenialReason, RequestKind, RequestStatus
from server.requests.repository import Request

RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RequestAnswer(Answer):
    """A request as it stands."""

    request_id: str
    request: RequestKind
    status: RequestStatus
    law: str = Field(description="Under which the deadline was reckoned; see the policy document requests.yaml.")
    received_at: int = Field(description="Seconds since the epoch.")
    due_at: int
    completed_at: int | None
    denial: DenialReason | None
    acknowledgement: str = Field(description="Compact JWS, typ dsr-ack+jws; names no subject.")
    package: bool = Field(description="Whether a package can be fetched now.")

    @classmethod
    def of(cls, request: Request, *, package: bool) -> RequestAnswer:
        """From a stored request."""
        return cls(
            request_id=request.request_id,
            request=request.request,
            status=request.status,
            law=request.law,
            received_at=request.received_at,
            due_at=request.due_at,
            completed_at=request.completed_at,
            denial=request.denial,
            acknowledgement=request.acknowledgement,
            package=package,
        )


class StepAnswer(Answer):
    """One step: when, by whom, to what."""

    time: int
    actor: str
    status: RequestStatus


class OfficerAnswer(RequestAnswer):
    """A request as an officer sees it."""

    handle: str | None = Field(description="None once the subject was erased.")
    details: dict[str, str | bool]
    verified_by: str
    steps: tuple[StepAnswer, ...]

    @classmethod
    def of(cls, request: Request, *, package: bool) -> OfficerAnswer:
        """From a stored request."""
        plain = RequestAnswer.of(request, package=package)
        return cls(
            **plain.model_dump(),
            handle=request.handle,
            details=request.details,
            verified_by=request.verified_by,
            steps=tuple(StepAnswer(time=s.time, actor=s.actor, status=s.status) for s in request.steps),
        )


class RequestList(Answer):
    """A page of requests, newest first."""

    requests: tuple[OfficerAnswer, ...]
    next_cursor: str | None


class Denial(Answer):
    """Why a request is denied."""

    reason: DenialReason


class Acknowledged(Answer):
    """The newest acknowledgement of a request."""

    acknowledgement: str
