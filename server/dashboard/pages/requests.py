"""Requests of data subjects: the queue with its countdowns, and one request with what can be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Form, Query, Response
from markupsafe import Markup

from common.errors import MalformedInput
from common.taxonomy import DenialReason, RequestKind, RequestStatus
from common.wire.documents import open_document
from common.wire.requests import RequestAcknowledgement
from server.dashboard import charts
from server.dashboard.desk import Desk, DeskDep
from server.dashboard.queue import days_left
from server.requests.repository import Request

router = APIRouter()
PAGE: Final = 50
_SOON_DAYS: Final = 5


@dataclass(frozen=True, slots=True)
class Row:
    """A request with its countdown.

    Attributes:
        urgency: ``bad`` past the deadline, ``warn`` close to it.
    """

    request: Request
    days_left: int
    urgency: str


@router.get("/requests")
def requests(
    desk: DeskDep, status: Annotated[RequestStatus | None, Query()] = None, before: int | None = None
) -> Response:
    """The queue, what is due first first; then what was answered."""
    services = desk.services
    listed = services.requests.list(status, before, PAGE + 1)
    desk.note_read("requests", shown=min(len(listed), PAGE))
    return desk.page(
        "requests.html",
        queue=[_row(request, desk.now) for request in services.requests.open()],
        listed=[_row(request, desk.now) for request in listed[:PAGE]],
        older=listed[PAGE - 1].number if len(listed) > PAGE else None,
        statuses=tuple(RequestStatus),
        status=status,
        chart=_chart(desk),
    )


@router.get("/requests/{request_id}")
def request(desk: DeskDep, request_id: str) -> Response:
    """One request."""
    found = desk.services.requests.get(request_id)
    desk.note_read("request", subject=found.handle, request=request_id)
    return desk.page(
        "request.html",
        row=_row(found, desk.now),
        denials=tuple(DenialReason),
        word=_acknowledged(desk, found),
        rule=_law(desk, found.law),
        packaged=desk.services.requests.packaged(found),
    )


@router.post("/requests/{request_id}")
def handle(
    desk: DeskDep,
    request_id: str,
    action: Annotated[Literal["approve", "complete", "deny"], Form()],
    reason: Annotated[DenialReason | None, Form()] = None,
) -> Response:
    """Approve, complete or deny."""
    service, actor = desk.services.requests, desk.visitor.actor
    if action == "approve":
        service.approve(request_id, actor)
        return desk.back(f"/requests/{request_id}", "request-approved")
    if action == "complete":
        service.complete(request_id, actor)
        return desk.back(f"/requests/{request_id}", "request-completed")
    if reason is None:
        raise MalformedInput("a denial needs one of the reasons that the law knows")
    service.deny(request_id, reason, actor)
    return desk.back(f"/requests/{request_id}", "request-denied")


def _row(request: Request, now: float) -> Row:
    left = days_left(request.due_at, now)
    late = request.is_open and left < 0
    return Row(request, left, "bad" if late else "warn" if request.is_open and left <= _SOON_DAYS else "")


def _acknowledged(desk: Desk, request: Request) -> RequestAcknowledgement:
    """The signed word on a request, verified."""
    return open_document(request.acknowledgement, RequestAcknowledgement, desk.services.keys)


def _law(desk: Desk, law: str) -> Any:  # noqa: ANN401 - the policy's rule, or None once it has gone from the document
    return next((rule for rule in desk.services.policies.policies.requests.laws if rule.id == law), None)


def _chart(desk: Desk) -> Markup:
    say, counts = desk.say, desk.services.requests.tally()
    rows = [
        (say(kind.value), float(sum(count for (found, _), count in counts.items() if found is kind)))
        for kind in RequestKind
    ]
    words = "; ".join(f"{label}: {charts.number(count)}" for label, count in rows)
    return charts.bars(say("Requests by kind"), words, rows, width=charts.WIDTH)
