"""Subjects, notices and consent over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Query, Request, Response

from common.errors import NotAllowed, NotFound, PossessionNotProven
from common.taxonomy import Role
from common.wire.base import Digest
from common.wire.messages import ConsentWithdrawal, SubjectEnrolment
from policies.notices import Locale, NoticeDocument
from server.access.service import Principal
from server.access.signed import OWN_KEY_NEEDED
from server.api.deps import ServicesDep, document
from server.api.security import Caller
from server.consent.proofs import proof_of
from server.consent.schemas import (
    Asked,
    Changed,
    Check,
    Checked,
    Decided,
    Enrolled,
    History,
    HistoryLine,
    Invalidated,
    MyConsent,
    NoticeAnswer,
    PublishedNotice,
    ReceiptAnswer,
    ReceiptCheck,
    ReceiptCopy,
    ReceiptProof,
    Terms,
    Verdict,
    Withdrawn,
)
from server.consent.service import ConsentRequest
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
            "method": "toggle",
        }
    }
}
_ASKED: Final[dict[str, Any]] = {
    "prompt": {
        "value": {
            "handle": _HANDLE,
            "notice_digest": "0" * 64,
            "purposes": ["train.local", "place.personalised"],
            "locale": "en",
            "surface": "onboarding",
        }
    }
}
_WITHDRAWAL: Final[dict[str, Any]] = {
    "everything": {"value": {"handle": _HANDLE, "purposes": "all"}},
    "one": {"value": {"handle": _HANDLE, "purposes": ["place.personalised"]}},
}


@router.get("/notices/current", tags=["public documents"])
def current_notice(
    request: Request,
    services: ServicesDep,
    locale: Locale = "en",
    jurisdiction: Annotated[str | None, Query(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")] = None,
) -> Response:
    """The privacy notice in force, as it must be shown before anybody agrees, with the terms of a jurisdiction."""
    purposes = services.policies.policies.purposes
    terms = None if jurisdiction is None else Terms.of(purposes.jurisdiction(jurisdiction))
    answer = NoticeAnswer.of(services.notices.current(locale), services.notices.accepted(), terms)
    return document(request, answer.model_dump_json().encode(), "application/json")


@router.get("/notices/{digest}", tags=["public documents"])
def notice(digest: Digest, services: ServicesDep) -> NoticeAnswer:
    """A notice as it was published, retired or not."""
    return NoticeAnswer.of(services.notices.by_digest(digest), services.notices.accepted())


@router.post("/notices", status_code=201, tags=["administration"])
def publish_notice(wanted: Annotated[NoticeDocument, Body()], services: ServicesDep, caller: Caller) -> PublishedNotice:
    """Put a new notice in force. A material one ends the grants given under older ones, at once and for everybody."""
    texts = services.notices.publish(wanted, actor=caller.actor)
    services.consent.lapse()  # only marks what has ended; the rest is marked by: reticent server lapse
    return PublishedNotice(version=wanted.version, digests={text.locale: text.digest for text in texts})


@router.post("/subjects", status_code=201)
def enrol(
    enrolment: Annotated[SubjectEnrolment, Body(openapi_examples=_ENROLMENT)], services: ServicesDep, caller: Caller
) -> Enrolled:
    """A random handle for a device's key, which has to have signed this. Nothing that says who it is can be sent."""
    if caller.new_key != enrolment.public_key:
        raise PossessionNotProven(OWN_KEY_NEEDED)
    certificate = services.authority.certify(enrolment.public_key)
    handle = services.consent.enrol(enrolment)
    return Enrolled(handle=handle, certificate=certificate)


