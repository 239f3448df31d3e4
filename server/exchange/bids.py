"""From a decision to bids. Owns the price and the markup; chooses nothing.

The price per thousand views is what the advertiser offers for one response, times a figure that is the same for
everybody. No prediction and nothing about a person is in it.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Final, Literal
from urllib.parse import quote

from common.taxonomy import DecisionMode, FollowUp
from common.wire.messages import Creative
from server.decisions.schemas import FilledCreative, SlotDecision
from server.exchange import native
from server.exchange.bid_request import BidRequest, Impression
from server.exchange.blocking import advertiser_is_blocked, category_is_blocked, domain, own_codes
from server.exchange.native import NativeFacts
from server.exchange.schemas import Bid, BidExt, BidPrebid, Dsa, Meta, SeatBid, Transparency

EXPIRES_S: Final = 300
BID_MICROS_MAX: Final = 10**12
"""What a catalogue takes as an offer at most."""
BILLING: Final = "/openrtb2/billing/"
CLICK: Final = "/c/"
_HTML: Final = 1
_NATIVE: Final = 4
_STYLE: Final = (
    "<style>body{margin:0}.reticent-ad{font:14px/1.4 sans-serif;overflow:hidden}"
    ".reticent-ad-box{position:relative!important;width:auto;max-width:100%;margin:0;padding:4px;border:0}"
    ".reticent-ad form{display:flex;justify-content:space-between}.reticent-ad a{color:inherit}"
    ".reticent-ad svg{display:block;max-width:100%;height:auto}.reticent-ad small{display:block}"
    ".reticent-ad-label{font-size:11px;border:1px solid;padding:0 4px;margin:2px 0}"
    ".reticent-ad-close{border:0;background:none;font-size:18px;line-height:1;cursor:pointer}"
    "@media(max-height:300px){.reticent-ad p{display:none}}@media(max-height:150px){.reticent-ad svg{display:none}}"
    "</style>"
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What bids are made with.

    Attributes:
        currency: of the account.
        responses_per_mille: how many responses a thousand views are taken to bring.
        base: address of this service, without a slash at its end.
    """

    currency: str
    responses_per_mille: float
    base: str


def price(bid_micros: int, terms: Terms) -> float:
    """Per thousand views, in the account's currency."""
    return round(bid_micros / 1e6 * terms.responses_per_mille, 6)


def least_bid(impression: Impression, terms: Terms) -> int | None:
    """The least offer, in millionths, whose price is more than nothing and reaches an impression's floor.

    g chooses among those that offer as much, so that no ad is chosen that could not be bid with.

    Returns:
        None where no price is known to reach the floor: it cannot be read, is in another currency, or out of reach.
    """
    floor = impression.floor
    if floor is None or (floor > 0 and impression.floor_currency != terms.currency):
        return None
    offers = range(1, BID_MICROS_MAX + 1)
    least = bisect.bisect_left(offers, 1, key=lambda micros: int(0 < price(micros, terms) >= floor))
    return offers[least] if least < len(offers) else None


def seat_bids(
    request: BidRequest, decided: Mapping[str, SlotDecision], creatives: Mapping[str, Creative], terms: Terms
) -> tuple[SeatBid, ...]:
    """Bids by seat.

    Args:
        request: what was asked.
        decided: by slot id.
        creatives: the catalogue by creative id.
        terms: of this installation.
    """
    seats: dict[str, list[Bid]] = {}
    for impression in request.impressions:
        slot = decided.get(impression.slot_id)
        if slot is None or slot.creative is None or slot.creative.creative_id not in creatives:
            continue
        bid = _bid(request, impression, slot, creatives[slot.creative.creative_id], terms)
        if bid is not None:
            seats.setdefault(impression.seat, []).append(bid)
    return tuple(SeatBid(seat=seat, bid=tuple(bids)) for seat, bids in seats.items())


def _bid(
    request: BidRequest, impression: Impression, slot: SlotDecision, creative: Creative, terms: Terms
) -> Bid | None:
    """A bid, unless there is nothing to offer, too little, or something that the page refuses."""
    shown, offered, least = slot.creative, price(creative.bid_micros, terms), least_bid(impression, terms)
    if shown is None or least is None or creative.bid_micros < least:
        return None
    if slot.tokens is None and slot.mode is not DecisionMode.ON_DEVICE:
        return None  # it was not recorded: nobody could confirm a view of it
    if category_is_blocked(creative, request.blocked_categories):
        return None
    if advertiser_is_blocked(creative, request.blocked_domains):
        return None
    link = _address(slot, FollowUp.CLICK, f"{terms.base}{CLICK}") or shown.landing_url
    adm = markup(shown, link) if impression.assets is None else _native(impression, shown, creative, link)
    if adm is None:
        return None
    burl = None if request.is_test else _address(slot, FollowUp.IMPRESSION, f"{terms.base}{BILLING}")
    width, height = impression.size or (None, None)
    return Bid(
        id=f"{slot.slot_id}:{slot.position}",
        impid=impression.imp_id,
        price=offered,
        adm=adm,
        adomain=(domain(creative),),
        cid=creative.campaign_id or creative.advertiser,
        crid=creative.creative_id,
        mtype=_HTML if impression.assets is None else _NATIVE,
        burl=burl,
        cat=own_codes(creative) or None,
        w=width,
        h=height,
        exp=EXPIRES_S,
        language=request.locale.partition("-")[0],
        ext=_ext(impression, shown, creative),
    )


def _ext(impression: Impression, shown: FilledCreative, creative: Creative) -> BidExt:
    """For whom the ad is and who paid; and what Prebid tells a page about it."""
    kind: Literal["banner", "native"] = "banner" if impression.assets is None else "native"
    page, categories = domain(creative), own_codes(creative)
    transparency = (Transparency(domain=page, dsaparams=()),)
    meta = Meta(advertiserDomains=(page,), mediaType=kind, primaryCatId=categories[0] if categories else None)
    return BidExt(
        dsa=Dsa(behalf=shown.advertiser, paid=shown.payer, transparency=transparency),
        prebid=BidPrebid(type=kind, meta=meta),
    )


def _address(slot: SlotDecision, follow_up: FollowUp, base: str) -> str | None:
    """Where a follow-up is counted; None where there is no token for it."""
    token = (slot.tokens or {}).get(follow_up)
    return None if token is None else base + quote(token)


def markup(shown: FilledCreative, link: str) -> str:
    """The creative's own escaped HTML with a style, and a link by way of our counter. It needs no script to close."""
    direct, counted = (f'href="{escape(address)}"' for address in (shown.landing_url, link))
    return f"{_STYLE}{shown.html.replace(direct, counted, 1)}"


def _native(impression: Impression, shown: FilledCreative, creative: Creative, link: str) -> str | None:
    facts = NativeFacts(
        title=shown.title,
        description=shown.description,
        image_url=shown.image_url,
        image_alt=shown.image_alt,
        sponsored=f"{shown.label} · {shown.advertiser}",
        domain=domain(creative),
        call_to_action=getattr(shown, "call_to_action", "") or "",
    )
    assets = native.fill(impression.assets or (), facts)
    if assets is None:
        return None
    return json.dumps({"ver": "1.2", "link": {"url": link}, "assets": assets}, ensure_ascii=False)
