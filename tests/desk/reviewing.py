"""A campaign and a hostile creative at the desk, made by the service as an advertiser would."""

from __future__ import annotations

from dataclasses import dataclass

from common.taxonomy import PlanKind, PlanMove, Role
from server.access.principal import Principal
from server.api.services import Services
from server.campaigns.terms import CampaignTerms, CreativeTerms

DAY_S = 86_400
ADVERTISER = Principal(Role.ADVERTISER, holder="nuts-and-sons")
SCRIPT = "<script>document.title='caught';parent.caught='yes'</script>"
IMAGE = "<img src=x onerror=\"document.title='caught'\">"
BREAKOUT = "\"><svg onload=document.title='caught'>"


@dataclass(frozen=True)
class Handed:
    """What an advertiser handed in."""

    campaign: str
    creative: str


def campaign_terms(now: float, **changes: object) -> CampaignTerms:
    values: dict[str, object] = {
        "name": "Autumn",
        "payer": "Nuts & Sons Ltd.",
        "landing_url": "https://nuts.example/autumn",
        "starts_at": int(now) - DAY_S,
        "ends_at": int(now) + 30 * DAY_S,
        "budget_micros": 500_000_000,
    }
    return CampaignTerms.model_validate(values | changes)


def creative_terms(**changes: object) -> CreativeTerms:
    """Roasted nuts in two languages, with a script wherever a text can be."""
    texts = {
        "en": {
            "title": f"Roasted nuts {SCRIPT}",
            "description": f"From the farm {IMAGE}",
            "image_alt": f"A bowl of nuts {BREAKOUT}",
            "call_to_action": "<b>Taste</b>",
        },
        "zh-CN": {"title": "炒货", "description": "产地直送。", "image_alt": "一碗坚果"},
    }
    values: dict[str, object] = {"category": "snacks", "texts": texts, "attributes": {"category": "snacks"}}
    return CreativeTerms.model_validate(values | changes)


def handed_in(services: Services, *, submitted: bool = True) -> Handed:
    """A campaign with one creative, waiting for review."""
    plans = services.plans
    campaign = plans.create_campaign(campaign_terms(services.clock()), ADVERTISER)
    (creative,) = plans.create_creatives(campaign.plan_id, [creative_terms()], ADVERTISER)
    if submitted:
        plans.move(PlanKind.CAMPAIGN, campaign.plan_id, PlanMove.SUBMIT, ADVERTISER)
        plans.move(PlanKind.CREATIVE, creative.plan_id, PlanMove.SUBMIT, ADVERTISER)
    return Handed(campaign.plan_id, creative.plan_id)


def in_catalogue(services: Services) -> set[str]:
    opened = services.catalogues.opened()
    return set() if opened is None else {creative.creative_id for creative in opened.creatives}
