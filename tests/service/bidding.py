"""Bid requests as Prebid.js 11 writes them, and an installation whose ads are paid for."""

from __future__ import annotations

import json
from typing import Any

import httpx

from common.signals.rules import SignalRules
from common.taxonomy import Role
from common.wire.messages import Creative
from tests.service.world import APP, World, bearer, catalogue

VENDOR = 7
VECTORS_NOW = 1_792_592_000.0  # tests/signals/vectors/own.json
GRANTED = "CQq7FMAQq7FMAAKABBENBkFgALLAAAAAAAYgADgIAAAAAAAA.IADoIAAA"
REFUSED = "CQq7FMAQq7FMAAKABBENBkFgAKLAAAAAAAYgADgIAAAAAAAA.IADoIAAA"  # purpose 4 not consented
RULES = SignalRules(vendor=VENDOR)


def creatives(count: int = 8, *, bid_micros: int = 250_000, **more: object) -> tuple[Creative, ...]:
    update = {"bid_micros": bid_micros, "campaign_id": "spring", **more}
    return tuple(creative.model_copy(update=update) for creative in catalogue(count).creatives)


def sell(world: World, *offered: Creative) -> None:
    """Put creatives with a bid in force."""
    world.services.catalogues.publish(offered or creatives())


def exchange_key(world: World, app_id: str | None = APP) -> str:
    return world.services.access.issue(Role.EXCHANGE, label="page", app_id=app_id).token


def bid_request(**more: object) -> dict[str, Any]:
    return {
        "id": "b7a1-5c",
        "imp": [imp()],
        "site": {
            "domain": "recipes.example",
            "page": "https://recipes.example/?who=ana",
            "publisher": {"id": "publisher-7"},
        },
        "device": {"w": 800, "h": 600, "language": "en", "ua": "Mozilla/5.0", "ip": "203.0.113.7"},
        "user": {"id": "somebody-7", "eids": [{"source": "x.example", "uids": [{"id": "eid-uid-7"}]}]},
        "tmax": 5_000,
        "test": 0,
        "ext": {"prebid": {"auctiontimestamp": 1, "channel": {"name": "pbjs", "version": "v11.36.0"}}},
    } | more


def imp(imp_id: str = "div-top", **more: object) -> dict[str, Any]:
    asked = (
        {"banner": {"topframe": 1, "format": [{"w": 300, "h": 250}, {"w": 320, "h": 50}]}}
        if "native" not in more
        else {}
    )
    return {"id": imp_id, **asked, "secure": 1, "ext": {"prebid": {"bidder": {"reticent": {}}}}} | more


def post(world: World, body: object, key: str = "", **headers: str) -> httpx.Response:
    """Send a bid request as a page does: plain text, the key in a header."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": "text/plain", "origin": "https://recipes.example"} | bearer(key or exchange_key(world))
    return world.http.post("/openrtb2/auction", content=content, headers=sent | headers)


def sole_bid(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    (seat,) = answer.json()["seatbid"]
    (bid,) = seat["bid"]
    return dict(bid)


def summary(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["ext"]["reticent"])
