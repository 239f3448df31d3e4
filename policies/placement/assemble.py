"""From a catalogue and the moment to g's inputs. Owns the one way of putting them together.

Bids and campaigns are the signed catalogue's; pacing, blocks and floors are public and the same for everybody. Only
``shown``, ``evidence`` and ``refused_tags`` may know somebody, and only a device has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.wire.messages import Creative
from policies.placement.inputs import Bid, Evidence, Inputs, Shown


@dataclass(frozen=True, slots=True)
class Offers:
    """What a catalogue says beside its creatives' texts; made once per catalogue and used for every decision.

    Attributes:
        campaigns: campaign by creative id.
        bids: by creative id, where something is offered.
    """

    campaigns: Mapping[str, str]
    bids: Mapping[str, Bid]


def campaign_of(creative: Creative) -> str:
    """The campaign that a creative belongs to: the one it names, or its advertiser's only one."""
    return creative.campaign_id or creative.advertiser


def offers(creatives: Iterable[Creative]) -> Offers:
    """The catalogue's campaigns and bids; of an id that occurs twice the first counts, as in eligibility."""
    campaigns: dict[str, str] = {}
    bids: dict[str, Bid] = {}
    for creative in creatives:
        if creative.creative_id not in campaigns:
            campaigns[creative.creative_id] = campaign_of(creative)
            if creative.bid_micros:
                bids[creative.creative_id] = Bid(creative.bid_micros)
    return Offers(campaigns, bids)


def inputs(
    creatives: Iterable[Creative] | Offers,
    *,
    now: float,
    shown: Iterable[Shown] = (),
    pacing: Mapping[str, float] | None = None,
    blocked_categories: Iterable[str] = (),
    blocked_advertisers: Iterable[str] = (),
    floors: Mapping[str, float] | None = None,
    least_bids: Mapping[str, int] | None = None,
    context: Mapping[str, str] | None = None,
    evidence: Mapping[str, Evidence] | None = None,
    stopped: Iterable[str] = (),
    personal: bool = False,
    refused_tags: Iterable[str] = (),
) -> Inputs:
    """Everything g is told beside policy, catalogue, scores, slots and seed.

    Args:
        creatives: the catalogue's creatives, or their ``offers`` where many decisions are made from one catalogue.
        now: seconds since the epoch.
        shown: earlier views, on a device.
        pacing: serve probability by campaign, where it is below 1.
        blocked_categories: what the surface refuses, as ``blocked_advertisers``.
        blocked_advertisers: see there.
        floors: least score by slot id, on top of the policy's.
        least_bids: what must be offered at least to take part, by slot id, in millionths.
        context: facts about the page.
        evidence: what is known beside the model, by creative id.
        stopped: what a privacy officer has switched off: campaigns, advertisers or creatives.
        personal: whether creatives that have no crowd yet are left out.
        refused_tags: topics that the device's owner has switched off.

    Privacy:
        Sends nothing. A service passes neither ``shown`` nor ``refused_tags``: it knows nobody.
    """
    known = creatives if isinstance(creatives, Offers) else offers(creatives)
    return Inputs(
        now=now,
        shown=tuple(shown),
        campaigns=known.campaigns,
        pacing=pacing or {},
        bids=known.bids,
        evidence=evidence or {},
        floors=floors or {},
        least_bids=least_bids or {},
        blocked_categories=frozenset(blocked_categories),
        blocked_advertisers=frozenset(blocked_advertisers),
        context=context or {},
        stopped=frozenset(stopped),
        personal=personal,
        refused_tags=frozenset(refused_tags),
    )
