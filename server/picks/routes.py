"""The public lists of candidates over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from common.wire.pick import SlotGroupName
from server.api.deps import ServicesDep, declared, document

router = APIRouter(tags=["public documents"])


@router.get("/v1/candidates/{slot_group}", response_class=Response, responses=declared("application/jose"))
async def candidates(slot_group: SlotGroupName, request: Request, services: ServicesDep) -> Response:
    """The signed list of candidates of a slot group in this epoch: the same bytes for everybody.

    None while the privacy officers' cap is below one draw: nobody draws what would not be taken.
    """
    await run_in_threadpool(services.picks.check_open)
    stored, _ = await run_in_threadpool(services.picks.lists.current, slot_group)
    return document(request, stored.jws.encode(), "application/jose")
