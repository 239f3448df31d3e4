"""The public lists of candidates, and the cap on private picks, over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from fastapi.concurrency import run_in_threadpool

from common.errors import NotAllowed
from common.wire.pick import PickStop, SlotGroupName
from server.api.deps import ServicesDep, declared, document
from server.api.security import Caller

router = APIRouter(tags=["public documents"])


@router.get("/v1/candidates/{slot_group}", response_class=Response, responses=declared("application/jose"))
async def candidates(slot_group: SlotGroupName, request: Request, services: ServicesDep) -> Response:
    """The signed list of candidates of a slot group in this epoch: the same bytes for everybody.

    None while the privacy officers' cap is below one draw: nobody draws what would not be taken.
    """
    await run_in_threadpool(services.picks.check_open)
    stored, _ = await run_in_threadpool(services.picks.lists.current, slot_group)
    return document(request, stored.jws.encode(), "application/jose")


@router.get("/v1/pick-cap", response_class=Response, responses=declared("application/jose"))
def pick_cap(request: Request, services: ServicesDep) -> Response:
    """The signed cap of the privacy officers on private picks: the same bytes for everybody, valid for an hour.

    Devices refuse to draw beyond it before they pay, and without one that is of now they draw nothing.
    """
    return document(request, services.picks.cap.current().encode(), "application/jose")


@router.post("/v1/picks/stop", status_code=204, tags=["consent"])
def stop(wanted: Annotated[PickStop, Body()], services: ServicesDep, caller: Caller) -> None:
    """Use no private pick of this device until the running epoch is over, whoever posts it. Nothing is refunded.

    In force at the next decision; repeating it is harmless. The device itself gives no further ones until its owner
    allows them again.
    """
    if caller.subject != wanted.handle:
        raise NotAllowed("a device speaks for its own subject only")
    services.picks.stop(wanted.handle)
