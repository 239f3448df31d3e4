"""Answers about subjects, notices and consent. Owns their form."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.taxonomy import ConsentMethod, ConsentState, InvalidationReason, Purpose, RefusalReason
from common.wire.base import Digest, Handle, ShortText
from common.wire.consent import ConsentStanding, PurposeStanding
from common.wire.log import LogProof
from common.wire.messages import ConsentChange
from policies.notices import Locale, NoticePurpose
from policies.schema import JurisdictionRule
from server.consent.notice_repository import StoredNotice
from server.consent.reading import Effective
from server.consent.recording import Receipt
from server.consent.repository import StoredEvent
from server.signals.schemas import Signals


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Terms(Answer):
    """What one jurisdiction prescribes here."""

    jurisdiction: str = Field(description="Whose rules these are; ZZ: those of everywhere else.")
    validity_days: int = Field(description="How long a grant holds.")
    adult_age_years: int = Field(description="What adult means there; never ask for a birth date.")
    gpc: Literal["opposes", "recorded"]
    reask_days: int = Field(description="After a no, days in which nobody may ask again.")

    @classmethod
    def of(cls, rule: JurisdictionRule) -> Terms:
        """From the purposes document."""
        return cls(
            jurisdiction=rule.code,
            validity_days=rule.validity_days,
            adult_age_years=rule.adult_age_years,
            gpc=rule.gpc,
            reask_days=rule.reask_days,
        )


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
    terms: Terms | None = Field(default=None, description="Of the jurisdiction that was asked about.")

    @classmethod
    def of(cls, stored: StoredNotice, accepted: frozenset[str], terms: Terms | None = None) -> NoticeAnswer:
        """From a stored notice."""
        return cls(
            terms=terms,
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
    """A new subject. Its device signs with the key that it enrolled, naming this handle."""

    handle: str
    certificate: str | None = Field(
        description="Of the device's key, base64url, for secure aggregation; null where another authority certifies."
    )


class ReceiptAnswer(Answer):
    """One signed receipt."""

    receipt_id: str
    purpose: Purpose
    state: ConsentState
    valid_until: int
    receipt: str = Field(description="Compact JWS, typ consent-receipt+jws, payload after ISO/IEC TS 27560.")
    log_seq: int | None = Field(description="Its entry in the transparency log; null for receipts older than the log.")

    @classmethod
    def of(cls, receipt: Receipt) -> ReceiptAnswer:
        """From a stored receipt."""
        return cls(
            log_seq=receipt.log_seq,
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
    reask_not_before: int | None = Field(default=None, description="Nobody may ask again before; null: at any time.")

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

    @classmethod
    def told(cls, line: PurposeStanding) -> PurposeState:
        """From a standing."""
        return cls(**line.model_dump(exclude={"reask_not_before"}), reask_not_before=line.reask_not_before)


class MyConsent(Answer):
    """What holds now for the caller."""

    purposes: tuple[PurposeState, ...]
    standing: str = Field(description="All of it, signed: compact JWS, typ consent-standing+jws, valid for minutes.")

    @classmethod
    def of(cls, standing: ConsentStanding, jws: str) -> MyConsent:
        """From the service's word."""
        return cls(purposes=tuple(PurposeState.told(line) for line in standing.purposes), standing=jws)


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
    method: ConsentMethod
    reason: InvalidationReason | None
    log_seq: int | None
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
            method=event.method,
            reason=event.reason,
            log_seq=event.log_seq,
            receipt=event.receipt,
        )


class History(Answer):
    """Every decision of the caller, oldest first."""

    events: tuple[HistoryLine, ...]


class Decided(ConsentChange):
    """Grants and refusals with the privacy signals that the app has seen when they were made."""

    signals: Signals = Signals()


class Asked(Answer):
    """Purposes that a person is being asked about, under the notice that is shown to them."""

    handle: Handle
    notice_digest: Digest
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1)]
    locale: Locale
    surface: ShortText


class Invalidated(Answer):
    """A grant that is not a valid consent."""

    receipt_id: ShortText
    reason: InvalidationReason


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


class ReceiptCopy(ReceiptAnswer):
    """A stored receipt with the proof that its event is in the transparency log."""

    latest: bool = Field(description="Still the latest word on its purpose.")
    proof: LogProof | None = Field(description="Null for receipts older than the log.")

    @classmethod
    def copied(cls, event: StoredEvent, proof: LogProof | None, *, latest: bool) -> ReceiptCopy:
        """From a stored event."""
        return cls(
            receipt_id=event.receipt_id,
            purpose=event.purpose,
            state=event.state,
            valid_until=event.valid_until,
            receipt=event.receipt,
            log_seq=event.log_seq,
            latest=latest,
            proof=proof,
        )


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
