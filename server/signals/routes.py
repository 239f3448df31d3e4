"""Signals over HTTP: decoding for app backends and officers, and the statement that GPC is heeded."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Request, Response

from common.signals import gpc
from common.signals.verdict import Received
from server.api.deps import ServicesDep, document
from server.signals.schemas import DecodedSignals, GpcSupport, Signals

router = APIRouter(tags=["signals"])

_EXAMPLES: Final[dict[str, Any]] = {
    "us": {"summary": "California, nothing opted out", "value": {"gpp": "DBABBg~BVoAAACA.Q", "us_privacy": "1YNN"}},
    "gpc": {"summary": "Global Privacy Control", "value": {"gpc": True}},
}


@router.get("/.well-known/gpc.json", tags=["public documents"], response_model=GpcSupport)
async def gpc_support(request: Request) -> Response:
    """That this service heeds Global Privacy Control, and since when in this form."""
    statement = GpcSupport(gpc=True, lastUpdate=gpc.SUPPORTED_SINCE)
    return document(request, statement.model_dump_json().encode(), "application/json")


@router.post("/v1/signals/decode")
def decode(wanted: Annotated[Signals, Body(openapi_examples=_EXAMPLES)], services: ServicesDep) -> DecodedSignals:
    """What these signals oppose. The body alone counts here: a Sec-GPC header would be the caller's own browser's.

    A string that cannot be read is no error: it opposes every purpose, and its finding says why.
    """
    received, reader = wanted.received(), services.signals
    verdict = reader.judge(received)
    return DecodedSignals.of(received, verdict, reader.opposed(verdict), reader.rules)


def heard(request: Request, signals: Signals) -> Received:
    """Signals in a body together with the header of the request that carries it: either is enough."""
    received = signals.received()
    return replace(received, gpc=received.gpc or gpc.opted_out(request.headers.getlist(gpc.HEADER)))
