"""The answer to a decision request. Owns its form."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from common.rendering import fragment, text_in
from common.taxonomy import DecisionMode, FollowUp, RefusalReason
from common.wire.messages import Creative
from policies.notices import Locale
from policies.placement.protocol import PlacementReason
from server.decisions import wording
from server.signals.schemas import SignalFinding


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Why(Answer):
    """Why this ad is shown (DSA Art. 26(1))."""

    is_ad: bool = True
    advertiser: str
    payer: str
    main_parameters: tuple[str, ...]
    personal_data: str
    change_at: str = Field(default="/v1/consents", description="Where the choice can be changed.")


class FilledCreative(Answer):
    """A creative in one language. Texts are plain; ``html`` is escaped, self-contained and loads nothing."""

    creative_id: str
    item_id: str
    label: str
    title: str
    description: str
    image_url: str
    image_alt: str
    call_to_action: str = Field(description="Words of the button; empty where there is none.")
    landing_url: str
    advertiser: str
    payer: str
    html: str
    why: Why


class SlotDecision(Answer):
    """What one position of one slot shows."""

    slot_id: str
    position: int
    mode: DecisionMode
    reason: RefusalReason | None = Field(description="Why nothing personal may be used; null in mode on_device.")
    explanation: str
    outcome: PlacementReason
    creative: FilledCreative | None = Field(
        description="The contextual choice. In mode on_device it is the fallback for a device that chooses nothing."
    )
    tokens: dict[FollowUp, str] | None = Field(
        description="Single-use follow-up tokens. None in mode on_device: they would tell what the device chose."
    )


class PrivacySignal(Answer):
    """Shows which signals were seen and that their objections were heeded."""

    gpc: bool
    honoured: bool = Field(description="A signal opposed a personalised answer, and none was given.")
    signals: tuple[SignalFinding, ...] = Field(default=(), description="What each signal opposes; raw strings never.")


class DecisionAnswer(Answer):
    """The whole answer. ``permit`` and ``candidates`` are there exactly in mode ``on_device``."""

    decision_id: str
    mode: DecisionMode
    slots: tuple[SlotDecision, ...]
    permit: str | None = Field(description="Signed placement permit for the device, valid for minutes.")
    candidates: tuple[str, ...] | None = Field(description="Eligible creatives: the same list for everybody.")
    policy_version: int
    policy_digest: str
    model_version: int | None
    catalogue_version: int | None
    privacy_signal: PrivacySignal


def filled(creative: Creative, locale: Locale, *, epsilon: float | None = None) -> FilledCreative:
    """A creative with its texts in one language, chosen by context, or by a private pick of this ε."""
    return FilledCreative(
        creative_id=creative.creative_id,
        item_id=creative.item_id,
        label=text_in(creative.label, locale),
        title=text_in(creative.title, locale),
        description=text_in(creative.description, locale),
        image_url=creative.image_url,
        image_alt=text_in(creative.image_alt, locale),
        call_to_action=text_in(creative.call_to_action, locale),
        landing_url=creative.landing_url,
        advertiser=creative.advertiser,
        payer=creative.payer,
        html=fragment(creative, locale),
        why=Why(
            advertiser=creative.advertiser,
            payer=creative.payer,
            main_parameters=wording.main_parameters(locale, picked=epsilon is not None),
            personal_data=wording.nothing_personal(locale) if epsilon is None else wording.one_pick(epsilon, locale),
        ),
    )