@router.post("/consents/requests", status_code=201)
def request_consent(
    wanted: Annotated[Asked, Body(openapi_examples=_ASKED)], services: ServicesDep, caller: Caller
) -> Changed:
    """Record that a person is being asked. A live grant stands until they answer; after a no, only when it is time."""
    _own_subject(caller, wanted.handle)
    asked = ConsentRequest(wanted.handle, wanted.notice_digest, wanted.purposes, wanted.locale, wanted.surface)
    receipts = services.consent.request(asked, caller.role, app_id=caller.app_id)
    return Changed(receipts=tuple(ReceiptAnswer.of(receipt) for receipt in receipts))


@router.post("/consents", status_code=201)
def change(
    wanted: Annotated[Decided, Body(openapi_examples=_CHANGE)],
    request: Request,
    services: ServicesDep,
    caller: Caller,
) -> Changed:
    """Grant or refuse purposes, each alone, under the notice that was shown.

    Privacy signals that come along are recorded with the decision: what they oppose is not permitted by a grant.
    """
    _own_subject(caller, wanted.handle)
    signals = heard(request, wanted.signals)
    receipts = services.consent.change(
        wanted,
        caller.role,
        app_id=caller.app_id,
        heard=lambda jurisdiction: services.signals.evidence(signals, jurisdiction),
    )
    return Changed(receipts=tuple(ReceiptAnswer.of(receipt) for receipt in receipts))


@router.post("/consents/withdraw")
def withdraw(
    wanted: Annotated[ConsentWithdrawal, Body(openapi_examples=_WITHDRAWAL)], services: ServicesDep, caller: Caller
) -> Withdrawn:
    """Withdraw purposes or all of them. It has taken effect when this answer arrives; repeating it is harmless."""
    _own_subject(caller, wanted.handle)
    receipts = services.consent.withdraw(wanted, caller.role, app_id=caller.app_id)
    return Withdrawn(receipts=tuple(ReceiptAnswer.of(receipt) for receipt in receipts))


@router.post("/consents/invalidate")
def invalidate(wanted: Annotated[Invalidated, Body()], services: ServicesDep, caller: Caller) -> ReceiptAnswer:
    """End a grant that never was a valid consent; the person has to be asked anew. Repeating it is harmless."""
    return ReceiptAnswer.of(services.consent.invalidate(wanted.receipt_id, wanted.reason, actor=caller.actor))


@router.get("/consents/me")
def mine(services: ServicesDep, caller: Caller) -> MyConsent:
    """What holds now for the calling device, also as a signed standing that it can act on for some minutes."""
    standing = services.consent.standing(_subject(caller))
    return MyConsent.of(standing, services.consent.sealed(standing))


@router.get("/consents/me/history")
def my_history(services: ServicesDep, caller: Caller) -> History:
    """Every decision of the calling device, with its receipts."""
    events = services.consent.history(_subject(caller))
    return History(events=tuple(HistoryLine.of(event) for event in events))


@router.post("/consents/check")
def check(wanted: Annotated[Check, Body()], request: Request, services: ServicesDep, caller: Caller) -> Checked:
    """Effective consent for an app backend: yes or no and the reason, never the history. Signals count here too."""
    verdict = services.signals.judge(heard(request, wanted.signals))
    states = services.consent.effective(
        wanted.handle,
        wanted.purposes,
        app_id=caller.app_id,
        opposed=lambda jurisdiction: services.signals.opposed(verdict, jurisdiction),
    )
    verdicts = {state.purpose: Verdict(permitted=state.permitted, reason=state.reason) for state in states}
    return Checked(purposes=verdicts)


@router.get("/receipts/{receipt_id}")
def receipt(receipt_id: str, services: ServicesDep, caller: Caller) -> ReceiptCopy:
    """A receipt with the proof that its event is in the transparency log; a device gets its own."""
    event = services.consent.event(receipt_id)
    if caller.role is Role.DEVICE and event.handle != caller.subject:
        raise NotFound("no such receipt")  # the same answer as for one that does not exist
    latest = services.consent.verify(event.receipt).latest
    return ReceiptCopy.copied(event, proof_of(services.log, event.log_seq), latest=latest)


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
