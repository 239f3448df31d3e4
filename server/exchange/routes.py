"""OpenRTB over HTTP. The body is read whatever type it is declared as: Prebid.js sends it as ``text/plain``."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any, Final

from anyio import move_on_after, to_thread
from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from common.errors import TokenReplayed
from common.signals import gpc
from common.taxonomy import FollowUp
from server.api.deps import ServicesDep
from server.api.security import Caller
from server.exchange.bid_request import read_bid_request
from server.exchange.schemas import BidResponse, CookieSync
from server.exchange.service import ExchangeService, Prices

router = APIRouter(tags=["exchange"])

TMAX_MS: Final = 5_000
"""How long is waited at most, whatever the exchange would wait."""
WAY_BACK_MS: Final = 10
_EXAMPLE: Final = {
    "id": "1f2e",
    "imp": [{"id": "div-top", "banner": {"format": [{"w": 300, "h": 250}]}}],
    "site": {"domain": "recipes.example", "content": {"language": "en"}},
    "regs": {"ext": {"gdpr": 1}},
    "user": {"ext": {"consent": "CQq7FMAQq7FMAAKABBENBkFgALLAAAAAAAYgADgIAAAAAAAA.IADoIAAA"}},
    "tmax": 500,
}  # fmt: skip
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "An OpenRTB 2.6 bid request; what is not named here is not read.",
    "required": ["id", "imp"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 128},
        "imp": {
            "type": "array",
            "minItems": 1,
            "maxItems": 50,
            "items": {
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"type": "string", "minLength": 1, "maxLength": 128},
                    "banner": {"type": "object"},
                    "native": {"type": "object"},
                    "bidfloor": {"type": "number", "minimum": 0},
                    "bidfloorcur": {"type": "string"},
                },
            },
        },
        "tmax": {"type": "integer", "minimum": 1},
        "cur": {"type": "array", "items": {"type": "string"}},
        "bcat": {"type": "array", "items": {"type": "string"}},
        "badv": {"type": "array", "items": {"type": "string"}},
        "regs": {"type": "object", "description": "gdpr, gpp, us_privacy, coppa, gpc; here or in its ext."},
        "user": {"type": "object", "description": "consent, here or in its ext; ext.reticent.handle."},
        "site": {"type": "object"},
        "app": {"type": "object"},
        "device": {"type": "object", "description": "dnt, lmt and language alone are read."},
    },
}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": _SCHEMA, "example": _EXAMPLE} for kind in ("application/json", "text/plain")},
    },
    "parameters": [
        {
            "name": "key",
            "in": "query",
            "required": False,
            "description": "An exchange's key, for pages that cannot send an Authorization header.",
            "schema": {"type": "string"},
        }
    ],
}
_SYNC: Final[dict[str, Any]] = {
    "requestBody": {
        "required": False,
        "content": {"text/plain": {"schema": {"type": "string", "description": "Whatever; it is not read."}}},
    }
}
_NO_BID: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": BidResponse},
    204: {"description": "No bid.", "headers": {"X-OpenRTB-Version": {"schema": {"type": "string"}}}},
}
_VERSION: Final = {"x-openrtb-version": "2.6"}


@router.post("/openrtb2/auction", openapi_extra=_BODY, responses=_NO_BID, response_model=None)
async def auction(request: Request, services: ServicesDep, caller: Caller) -> Response:
    """Bid for the slots of a page: the same g as for every decision. Late or nothing to offer: 204, no bid."""
    began = time.monotonic()
    wanted = read_bid_request(await request.body())
    settings = services.settings
    prices = Prices(settings.currency, settings.exchange_responses_per_mille)
    work = partial(
        ExchangeService(services.decisions, services.catalogues, prices).auction,
        wanted,
        caller,
        gpc=gpc.opted_out(request.headers.getlist(gpc.HEADER)),
        base=(settings.public_url or str(request.base_url)).rstrip("/"),
    )
    left = (min(wanted.tmax_ms or TMAX_MS, TMAX_MS) - WAY_BACK_MS) / 1000 - (time.monotonic() - began)
    found: BidResponse | None = None
    if left > 0:
        with move_on_after(left):
            found = await to_thread.run_sync(work, abandon_on_cancel=True)
    if found is None:
        return Response(status_code=204, headers=_VERSION)
    return Response(found.model_dump_json(exclude_none=True), media_type="application/json", headers=_VERSION)


@router.post("/cookie_sync", openapi_extra=_SYNC)
async def cookie_sync() -> CookieSync:
    """What Prebid asks before its first auction: there is nothing to synchronise, and nothing is set."""
    return CookieSync()


@router.get("/openrtb2/billing/{token}", status_code=204)
async def billing(token: Annotated[str, Path(max_length=400)], services: ServicesDep) -> None:
    """Confirm, by the bid's ``burl``, that an ad was seen. It counts once; loading it again changes nothing."""
    try:
        await run_in_threadpool(services.follow_ups.confirm, token, FollowUp.IMPRESSION)
    except TokenReplayed:
        return
