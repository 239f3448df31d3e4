"""What g is told beside scores. Owns the words; they come from the device's own store, or the service's campaigns.

A ``Bid`` is a type of its own and deliberately no number: it can be multiplied with a response or held against a least
bid and nothing else, so that no sum of money can find its way into a placement by accident.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.errors import OutOfRange
from common.wire.messages import Creative


@dataclass(frozen=True, slots=True)
class Bid:
    """What an advertiser offers for one response: whole millionths of the account's currency."""

    micros: int

    def __post_init__(self) -> None:
        """Refuse what is no offer."""
        if self.micros < 0:
            raise OutOfRange("a bid is not negative")

    def value_of(self, response: float) -> float:
        """The expected value of showing it: bid × response, in currency units. Orders candidates; bills nobody."""
        return self.micros / 1e6 * response

    def reaches(self, least_micros: int) -> bool:
        """Whether at least so much is offered."""
        return self.micros >= least_micros


NO_BID = Bid(0)


@dataclass(frozen=True, slots=True)
class Shown:
    """One earlier view on this device, as frequency caps count it; ``time`` in seconds since the epoch."""

    creative_id: str
    campaign: str
    advertiser: str
    category: str
    time: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a creative beside the model: noised releases, or what this device itself saw."""

    views: float = 0.0
    responses: float = 0.0

    def __post_init__(self) -> None:
        """Refuse counts that are none."""
        if not (math.isfinite(self.views) and 0 <= self.responses <= self.views):
            raise OutOfRange("evidence needs 0 ≤ responses ≤ views")


NO_EVIDENCE = Evidence()


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything g looks at beside policy, catalogue, scores, slots and seed. Empty is a valid input.

    Attributes:
        now: seconds since the epoch; the end of every cap's window.
        shown: earlier views; stays on the device. A service that knows nobody passes none.
        campaigns: campaign by creative id; a creative without one belongs to its advertiser's only campaign.
        pacing: serve probability by campaign, in [0, 1]; 1 for a campaign that is not named.
        bids: by creative id; nothing offered where none is named.
        evidence: by creative id.
        floors: least score by slot id, on top of the policy's.
        least_bids: what must be offered at least to take part, by slot id, in millionths (an exchange's ``bidfloor``).
        blocked_categories, blocked_advertisers: what this surface refuses (OpenRTB ``bcat`` and ``badv``).
        context: facts about the page that ``match_context`` may name.
        stopped: campaigns, advertisers or creatives that a privacy officer has switched off.
        personal: whether creatives that have no crowd yet are left out; a device scores them by the page instead.
        refused_tags: topics that the device's owner has switched off; stays on the device, as ``shown`` does.
    """

    now: float = 0.0
    shown: tuple[Shown, ...] = ()
    campaigns: Mapping[str, str] = field(default_factory=dict)
    pacing: Mapping[str, float] = field(default_factory=dict)
    bids: Mapping[str, Bid] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    least_bids: Mapping[str, int] = field(default_factory=dict)
    blocked_categories: frozenset[str] = frozenset()
    blocked_advertisers: frozenset[str] = frozenset()
    context: Mapping[str, str] = field(default_factory=dict)
    stopped: frozenset[str] = frozenset()
    personal: bool = False
    refused_tags: frozenset[str] = frozenset()

    def campaign_of(self, creative: Creative) -> str:
        """The campaign that a creative belongs to."""
        return self.campaigns.get(creative.creative_id) or creative.campaign_id or creative.advertiser


NOTHING = Inputs()
