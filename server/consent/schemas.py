"""Answers about subjects, notices and consent. Owns their form."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from common.taxonomy import ConsentState, Purpose, RefusalReason
from common.wire.base import Handle
from policies.notices import Locale, NoticePurpose
from server.consent.repository import StoredEvent, StoredNotice
from server.consent.service import Effective, Receipt
from server.signals.schemas import Signals


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NoticeAnswer(Answer):
    """A privacy notice in one language; ``digest`` is what a consent names."""

    digest: str
    version: int
    locale: Locale
    title: str
    text: str
    purposes: tuple[NoticePurpose, ...]
    material: bool
    published_at: int
    retired_at: int | None
    accepted: tuple[str, ...] = Field(description="Digests, in every language, under which grants still hold now.")

    @classmethod
    def of(cls, stored: StoredNotice, accepted: frozenset[str]) -> NoticeAnswer:
        """From a stored notice."""
        return cls(
            accepted=tuple(sorted(accepted)),
            digest=stored.digest,
            version=stored.notice.version,
            locale=stored.notice.locale,
            title=stored.notice.title,
            text=stored.notice.text,
            purposes=stored.notice.purposes,
            material=stored.material,
            published_at=stored.published_at,
            retired_at=stored.retired_at,
        )


class PublishedNotice(Answer):
    """A notice that is in force now."""

    version: int
    digests: dict[Locale, str]


class Enrolled(Answer):
    """A new subject. The key is shown this once."""

    handle: str
    api_key: str
    expires_at: int
    certificate: str | None = Field(
        description="Of the device's key, base64url, for secure aggregation; null where another authority certifies."
    )


class ReceiptAnswer(Answer):
    """One signed receipt."""

    receipt_id: str
    purpose: Purpose
    state: ConsentState
    valid_until: int
    receipt: str = Field(description="Compact JWS, typ consent-receipt+jws.")

    @classmethod
    def of(cls, receipt: Receipt) -> ReceiptAnswer:
        """From a stored receipt."""
        return cls(
            receipt_id=receipt.receipt_id,
            purpose=receipt.purpose,
            state=receipt.state,
            valid_until=receipt.valid_until,
            receipt=receipt.jws,
        )


class Changed(Answer):
    """Receipts of what was decided."""

    receipts: tuple[ReceiptAnswer, ...]


class Withdrawn(Changed):
    """Receipts, and what stops when."""

    stops: dict[str, str] = {
        "placement": "The next decision is contextual.",
        "training": "The next round leaves this device out; a running one does not send its update.",
        "already_contributed": "Cannot be taken out of the model; the device's ledger bounds what it can reveal.",
    }


class PurposeState(Answer):
    """What holds now for one purpose."""

    purpose: Purpose
    state: ConsentState
    permitted: bool
    reason: RefusalReason | None
    valid_until: int | None

    @classmethod
    def of(cls, effective: Effective) -> PurposeState:
        """From the service's words."""
        return cls(
            purpose=effective.purpose,
            state=effective.state,
            permitted=effective.permitted,
            reason=effective.reason,
            valid_until=effective.valid_until,
        )


class MyConsent(Answer):
    """What holds now for the caller."""

    purposes: tuple[PurposeState, ...]


class HistoryLine(Answer):
    """One decision of the caller."""

    receipt_id: str
    purpose: Purpose
    state: ConsentState
    event_time: int
    valid_until: int
    notice_digest: str
    locale: Locale
    surface: str
    receipt: str

    @classmethod
    def of(cls, event: StoredEvent) -> HistoryLine:
        """From a stored event."""
        return cls(
            receipt_id=event.receipt_id,
            purpose=event.purpose,
            state=event.state,
            event_time=event.event_time,
            valid_until=event.valid_until,
            notice_digest=event.notice_digest,
            locale=event.locale,
            surface=event.surface,
            receipt=event.receipt,
        )


class History(Answer):
    """Every decision of the caller, oldest first."""

    events: tuple[HistoryLine, ...]


class Check(Answer):
    """Which purposes of a subject are asked about; all of them by default."""

    handle: Handle
    purposes: tuple[Purpose, ...] = tuple(Purpose)
    signals: Signals = Signals()


class Verdict(Answer):
    """Whether one purpose is permitted; nothing of its history."""

    permitted: bool
    reason: RefusalReason | None


class Checked(Answer):
    """Effective consent by purpose."""

    purposes: dict[Purpose, Verdict]


class ReceiptCheck(Answer):
    """A receipt to be verified."""

    receipt: str = Field(max_length=8192)


class ReceiptProof(Answer):
    """What a receipt proves. The handle in it is not repeated."""

    genuine: bool = Field(description="Signed and issued here.")
    latest: bool = Field(description="Still the latest word on its purpose.")
    purpose: Purpose | None = None
    state: ConsentState | None = None
    event_time: int | None = None
    valid_until: int | None = None
