"""Auctions. Owns the way from a bid request to the one engine that decides, and back; decides nothing itself.

**Privacy:** an answer is personal only by the same permit as everywhere: a handle of the caller's own app, a live
grant, no opposing signal. Without it the page alone counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from msgspec import structs

from common.taxonomy import Role
from common.wire.messages import Catalogue, Creative
from server.access.principal import Principal
from server.campaigns.service import CatalogueService
from server.decisions.request import DecisionRequest, read_request
from server.decisions.schemas import DecisionAnswer
from server.decisions.service import DecisionService
from server.exchange.bid_request import BidRequest
from server.exchange.bids import Terms, least_bid, seat_bids
from server.exchange.blocking import advertiser_is_blocked, category_is_blocked
from server.exchange.schemas import BidResponse, DecisionSummary, ResponseExt


@dataclass(frozen=True, slots=True)
class Prices:
    """Of this installation: the account's currency, and the responses that a thousand views are taken to bring."""

    currency: str
    responses_per_mille: float


class ExchangeService:
    """Answers bid requests."""

    def __init__(self, decisions: DecisionService, catalogues: CatalogueService, prices: Prices) -> None:
        self._decisions, self._catalogues, self._prices = decisions, catalogues, prices

    def auction(self, request: BidRequest, caller: Principal, *, gpc: bool, base: str) -> BidResponse | None:
        """A bid response; None where there is no bid.

        Args:
            request: what was understood.
            caller: whose key it came with.
            gpc: whether Global Privacy Control came in a header.
            base: address of this service as the caller sees it.
        """
        terms = Terms(self._prices.currency, self._prices.responses_per_mille, base)
        request, least_bids = _within_reach(request, terms)
        if not request.impressions or (request.currencies and terms.currency not in request.currencies):
            return None
        categories, advertisers = self._refused(request)
        asked = structs.replace(
            _asked(request, caller, gpc=gpc),
            blocked_categories=categories,
            blocked_advertisers=advertisers,
            least_bids=least_bids,
        )
        answer = self._decisions.decide(asked, caller)
        creatives = self._creatives(answer)
        bids = seat_bids(request, {slot.slot_id: slot for slot in answer.slots}, creatives, terms)
        if not bids:
            return None
        return BidResponse(
            id=request.request_id,
            bidid=answer.decision_id,
            cur=terms.currency,
            seatbid=bids,
            ext=ResponseExt(reticent=_summary(request, answer)),
        )

    def _refused(self, request: BidRequest) -> tuple[frozenset[str], frozenset[str]]:
        """Categories and advertisers that the page refuses, in the words of the catalogue: g chooses among the rest."""
        catalogue = self._catalogues.opened() if request.blocked_categories or request.blocked_domains else None
        offered = () if catalogue is None else catalogue.creatives
        categories = (one.category for one in offered if category_is_blocked(one, request.blocked_categories))
        advertisers = (one.advertiser for one in offered if advertiser_is_blocked(one, request.blocked_domains))
        return frozenset(categories), frozenset(advertisers)

    def _creatives(self, answer: DecisionAnswer) -> Mapping[str, Creative]:
        """The catalogue that the decision was made with, if it is still in force; else there is nothing to bid with."""
        catalogue: Catalogue | None = self._catalogues.opened()
        if catalogue is None or catalogue.version != answer.catalogue_version:
            return {}
        return {creative.creative_id: creative for creative in catalogue.creatives}


def _within_reach(request: BidRequest, terms: Terms) -> tuple[BidRequest, dict[str, int]]:
    """The request without impressions that no offer could win; and what each of the others asks for at least.

    The dearest come first: slots choose in turn, and what reaches a high floor reaches a low one too.
    """
    least = {impression.slot_id: least_bid(impression, terms) for impression in request.impressions}
    asked = {slot_id: micros for slot_id, micros in least.items() if micros is not None}
    left = (impression for impression in request.impressions if impression.slot_id in asked)
    return replace(request, impressions=tuple(sorted(left, key=lambda one: -asked[one.slot_id]))), asked


def _asked(request: BidRequest, caller: Principal, *, gpc: bool) -> DecisionRequest:
    """The bid request as every other decision request is made."""
    body: dict[str, object] = {
        "slots": [{"slot_id": impression.slot_id} for impression in request.impressions],
        "context": request.context,
        "locale": request.locale,
    }
    if request.handle is not None and _may_speak(caller) and request.regulations.protected is None:
        body["handle"] = request.handle
    asked = read_request(json.dumps(body).encode())
    signals = request.regulations.received
    return structs.replace(
        asked,
        signals=replace(signals, gpc=signals.gpc or gpc),
        gpc=signals.gpc or gpc,
        tmax_ms=request.tmax_ms,
        malformed=asked.malformed or request.regulations.contradictory,
    )


def _may_speak(caller: Principal) -> bool:
    """Whether a key may say for whom it asks: one that stands in pages only for the people of its own app."""
    return caller.role is not Role.EXCHANGE or caller.app_id is not None


def _summary(request: BidRequest, answer: DecisionAnswer) -> DecisionSummary:
    first = answer.slots[0]
    return DecisionSummary(
        decision_id=answer.decision_id,
        mode=answer.mode,
        reason=request.regulations.protected or first.reason,
        explanation=(request.regulations.protected.explanation if request.regulations.protected else first.explanation),
        permit=answer.permit,
        candidates=answer.candidates,
        privacy_signal=answer.privacy_signal,
    )
