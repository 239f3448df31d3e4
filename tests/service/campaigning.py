"""An advertiser, a reviewer, and what they do, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from common.taxonomy import Role
from tests.service.world import World

DAY_S = 86_400


def campaign_body(world: World, **changes: object) -> dict[str, Any]:
    now = int(world.clock.now)
    body: dict[str, Any] = {
        "name": "Autumn",
        "payer": "Nuts & Sons Ltd.",
        "landing_url": "https://nuts.example/autumn",
        "starts_at": now - DAY_S,
        "ends_at": now + 30 * DAY_S,
        "budget_micros": 500_000_000,
        "daily_budget_micros": 50_000_000,
        "bid_micros": 250_000,
        "currency": "EUR",
        "tags": ["nuts"],
    }
    return body | changes


def creative_body(campaign_id: str | None = None, **changes: object) -> dict[str, Any]:
    texts = {
        "en": {
            "title": "Roasted nuts",
            "description": "From the farm, this week.",
            "image_alt": "A bowl of nuts",
            "call_to_action": "Taste them",
        },
        "zh-CN": {
            "title": "炒货",
            "description": "产地直送，本周特惠。",
            "image_alt": "一碗坚果",
            "call_to_action": "立即选购",
        },
    }
    body: dict[str, Any] = {
        "category": "snacks",
        "texts": texts,
        "attributes": {"category": "snacks"},
        "numbers": {"discount": 0.1},
    }
    return body | ({} if campaign_id is None else {"campaign_id": campaign_id}) | changes


class Agency:
    """What people do with campaigns; every method answers as HTTP did, unless its name says that it must work."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.advertiser = world.key(Role.ADVERTISER, holder="nuts-and-sons")
        self.rival = world.key(Role.ADVERTISER, holder="rival")
        self.officer = world.key(Role.PRIVACY_OFFICER, holder="ana")
        self.admin = world.key(Role.ADMIN, holder="root")
        self.backend = world.key(Role.APP_BACKEND, holder="grocer-app")

    def ask(self, method: str, path: str, body: object = None, *, key: dict[str, str] | None = None) -> httpx.Response:
        headers = self.advertiser if key is None else key
        if body is None:
            return self.world.http.request(method, path, headers=headers)
        return self.world.http.request(method, path, json=body, headers=headers)

    def done(self, method: str, path: str, body: object = None, *, key: dict[str, str] | None = None) -> dict[str, Any]:
        answer = self.ask(method, path, body, key=key)
        assert answer.status_code in {200, 201}, answer.text
        return dict(answer.json())

    def campaign(self, **changes: object) -> str:
        made = self.done("POST", "/v1/campaigns", campaign_body(self.world, **changes))
        return str(made["campaign_id"])

    def creative(self, campaign_id: str, **changes: object) -> str:
        return str(self.done("POST", "/v1/creatives", creative_body(campaign_id, **changes))["creative_id"])

    def approve(self, *paths: str) -> None:
        for path in paths:
            self.done("POST", f"{path}/moves", {"move": "submit"})
            self.done("POST", f"{path}/review", {"verdict": "approve"}, key=self.officer)

    def running(self, **changes: object) -> tuple[str, str]:
        """A campaign with a creative, both approved; their ids."""
        campaign = self.campaign(**changes)
        creative = self.creative(campaign)
        self.approve(f"/v1/campaigns/{campaign}", f"/v1/creatives/{creative}")
        return campaign, creative

    def in_catalogue(self) -> list[str]:
        opened = self.world.services.catalogues.opened()
        return [] if opened is None else [creative.creative_id for creative in opened.creatives]

    def served(self) -> str | None:
        answer = self.world.decide(None, self.backend)
        chosen = answer["slots"][0]["creative"]
        return None if chosen is None else str(chosen["creative_id"])
