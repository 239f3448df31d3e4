"""Decisions and follow-ups over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from msgspec.structs import replace
from pydantic import BaseModel

from common.signals import gpc
from common.taxonomy import FollowUp
from common.wire.messages import FollowUpReport
from server.api.deps import ServicesDep
from server.api.security import Caller
from server.decisions.request import DecisionBody, UnreadableSlots, read_request
from server.decisions.schemas import DecisionAnswer

router = APIRouter(prefix="/v1", tags=["placements"])

_EXAMPLE: Final = {
    "handle": "q3Yx0mVbS1uJ7eHcKf2nPw",
    "slots": [{"slot_id": "home-top", "count": 1}],
    "context": {"page": "recipes"},
    "locale": "en",
}
# The body is read leniently, so it is declared by hand: only slots that cannot be read are an error.
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": DecisionBody.model_json_schema(ref_template="#/components/schemas/{model}"),
                "example": _EXAMPLE,
            }
        },
    }
}


class Accepted(BaseModel):
    """The follow-up counts."""

    follow_up: FollowUp


@router.post("/decisions", openapi_extra=_BODY)
async def decide(request: Request, services: ServicesDep, caller: Caller) -> DecisionAnswer:
    """Fill slots: by the device where consent is live, by context everywhere else, always with the reason."""
    try:
        asked = read_request(await request.body())
    except UnreadableSlots as unreadable:
        rows = unreadable.error.errors(include_input=False, include_url=False, include_context=False)
        raise RequestValidationError(rows) from None
    if gpc.opted_out(request.headers.getlist(gpc.HEADER)):
        asked = replace(asked, gpc=True)
    return await run_in_threadpool(services.decisions.decide, asked, caller)


@router.post("/events", status_code=202)
def confirm(report: Annotated[FollowUpReport, Body()], services: ServicesDep) -> Accepted:
    """Confirm an impression, click or conversion of a contextual placement, once, by its token."""
    services.follow_ups.confirm(report.token, report.follow_up)
    return Accepted(follow_up=report.follow_up)
