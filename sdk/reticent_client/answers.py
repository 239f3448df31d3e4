"""What the service answers, typed. Owns the fields that this client reads; a newer service may send more.

Words of closed lists stay text, so that a word added later breaks nobody; the lists are named in the comments and
checked against the service's OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["contextual", "on_device", "private_pick"]
FollowUp = Literal["impression", "click", "conversion", "close"]
Purpose = Literal["train.local", "train.contribute", "place.personalised", "measure.aggregate"]
Choice = Literal["given", "refused"]
Locale = Literal["en", "zh-CN"]


@dataclass(frozen=True, slots=True)
class Why:
    """Why an ad is shown: for whom, who paid, by what."""

    advertiser: str
    payer: str
    main_parameters: tuple[str, ...]
    personal_data: str
    change_at: str = ""
    is_ad: bool = True


@dataclass(frozen=True, slots=True)
class Creative:
    """An ad in one language: texts to draw by yourself, or ``html``, which is escaped and loads nothing.

    Attributes:
        label: "Ad" in the language: show it.
        call_to_action: words of the button; empty where there is none.
    """

    creative_id: str
    item_id: str
    label: str
    title: str
    description: str
    image_url: str
    image_alt: str
    landing_url: str
    advertiser: str
    payer: str
    html: str
    why: Why
    call_to_action: str = ""


@dataclass(frozen=True, slots=True)
class Position:
    """What one position of a slot shows.

    Attributes:
        reason: why nothing personal was used; None where the device chooses.
        creative: None where nothing fits. In mode ``on_device`` it is what to show if the device chooses nothing.
        tokens: confirm follow-ups with them; None in mode ``on_device``, where they would tell what was chosen.
    """

    slot_id: str
    position: int
    mode: str
    reason: str | None
    explanation: str
    outcome: str
    creative: Creative | None
    tokens: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class SignalFinding:
    """What one signal opposes; its string never.

    Attributes:
        signal: ``gpc``, ``tcf``, ``gpp`` or ``us_privacy``.
        section: of a GPP string, such as ``usca``.
        opposes: why, by purpose.
    """

    signal: str
    section: str | None
    opposes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PrivacySignal:
    """Which signals were seen, and whether they were heeded.

    Attributes:
        honoured: a signal opposed a personalised answer, and none was given.
    """

    gpc: bool
    honoured: bool
    signals: tuple[SignalFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a decision request.

    Attributes:
        slots: the positions that were asked for, in order; empty where the service did not answer in time.
        permit, candidates: for the person's device, in mode ``on_device``: hand them on as they are.
        unanswered: why there is no answer (``late``, ``unreachable``, ``unavailable``); None where there is one.
    """

    decision_id: str
    mode: str
    slots: tuple[Position, ...]
    permit: str | None
    candidates: tuple[str, ...] | None
    privacy_signal: PrivacySignal
    policy_version: int
    policy_digest: str
    model_version: int | None = None
    catalogue_version: int | None = None
    unanswered: str | None = field(default=None, metadata={"own": True})

    @property
    def shown(self) -> tuple[Position, ...]:
        """Positions that have something to show."""
        return tuple(position for position in self.slots if position.creative is not None)

    def of(self, slot_id: str) -> tuple[Position, ...]:
        """The positions of one slot."""
        return tuple(position for position in self.slots if position.slot_id == slot_id)

    @classmethod
    def missing(cls, why: str) -> Decision:
        """No answer in time: the page goes on without ads."""
        return cls("", "contextual", (), None, None, PrivacySignal(gpc=False, honoured=False), 0, "", unanswered=why)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a purpose is permitted now, and if not why."""

    permitted: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class Consent:
    """Effective consent by purpose."""

    purposes: Mapping[str, Verdict]

    def permits(self, purpose: Purpose) -> bool:
        """Whether a purpose is permitted; one that is not named is not."""
        verdict = self.purposes.get(purpose)
        return verdict is not None and verdict.permitted


@dataclass(frozen=True, slots=True)
class Receipt:
    """One signed receipt of a decision about consent: keep it, or hand it to the person."""

    receipt_id: str
    purpose: str
    state: str
    valid_until: int
    receipt: str
    log_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """Receipts of what was decided."""

    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Receipts, and what stops when."""

    receipts: tuple[Receipt, ...]
    stops: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NoticePurpose:
    """One purpose in the notice's words."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What one jurisdiction prescribes.

    Attributes:
        validity_days: how long a grant holds.
        adult_age_years: what adult means there; never ask for a birth date.
        gpc: ``opposes`` or ``recorded``.
        reask_days: after a no, days in which nobody may ask again.
    """

    jurisdiction: str
    validity_days: int
    adult_age_years: int
    gpc: str
    reask_days: int


@dataclass(frozen=True, slots=True)
class Notice:
    """The privacy notice in force; its digest is what a consent names.

    Attributes:
        purposes: each can be granted alone; ask for each in these words.
        material: whether grants under earlier notices ended with this one.
        accepted: digests, in every language, under which grants still hold.
        terms: of the jurisdiction that was asked about.
        published_at, retired_at: seconds since the epoch.
    """

    digest: str
    version: int
    locale: str
    title: str
    text: str
    purposes: tuple[NoticePurpose, ...] = ()
    material: bool = False
    accepted: tuple[str, ...] = ()
    terms: Terms | None = None
    published_at: int = 0
    retired_at: int | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A follow-up that counts.

    Attributes:
        fresh: False where it had been counted before.
    """

    follow_up: str
    fresh: bool = field(default=True, metadata={"own": True})
