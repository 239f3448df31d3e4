"""Subjects, notices and consent over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Request, Response

from common.errors import NotAllowed
from common.taxonomy import Role
from common.wire.base import Digest
from common.wire.messages import ConsentChange, ConsentWithdrawal, SubjectEnrolment
from policies.notices import Locale, NoticeDocument
from server.access.service import Principal
from server.api.deps import ServicesDep, document
from server.api.security import Caller
from server.consent.schemas import (
    Changed,
    Check,
    Checked,
    Enrolled,
    History,
    HistoryLine,
    MyConsent,
    NoticeAnswer,
    PublishedNotice,
    PurposeState,
    ReceiptAnswer,
    ReceiptCheck,
    ReceiptProof,
    Verdict,
    Withdrawn,
)
from server.signals.routes import heard

router = APIRouter(prefix="/v1", tags=["consent"])

_HANDLE: Final = "q3Yx0mVbS1uJ7eHcKf2nPw"
_ENROLMENT: Final[dict[str, Any]] = {
    "adult": {
        "value": {"public_key": "A" * 43, "app_id": "demo-grocer", "age_band": "adult", "jurisdiction": "CN"},
    }
}
_CHANGE: Final[dict[str, Any]] = {
    "grant": {
        "value": {
            "handle": _HANDLE,
            "notice_digest": "0" * 64,
            "decisions": {"train.local": "given", "place.personalised": "given", "train.contribute": "refused"},
            "locale": "en",
            "surface": "settings/privacy",
        }
    }
}
_WITHDRAWAL: Final[dict[str, Any]] = {
    "everything": {"value": {"handle": _HANDLE, "purposes": "all"}},
    "one": {"value": {"handle": _HANDLE, "purposes": ["place.personalised"]}},
}


@router.get("/notices/current", tags=["public documents"])
def current_notice(request: Request, services: ServicesDep, locale: Locale = "en") -> Response:
    """The privacy notice in force, as it must be shown before anybody agrees to anything."""
    answer = NoticeAnswer.of(services.notices.current(locale), services.notices.accepted())
    return document(request, answer.model_dump_json().encode(), "application/json")


@router.get("/notices/{digest}", tags=["public documents"])
def notice(digest: Digest, services: ServicesDep) -> NoticeAnswer:
    """A notice as it was published, retired or not."""
    return NoticeAnswer.of(services.notices.by_digest(digest), services.notices.accepted())


@router.post("/notices", status_code=201, tags=["administration"])
def publish_notice(wanted: Annotated[NoticeDocument, Body()], services: ServicesDep) -> PublishedNotice:
    """Put a new notice in force. A material one ends the grants given under older ones."""
    texts = services.notices.publish(wanted)
    return PublishedNotice(version=wanted.version, digests={text.locale: text.digest for text in texts})


@router.post("/subjects", status_code=201)
def enrol(enrolment: Annotated[SubjectEnrolment, Body(openapi_examples=_ENROLMENT)], services: ServicesDep) -> Enrolled:
    """A random handle and a key for a device. Nothing that says who it is can be sent along."""
    certificate = services.authority.certify(enrolment.public_key)
    handle = services.consent.enrol(enrolment)
    key = services.access.issue(Role.DEVICE, label="device", subject=handle, app_id=enrolment.app_id)
    return Enrolled(handle=handle, api_key=key.token, expires_at=key.expires_at, certificate=certificate)


@router.post("/consents", status_code=201)
def change(
    wanted: Annotated[ConsentChange, Body(openapi_examples=_CHANGE)], services: ServicesDep, caller: Caller
) -> Changed:
    """Grant or refuse purposes, each alone, under the notice that was shown."""
    _own_subject(caller, wanted.handle)
    receipts = services.consent.change(wanted, caller.role, app_id=caller.app_id)
    return Changed(receipts=tuple(ReceiptAnswer.of(receipt) for receipt in receipts))


@router.post("/consents/withdraw")
def withdraw(
    wanted: Annotated[ConsentWithdrawal, Body(openapi_examples=_WITHDRAWAL)], services: ServicesDep, caller: Caller
) -> Withdrawn:
    """Withdraw purposes or all of them. It has taken effect when this answer arrives; repeating it is harmless."""
    _own_subject(caller, wanted.handle)
    receipts = services.consent.withdraw(wanted, caller.role, app_id=caller.app_id)
    return Withdrawn(receipts=tuple(ReceiptAnswer.of(receipt) for receipt in receipts))


@router.get("/consents/me")
def mine(services: ServicesDep, caller: Caller) -> MyConsent:
    """What holds now for the calling device."""
    states = services.consent.effective(_subject(caller))
    return MyConsent(purposes=tuple(PurposeState.of(state) for state in states))


@router.get("/consents/me/history")
def my_history(services: ServicesDep, caller: Caller) -> History:
    """Every decision of the calling device, with its receipts."""
    events = services.consent.history(_subject(caller))
    return History(events=tuple(HistoryLine.of(event) for event in events))


@router.post("/consents/check")
def check(wanted: Annotated[Check, Body()], request: Request, services: ServicesDep, caller: Caller) -> Checked:
    """Effective consent for an app backend: yes or no and the reason, never the history. Signals count here too."""
    opposed = services.signals.opposed(services.signals.judge(heard(request, wanted.signals)))
    states = services.consent.effective(wanted.handle, wanted.purposes, app_id=caller.app_id, opposed=opposed)
    verdicts = {state.purpose: Verdict(permitted=state.permitted, reason=state.reason) for state in states}
    return Checked(purposes=verdicts)


@router.post("/receipts/verify")
def verify_receipt(wanted: Annotated[ReceiptCheck, Body()], services: ServicesDep) -> ReceiptProof:
    """Whether a receipt is genuine, and whether it still is the latest word."""
    verdict = services.consent.verify(wanted.receipt)
    if verdict.receipt is None:
        return ReceiptProof(genuine=verdict.genuine, latest=verdict.latest)
    return ReceiptProof(
        genuine=verdict.genuine,
        latest=verdict.latest,
        purpose=verdict.receipt.purpose,
        state=verdict.receipt.state,
        event_time=verdict.receipt.event_time,
        valid_until=verdict.receipt.valid_until,
    )


def _subject(caller: Principal) -> str:
    if caller.subject is None:
        raise NotAllowed("this key speaks for no subject")
    return caller.subject


def _own_subject(caller: Principal, handle: str) -> None:
    if caller.role is Role.DEVICE and caller.subject != handle:
        raise NotAllowed("a device speaks for its own subject only")
