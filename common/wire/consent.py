"""What the service signs about consent: receipts of decisions, and how a person stands at this moment.

A receipt is a copy of the consent record of ISO/IEC TS 27560:2023 in the form of its DPV profile: header fields, one
section on what was processed and by whom, one event. Receipts of schema 1 have no record section; they still verify.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from common.taxonomy import AgeBand, ConsentMethod, ConsentState, Purpose, RefusalReason, Role
from common.wire.base import Digest, Handle, Message, ShortText

CONFORMS_TO: Final = "https://w3id.org/dpv/schema/dpv-27560"
"""The profile that the record section follows."""

LongText = Annotated[str, Field(min_length=1, max_length=1000)]


class Party(Message):
    """Who is responsible or receives something (TS 27560 §6.3.6: identifier, name, address, contact, type)."""

    party_id: ShortText
    name: ShortText
    address: Annotated[str, Field(max_length=500)] = ""
    contact: Annotated[str, Field(max_length=200)] = ""
    party_type: Literal["controller", "recipient"] = "controller"


class SignalEvidence(Message):
    """Privacy signals that came with a decision. No raw string: a TC string is personal data, its hash is erasable.

    Attributes:
        gpc: Global Privacy Control was on.
        gpp_sections: API prefixes of the sections of a GPP string.
        tcf_sha256: of a TC string.
        opposed: purposes that the signals oppose, so that a grant under them permits nothing.
    """

    gpc: bool = False
    gpp_sections: tuple[ShortText, ...] = ()
    tcf_sha256: Digest | None = None
    us_privacy: bool = False
    opposed: tuple[Purpose, ...] = ()


class ConsentRecord(Message):
    """The sections of TS 27560 beside the event: what is processed, by whom, where, how long, and how to end it.

    Attributes:
        notice_version: of the notice whose digest the receipt names.
        personal_data: categories of data that the purpose uses.
        entity: role of whoever reported the event; ``system`` where time or a notice ended a grant.
        ui_surface: where it was made, as the app names it.
        retention: how long what was collected under it is kept.
        withdrawal_method: how to withdraw.
        policy_digest: SHA-256 of the purposes document that decided about validity.
        reask_not_before: seconds since the epoch before which nobody may ask again; 0: at any time.
    """

    conforms_to: Literal["https://w3id.org/dpv/schema/dpv-27560"] = CONFORMS_TO
    notice_version: int = Field(ge=1)
    purpose_title: ShortText
    personal_data: tuple[ShortText, ...]
    controllers: tuple[Party, ...] = Field(min_length=1)
    recipients: tuple[Party, ...]
    storage_location: ShortText
    retention: LongText
    withdrawal_method: LongText
    consent_type: Literal["expressed"] = "expressed"
    method: ConsentMethod
    entity: Role | Literal["system"]
    ui_surface: ShortText
    signals: SignalEvidence
    policy_digest: Digest
    reask_not_before: int = 0


class ConsentReceipt(Message):
    """Signed copy of one consent event, for the person and for the device's gate."""

    kind: Literal["consent_receipt"] = "consent_receipt"
    schema_version: Literal["reticent-receipt-1", "reticent-receipt-2"] = "reticent-receipt-1"
    receipt_id: ShortText
    handle: Handle
    purpose: Purpose
    state: ConsentState
    age_band: AgeBand
    notice_digest: Digest
    event_time: int
    valid_until: int
    locale: Literal["en", "zh-CN"]
    jurisdiction: ShortText
    controller: ShortText
    record: ConsentRecord | None = None

    @model_validator(mode="after")
    def _as_its_schema_says(self) -> ConsentReceipt:
        if (self.record is None) != (self.schema_version == "reticent-receipt-1"):
            raise ValueError("a receipt of schema 2 has a record section; one of schema 1 has none")
        return self


class PurposeStanding(Message):
    """How one purpose stands now.

    Attributes:
        state: as decided, or EXPIRED / SUPERSEDED where a grant has lapsed.
        reason: why it is not permitted; None if it is.
        valid_until: seconds since the epoch; None without a permit.
        reask_not_before: seconds since the epoch before which nobody may ask again; None: at any time.
    """

    purpose: Purpose
    state: ConsentState
    permitted: bool
    reason: RefusalReason | None
    valid_until: int | None
    reask_not_before: int | None = None


class ConsentStanding(Message):
    """The service's word on one subject at one moment: what a device asks before it trains and before it sends.

    Attributes:
        objection: a general objection to personalised treatment is on record.
        restricted: processing is restricted at the person's request.
        stopped: purposes that a privacy officer has switched off, for everybody or for this jurisdiction.
        stopped_campaigns: campaigns that are switched off.
        issued_at, expires_at: seconds since the epoch; after the second it says nothing any more.
    """

    kind: Literal["consent_standing"] = "consent_standing"
    handle: Handle
    purposes: tuple[PurposeStanding, ...]
    objection: bool
    restricted: bool
    stopped: tuple[Purpose, ...]
    stopped_campaigns: tuple[ShortText, ...] = ()
    issued_at: int
    expires_at: int

    def permits(self, purpose: Purpose, now: float) -> bool:
        """Whether the purpose is permitted now; a stale or silent standing permits nothing."""
        fresh = self.issued_at - 300 <= now < self.expires_at
        return fresh and any(line.permitted for line in self.purposes if line.purpose is purpose)
