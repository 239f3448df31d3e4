"""Where the service takes each message of a device, and where it serves each public document."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from common.wire.base import Message
from common.wire.messages import DocumentRequest
from common.wire.subject import SubjectCancellation, SubjectRead

PATHS: Final = {
    "subject_enrolment": "/v1/subjects",
    "consent_change": "/v1/consents",
    "consent_withdrawal": "/v1/consents/withdraw",
    "follow_up_report": "/v1/events",
    "subject_request": "/v1/dsr",
    "private_pick": "/v1/decisions",
    "pick_stop": "/v1/picks/stop",
    "catalogue": "/v1/catalog/current",
    "candidates": "/v1/candidates",
    "pick_cap": "/v1/pick-cap",
    "model": "/v1/models/current",
    "model_arrays": "/v1/models/current/arrays",
    "placement_policy": "/v1/policy/current",
    "experiment": "/v1/experiments/current",
    "notice": "/v1/notices/current",
    "keys": "/.well-known/jwks.json",
}
STANDING: Final = "/v1/consents/me"


class Route(NamedTuple):
    """Method and path of one request; only a POST has the message as its body."""

    method: Literal["GET", "POST", "DELETE"]
    path: str


def route_of(message: Message, kind: str) -> Route:
    """Where a message of a device goes."""
    match message:
        case DocumentRequest():
            return Route("GET", "/".join(filter(None, (PATHS[message.document], message.slot_group))))
        case SubjectRead(what="standing"):
            return Route("GET", STANDING)
        case SubjectRead(what="request"):
            return Route("GET", f"{PATHS['subject_request']}/{message.request_id}")
        case SubjectRead():
            return Route("GET", f"{PATHS['subject_request']}/{message.request_id}/{message.what}")
        case SubjectCancellation():
            return Route("DELETE", f"{PATHS['subject_request']}/{message.request_id}")
        case _:
            return Route("POST", PATHS[kind])
