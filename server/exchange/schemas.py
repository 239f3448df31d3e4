"""Bid responses, as OpenRTB 2.6 has them. Owns their form; field names are the standard's."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from common.taxonomy import DecisionMode, RefusalReason
from server.decisions.schemas import PrivacySignal


class Form(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Transparency(Form):
    """By which means an ad was chosen; ``dsaparams`` of the IAB: 3 is context, none where nothing personal was used."""

    domain: str
    dsaparams: tuple[int, ...]


class Dsa(Form):
    """Who an ad is for and who paid (Digital Services Act, Art. 26, in the form of the IAB's extension)."""

    behalf: str
    paid: str
    transparency: tuple[Transparency, ...]
    adrender: int = Field(default=1, description="The ad itself says so as well.")


class Meta(Form):
    """What Prebid shows a page about a bid."""

    advertiserDomains: tuple[str, ...]  # noqa: N815 - Prebid's own name
    mediaType: Literal["banner", "native"]  # noqa: N815
    primaryCatId: str | None = None  # noqa: N815


class BidPrebid(Form):
    """Prebid's part of a bid."""

    type: Literal["banner", "native"]
    meta: Meta


class BidExt(Form):
    """What is beside the standard."""

    dsa: Dsa
    prebid: BidPrebid


class Bid(Form):
    """One bid. Its price comes from what the advertiser offers, never from a prediction."""

    id: str
    impid: str
    price: float = Field(description="Per thousand views, in the response's currency.")
    adm: str = Field(description="HTML, escaped and self-contained; or a native response.")
    adomain: tuple[str, ...]
    cid: str
    crid: str
    mtype: Literal[1, 4]
    burl: str | None = Field(default=None, description="To be loaded when the ad has been seen; counts once.")
    cat: tuple[str, ...] | None = None
    w: int | None = None
    h: int | None = None
    exp: int = Field(description="Seconds for which the bid stands.")
    language: str
    ext: BidExt


class SeatBid(Form):
    """Bids of one seat."""

    seat: str
    bid: tuple[Bid, ...]


class DecisionSummary(Form):
    """How the slots were filled, and why not otherwise."""

    decision_id: str
    mode: DecisionMode
    reason: RefusalReason | None
    explanation: str
    permit: str | None = Field(description="For the device of the handle that was given, in mode on_device.")
    candidates: tuple[str, ...] | None
    privacy_signal: PrivacySignal


class ResponseExt(Form):
    """What is beside the standard."""

    reticent: DecisionSummary


class BidResponse(Form):
    """The answer where there is a bid; without one it is 204 and empty."""

    id: str
    bidid: str
    cur: str
    seatbid: tuple[SeatBid, ...]
    ext: ResponseExt


class CookieSync(Form):
    """That nothing is to be synchronised: no cookie is ever set, so no bidder learns of any."""

    status: Literal["no_cookie"] = "no_cookie"
    bidder_status: tuple[str, ...] = ()
