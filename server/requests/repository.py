"""Reads and writes of data subjects' requests. Owns their queries; hands out plain values, never rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlmodel import Session, col, desc, func, select

from common.taxonomy import DenialReason, RequestKind, RequestStatus
from policies.notices import Locale
from server.requests.tables import SubjectRequestRow

BY_DEVICE = "device"
BY_OFFICER = "officer"
OPEN = (RequestStatus.PENDING, RequestStatus.IN_PROGRESS)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a request: when, by whom, to what."""

    time: int
    actor: str
    status: RequestStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; see ``SubjectRequestRow``."""

    number: int = 0
    request_id: str
    handle: str | None
    request: RequestKind
    details: dict[str, Any]
    status: RequestStatus
    law: str
    locale: Locale
    verified_by: str
    received_at: int
    due_at: int
    completed_at: int | None = None
    denial: DenialReason | None = None
    steps: tuple[Step, ...] = ()
    acknowledgement: str = ""

    @property
    def is_open(self) -> bool:
        """Whether somebody still has to do something."""
        return self.status in OPEN

    def filed_by(self, actor: str) -> bool:
        """Whether this officer has filed it on somebody's behalf."""
        return self.verified_by == BY_OFFICER and self.steps[0].actor == actor


def add(session: Session, request: Request) -> None:
    """Write a new one; ``request.number`` is ignored."""
    row = SubjectRequestRow(request_id=request.request_id, **_columns(request))
    session.add(row)
    session.flush()


def save(session: Session, request: Request) -> None:
    """Store what became of one."""
    row = session.exec(select(SubjectRequestRow).where(SubjectRequestRow.request_id == request.request_id)).one()
    for name, value in _columns(request).items():
        setattr(row, name, value)
    session.add(row)
    session.flush()


def get(session: Session, request_id: str, *, lock: bool = False) -> Request | None:
    """One request; ``lock`` makes other transactions over it wait."""
    query = select(SubjectRequestRow).where(SubjectRequestRow.request_id == request_id)
    row = session.exec(query.with_for_update() if lock else query).first()
    return None if row is None else _request(row)


def of_subject(session: Session, handle: str) -> list[Request]:
    """Every request of one subject, oldest first."""
    query = select(SubjectRequestRow).where(SubjectRequestRow.handle == handle)
    return [_request(row) for row in session.exec(query.order_by(col(SubjectRequestRow.number)))]


def newest_first(session: Session, *, status: RequestStatus | None, before: int | None, limit: int) -> list[Request]:
    """A page, newest first."""
    query = select(SubjectRequestRow).order_by(desc(col(SubjectRequestRow.number))).limit(limit)
    if status is not None:
        query = query.where(SubjectRequestRow.status == status.value)
    if before is not None:
        query = query.where(col(SubjectRequestRow.number) < before)
    return [_request(row) for row in session.exec(query)]


def in_states(session: Session, states: Sequence[RequestStatus]) -> list[Request]:
    """Requests in these states, the one due first first."""
    query = select(SubjectRequestRow).where(col(SubjectRequestRow.status).in_([state.value for state in states]))
    return [_request(row) for row in session.exec(query.order_by(col(SubjectRequestRow.due_at)))]


def tally(session: Session) -> dict[tuple[RequestKind, RequestStatus], int]:
    """How many requests there are, by kind and status."""
    row = SubjectRequestRow
    query = select(row.request, row.status, func.count()).group_by(row.request, row.status)
    return {(RequestKind(kind), RequestStatus(status)): count for kind, status, count in session.exec(query)}


def _columns(request: Request) -> dict[str, Any]:
    return {
        "handle": request.handle,
        "request": request.request.value,
        "details": json.dumps(request.details),
        "status": request.status.value,
        "law": request.law,
        "locale": request.locale,
        "verified_by": request.verified_by,
        "received_at": request.received_at,
        "due_at": request.due_at,
        "completed_at": request.completed_at,
        "denial": None if request.denial is None else request.denial.value,
        "steps": json.dumps([[step.time, step.actor, step.status.value] for step in request.steps]),
        "acknowledgement": request.acknowledgement,
    }


def _request(row: SubjectRequestRow) -> Request:
    return Request(
        number=row.number or 0,
        request_id=row.request_id,
        handle=row.handle,
        request=RequestKind(row.request),
        details=json.loads(row.details),
        status=RequestStatus(row.status),
        law=row.law,
        locale=cast("Locale", row.locale),
        verified_by=row.verified_by,
        received_at=row.received_at,
        due_at=row.due_at,
        completed_at=row.completed_at,
        denial=None if row.denial is None else DenialReason(row.denial),
        steps=tuple(Step(time, actor, RequestStatus(status)) for time, actor, status in json.loads(row.steps)),
        acknowledgement=row.acknowledgement,
    )
