"""Kill switches over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from common.taxonomy import ControlScope
from server.api.deps import ServicesDep
from server.api.security import Caller
from server.controls.repository import Stopped

router = APIRouter(prefix="/v1/controls", tags=["administration"])

_EXAMPLES: Final[dict[str, Any]] = {
    "purpose": {"value": {"scope": "purpose", "target": "train.contribute", "note": "under review"}},
    "place": {"value": {"scope": "jurisdiction", "target": "FR"}},
    "campaign": {"value": {"scope": "campaign", "target": "National"}},
}


class ControlOrder(BaseModel):
    """What is to be stopped or released."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    scope: ControlScope
    target: str = Field(
        min_length=1,
        max_length=200,
        description="A purpose id; an advertiser or creative id; a country (FR) or country and subdivision (US-CA).",
    )
    note: str = Field(default="", max_length=500, description="For other officers; it goes into the log.")


class ControlState(BaseModel):
    """One thing that is stopped."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    scope: ControlScope
    target: str
    stopped_at: int
    stopped_by: str
    note: str

    @classmethod
    def of(cls, stopped: Stopped) -> ControlState:
        """From the service's words."""
        return cls(
            scope=stopped.scope,
            target=stopped.target,
            stopped_at=stopped.stopped_at,
            stopped_by=stopped.stopped_by,
            note=stopped.note,
        )


class ControlStates(BaseModel):
    """Everything that is stopped now."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stopped: tuple[ControlState, ...]


@router.get("")
def controls(services: ServicesDep) -> ControlStates:
    """What is stopped now; who released what is in the transparency log."""
    return ControlStates(stopped=tuple(ControlState.of(one) for one in services.controls.stopped()))


@router.post("/kill")
def kill(
    order: Annotated[ControlOrder, Body(openapi_examples=_EXAMPLES)], services: ServicesDep, caller: Caller
) -> ControlState:
    """Stop a purpose, a campaign or a jurisdiction: at the next decision and round. Repeating it is harmless."""
    return ControlState.of(services.controls.kill(order.scope, order.target, actor=caller.actor, note=order.note))


@router.post("/release", status_code=204)
def release(
    order: Annotated[ControlOrder, Body(openapi_examples=_EXAMPLES)], services: ServicesDep, caller: Caller
) -> None:
    """Let it run again; what people decided meanwhile and before holds."""
    services.controls.release(order.scope, order.target, actor=caller.actor, note=order.note)
