"""From approved plans to the creatives of the signed catalogue. Pure. Owns what may be in it, and in which words.

The label is ours in every language and no advertiser's choice; what is shown loads nothing from an advertiser's host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from common.wire.messages import Creative
from server.campaigns.crowd import is_crowd
from server.campaigns.plan_repository import Plan
from server.campaigns.terms import CampaignTerms

LABEL: Final[Mapping[str, str]] = {"en": "Ad", "zh-CN": "广告"}


def compiled(
    campaigns: Sequence[Plan], creatives: Sequence[Plan], *, now: int, crowds: Mapping[str, float]
) -> list[Creative]:
    """The creatives that may be shown now, by id.

    Args:
        campaigns: those that are approved.
        creatives: those that are approved.
        now: seconds since the epoch; a campaign out of its dates is left out.
        crowds: noised count of people reached, by campaign.
    """
    running = {plan.plan_id: plan for plan in campaigns if in_date(plan.campaign, now)}
    return [
        creative_of(plan, running[plan.campaign_id], crowds=crowds)
        for plan in sorted(creatives, key=lambda plan: plan.plan_id)
        if plan.campaign_id in running
    ]


def in_date(terms: CampaignTerms, now: int) -> bool:
    """Whether a campaign runs at a moment."""
    return terms.starts_at <= now < terms.ends_at


def targeted(terms: CampaignTerms) -> bool:
    """Whether a campaign is meant for some people rather than for whoever comes."""
    return bool(terms.regions)


def creative_of(plan: Plan, campaign: Plan, *, crowds: Mapping[str, float]) -> Creative:
    """One creative as it is signed."""
    terms, order = plan.creative, campaign.campaign
    actions = {locale: text.call_to_action for locale, text in terms.texts.items() if text.call_to_action}
    return Creative(
        creative_id=plan.plan_id,
        item_id=terms.item_id or plan.plan_id,
        attributes=dict(terms.attributes),
        numbers=dict(terms.numbers),
        category=terms.category,
        advertiser=plan.advertiser,
        payer=order.payer,
        title={locale: text.title for locale, text in terms.texts.items()},
        description={locale: text.description for locale, text in terms.texts.items()},
        image_url=f"/static/creative/{plan.plan_id}.svg",
        image_alt={locale: text.image_alt for locale, text in terms.texts.items()},
        landing_url=terms.landing_url or order.landing_url,
        label=dict(LABEL),
        campaign_id=campaign.plan_id,
        bid_micros=order.bid_micros,
        tags=tuple(dict.fromkeys((*order.tags, *terms.tags))),
        call_to_action=actions,
        starts_at=order.starts_at,
        ends_at=order.ends_at,
        regions=order.regions,
        caps=order.caps,
        personal=not targeted(order) or is_crowd(crowds.get(campaign.plan_id)),
    )
