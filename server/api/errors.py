"""Errors as RFC 9457 problems. Owns the one map from our exceptions to status and public words.

A problem names its error and never echoes what was sent: field names are given only if they are ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from traceback import extract_tb
from typing import Any, Final, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from common import errors
from common.errors import ReticentError

MEDIA_TYPE: Final = "application/problem+json"
_LOG = logging.getLogger(__name__)

# The nearest ancestor counts, so every error of ours has a status.
STATUS: Final[Mapping[type[ReticentError], int]] = {
    errors.MalformedInput: 400,
    errors.NotAuthenticated: 401,
    errors.Refused: 403,
    errors.NotAllowed: 403,
    errors.TokenForged: 403,
    errors.NotFound: 404,
    errors.UnknownNotice: 404,
    errors.NoticeExpired: 409,
    errors.AskedTooEarly: 409,
    errors.NotPending: 409,
    errors.NotInThisState: 409,
    errors.ExperimentRunning: 409,
    errors.TokenReplayed: 409,
    errors.AlreadyMeasured: 409,
    errors.TokenOutOfOrder: 409,
    errors.TokenLate: 410,
    errors.PackageGone: 410,
    errors.RequestReplayed: 409,
    errors.RequestInFlight: 409,
    errors.PreconditionFailed: 412,
    errors.IdempotencyMismatch: 422,
    errors.RateLimited: 429,
    errors.InputError: 422,
    errors.TrustError: 422,
    errors.ContractError: 422,
    errors.PolicyError: 422,
    errors.StorageUnavailable: 503,
    ReticentError: 500,
}
_OF_STATUS: Final = {404: "NotFound", 405: "MethodNotAllowed", 413: "BodyTooLarge", 400: "MalformedInput"}


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(examples=["urn:reticent:problem:notice-expired"])
    title: str = Field(examples=["NoticeExpired"], description="The error's stable name.")
    status: int
    detail: str
    reason: str | None = Field(default=None, description="Closed reason of a refusal.")
    errors: list[dict[str, str]] | None = Field(default=None, description="Where and what, without values.")


def problem_type(name: str) -> str:
    """The URI of a named problem."""
    return "urn:reticent:problem:" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def problem(
    status: int,
    name: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> JSONResponse:
    """A problem as an answer."""
    kind = str(more.get("reason", name))
    body = Problem.model_validate(
        {"type": problem_type(kind), "title": name, "status": status, "detail": detail} | more
    )
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, MEDIA_TYPE)


def unforeseen(error: Exception) -> JSONResponse:
    """The answer to a fault of ours. The log gets its class and place, never its text, which may hold a handle."""
    frames = reversed(extract_tb(error.__traceback__))
    places = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
    _LOG.error("unforeseen %s at %s", type(error).__name__, places)
    return problem(500, "InternalError", "The service failed; nothing was changed by this request.")


def status_of(error: ReticentError) -> int:
    """Status of an error of ours: that of its nearest ancestor in the map."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def answer(error: ReticentError) -> JSONResponse:
    """The answer to an error of ours. A refusal's type is its reason."""
    status = status_of(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _LOG.error("answering %d: %s", status, error.name)
    headers = {401: {"www-authenticate": "Bearer"}, 503: {"retry-after": "1"}}.get(status)
    if isinstance(error, errors.RateLimited):
        headers = {"retry-after": str(error.retry_after_s)}
    if isinstance(error, errors.RequestInFlight):
        headers = {"retry-after": "1"}
    refused = {"reason": error.reason.value} if isinstance(error, errors.Refused) else {}
    return problem(status, error.name, str(error), headers=headers, **refused)


def answer_http(error: HTTPException) -> JSONResponse:
    """The answer to what the framework refuses."""
    status = error.status_code
    name = _OF_STATUS.get(status, HTTPStatus(status).phrase.title().replace(" ", ""))
    return problem(status, name, HTTPStatus(status).phrase, headers=error.headers)


def install(app: FastAPI, known_fields: frozenset[str]) -> None:
    """Answer every exception with a problem.

    Args:
        app: the application.
        known_fields: names that may be repeated in an answer, because they are ours.
    """

    async def ours(_request: Request, error: Exception) -> JSONResponse:
        return answer(cast("ReticentError", error))

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        return _invalid(cast("RequestValidationError", error).errors(), known_fields)

    async def http(_request: Request, error: Exception) -> JSONResponse:
        return answer_http(cast("HTTPException", error))

    app.add_exception_handler(ReticentError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def _invalid(rows: Sequence[Mapping[str, Any]], known_fields: frozenset[str]) -> JSONResponse:
    """400 for what is not JSON, a name of its own for unknown purposes, 422 for the rest."""
    if any(row["type"] == "json_invalid" for row in rows):
        return problem(400, "MalformedInput", "The body is not JSON.")
    lines = [{"where": _place(row, known_fields), "what": str(row["type"])} for row in rows]
    if any(row["type"] == "enum" and {"decisions", "purposes"} & set(row["loc"]) for row in rows):
        text = "A purpose is not in the closed list; see /v1/notices/current."
        return problem(422, "UnknownPurpose", text, errors=lines)
    return problem(422, "InvalidRequest", "The request does not have its declared form.", errors=lines)


def _place(row: Mapping[str, Any], known_fields: frozenset[str]) -> str:
    """Where a fault is, with every name that is not ours replaced."""
    return ".".join(str(part) if isinstance(part, int) or part in known_fields else "*" for part in row["loc"])
