"""A small app backend with one ad slot: pages, a counted view, a counted click, and a choice about consent.

Run it: ``RETICENT_URL=… RETICENT_API_KEY=… uvicorn recipes:app``. It needs starlette, httpx and reticent-client.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from reticent_client import AsyncClient, Position, Problem, Signals, Slot

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Recipes</title><h1>Soup</h1>{ad}"""
SEEN = """<img src="/seen/{token}" alt="" width="1" height="1">"""


def signals_of(request: Request) -> Signals:
    """What the reader's browser says: hand on all there is."""
    return Signals(gpc="1" in request.headers.getlist("sec-gpc"), tcf=request.cookies.get("euconsent-v2"))


async def page(request: Request) -> Response:
    """The page. Where no ad comes in time it is whole without one."""
    decision = await request.app.state.reticent.decide(
        [Slot("soup-top")],
        handle=request.cookies.get("reticent_handle"),
        context={"page": "recipes"},
        signals=signals_of(request),
        tmax_ms=int(os.environ.get("RETICENT_TMAX_MS", "200")),
    )
    return HTMLResponse(PAGE.format(ad="".join(drawn(position) for position in decision.shown)))


def drawn(position: Position) -> str:
    """The ad with its label and close button, its link by way of the counter, and the picture that confirms the view.

    In mode on_device there are no tokens: what is shown then is counted on the person's device alone.
    """
    creative, tokens = position.creative, position.tokens
    if creative is None or tokens is None:
        return "" if creative is None else creative.html
    counted = f"{os.environ['RETICENT_URL']}/c/{tokens['click']}"
    return creative.html.replace(creative.landing_url, counted, 1) + SEEN.format(token=tokens["impression"])


async def seen(request: Request) -> Response:
    """A view, confirmed once. A token that is late or not ours is nothing to bother the reader with."""
    try:
        await request.app.state.reticent.confirm(request.path_params["token"], "impression")
    except Problem:
        return Response(status_code=404)
    return Response(status_code=204)


async def consent(request: Request) -> Response:
    """Yes or no to personal ads, after the notice was shown; no is as easy as yes."""
    reticent, handle = request.app.state.reticent, request.cookies.get("reticent_handle", "")
    if request.path_params["choice"] == "withdraw":
        withdrawn = await reticent.withdraw(handle)
        return JSONResponse({"stops": withdrawn.stops["placement"]})
    notice, choice = await reticent.notice("en"), "given" if request.path_params["choice"] == "yes" else "refused"
    decisions = {"train.local": choice, "place.personalised": choice}
    changed = await reticent.record(handle, decisions, notice=notice, surface="recipes", signals=signals_of(request))
    return JSONResponse({"receipts": [receipt.receipt_id for receipt in changed.receipts]})


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One client for the whole backend: it keeps its connections."""
    async with AsyncClient(os.environ["RETICENT_URL"], api_key=os.environ["RETICENT_API_KEY"]) as reticent:
        app.state.reticent = reticent
        yield


app = Starlette(
    routes=[
        Route("/", page),
        Route("/seen/{token}", seen),
        Route("/consent/{choice}", consent, methods=["POST"]),
    ],
    lifespan=lifespan,
)
