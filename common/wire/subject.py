"""What a device says to the service in its owner's own cause: what holds, and the rights of a data subject.

All three travel under the device's signature (``common.crypto.http_signing``); none can name a behaviour event. They
are part of the union ``Outbound`` in ``common.wire.messages``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.taxonomy import AgeBand, RequestKind
from common.wire.base import Handle, Message
from common.wire.requests import LedgerProof

RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]


class SubjectRequest(Message):
    """Exercises a right of the data subject (GDPR Art. 15 to 18, 20, 21; PIPL Art. 44 to 47).

    Attributes:
        age_band: the corrected declaration; a rectification has one and nothing else does.
        lift: ends a restriction or an objection instead of beginning it.
        locale: the language of the answer and its package.
        ledger_proof: that the device also holds an identity of the privacy ledger, where that is another key.
    """

    kind: Literal["subject_request"] = "subject_request"
    handle: Handle
    request: RequestKind
    age_band: AgeBand | None = None
    lift: bool = False
    locale: Literal["en", "zh-CN"] = "en"
    ledger_proof: LedgerProof | None = None

    @model_validator(mode="after")
    def _whole(self) -> SubjectRequest:
        if (self.age_band is not None) != (self.request is RequestKind.RECTIFICATION):
            raise ValueError("a rectification names the corrected age band; nothing else does")
        if self.lift and self.request not in {RequestKind.RESTRICTION, RequestKind.OBJECTION}:
            raise ValueError("only a restriction or an objection can be lifted")
        return self


class SubjectRead(Message):
    """Fetches what the service holds ready for this subject alone: the request's path names it, no body is sent.

    An acknowledgement is fetched unsigned once the device is erased: the request's id is all that is left to show.
    """

    kind: Literal["subject_read"] = "subject_read"
    what: Literal["standing", "request", "package", "acknowledgement"]
    request_id: RequestId | None = None

    @model_validator(mode="after")
    def _whole(self) -> SubjectRead:
        if (self.request_id is None) != (self.what == "standing"):
            raise ValueError("a request and its package are named by their id; a standing has none")
        return self


class SubjectCancellation(Message):
    """Takes back a request of a data subject that is still pending."""

    kind: Literal["subject_cancellation"] = "subject_cancellation"
    request_id: RequestId


SubjectOutbound = SubjectRequest | SubjectRead | SubjectCancellation
