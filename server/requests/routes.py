"""Requests of data subjects over HTTP: for their devices, and for officers."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Header, Path, Request, Response

from common.errors import MalformedInput, NotFound, PackageGone
from common.taxonomy import RequestStatus, Role
from common.wire.requests import LedgerProof
from common.wire.subject import SubjectRequest
from server.api.deps import ServicesDep
from server.api.paging import PageDep, cut, link
from server.api.security import Caller
from server.requests.repository import BY_OFFICER
from server.requests.repository import Request as StoredRequest
from server.requests.schemas import (
    Acknowledged,
    Denial,
    OfficerAnswer,
    RequestAnswer,
    RequestId,
    RequestList,
)

router = APIRouter(prefix="/v1/dsr", tags=["data subjects"])

_LIST: Final = "requests"
_HANDLE: Final = "q3Yx0mVbS1uJ7eHcKf2nPw"
_EXAMPLES: Final[dict[str, Any]] = {
    "access": {"value": {"handle": _HANDLE, "request": "access"}},
    "erasure": {"value": {"handle": _HANDLE, "request": "erasure", "locale": "zh-CN"}},
    "rectification": {"value": {"handle": _HANDLE, "request": "rectification", "age_band": "minor"}},
}
Id = Annotated[RequestId, Path(examples=["dsr_q3Yx0mVbS1uJ7eHcKf2nPw"])]


@router.post("", status_code=201)
def submit(
    wanted: Annotated[SubjectRequest, Body(openapi_examples=_EXAMPLES)], services: ServicesDep, caller: Caller
) -> RequestAnswer:
    """Exercise a right. What the person's own device signs is done at once where the policy lets it.

    After an erasure the handle is gone: this answer, and the public acknowledgement, are the last word on it.
    """
    found = services.requests.submit(wanted, caller)
    return RequestAnswer.of(found, package=services.requests.packaged(found))


@router.get("")
def page(
    request: Request, response: Response, services: ServicesDep, asked: PageDep, status: RequestStatus | None = None
) -> RequestList:
    """Requests for officers and auditors, newest first."""
    after = asked.after(_LIST, (int,))
    rows = services.requests.list(status, None if after is None else int(after[0]), asked.rows)
    found = cut(rows, asked, _LIST, lambda row: (row.number,))
    link(request, response, found)
    answers = tuple(OfficerAnswer.of(row, package=services.requests.packaged(row)) for row in found.items)
    return RequestList(requests=answers, next_cursor=found.next_cursor)


@router.get("/{request_id}")
def status_of(request_id: Id, services: ServicesDep, caller: Caller) -> RequestAnswer:
    """A request as it stands."""
    found = services.requests.get(request_id, caller)
    return RequestAnswer.of(found, package=services.requests.packaged(found))


@router.delete("/{request_id}")
def cancel(request_id: Id, services: ServicesDep, caller: Caller) -> RequestAnswer:
    """Take a request back while nobody has begun to answer it."""
    return RequestAnswer.of(services.requests.cancel(request_id, caller), package=False)


@router.get("/{request_id}/acknowledgement", tags=["public documents"])
def acknowledgement(request_id: Id, services: ServicesDep) -> Acknowledged:
    """The newest signed acknowledgement, for whoever has the id; it names no subject, and outlives an erasure."""
    return Acknowledged(acknowledgement=services.requests.get(request_id).acknowledgement)


@router.get(
    "/{request_id}/package",
    response_class=Response,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
def package(
    request_id: Id,
    services: ServicesDep,
    caller: Caller,
    proof: Annotated[
        str | None,
        Header(
            alias="reticent-ledger-proof",
            max_length=1200,
            description="`identity.jws`: proof of a ledger identity that is not the enrolled key.",
        ),
    ] = None,
) -> Response:
    """The package of an access or portability request, made now from what is held now."""
    found = services.requests.get(request_id, caller)
    if caller.role is not Role.DEVICE and found.verified_by != BY_OFFICER:
        raise NotFound("no such request")  # what a device asked for is its owner's to read
    if not services.requests.packaged(found):
        raise PackageGone("there is no package of this request, or its time is over")
    return Response(services.packages.make(found, _proof(proof)), media_type="application/zip")


@router.post("/{request_id}/approve")
def approve(request_id: Id, services: ServicesDep, caller: Caller) -> OfficerAnswer:
    """Begin to answer a request."""
    return _told(services, services.requests.approve(request_id, caller.actor))


@router.post("/{request_id}/deny")
def deny(request_id: Id, why: Annotated[Denial, Body()], services: ServicesDep, caller: Caller) -> OfficerAnswer:
    """Say no, with its reason."""
    return _told(services, services.requests.deny(request_id, why.reason, caller.actor))


@router.post("/{request_id}/complete")
def complete(request_id: Id, services: ServicesDep, caller: Caller) -> OfficerAnswer:
    """Do what an approved request asks for."""
    return _told(services, services.requests.complete(request_id, caller.actor))


def _told(services: ServicesDep, found: StoredRequest) -> OfficerAnswer:
    return OfficerAnswer.of(found, package=services.requests.packaged(found))


def _proof(header: str | None) -> LedgerProof | None:
    if header is None:
        return None
    identity, _, jws = header.partition(".")
    try:
        return LedgerProof(identity=identity, jws=jws)
    except ValueError:
        raise MalformedInput("reticent-ledger-proof is not of the form identity.jws") from None
