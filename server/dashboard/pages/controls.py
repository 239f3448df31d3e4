"""Stops: the kill switch per purpose, campaign and jurisdiction."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Response

from common.taxonomy import ControlScope, LogKind, Purpose
from server.dashboard.desk import DeskDep
from server.dashboard.pages.consent import titles

router = APIRouter()


@router.get("/controls")
def controls(desk: DeskDep) -> Response:
    """What is stopped, and the switch."""
    events = desk.services.log.events(limit=20, kind=LogKind.CONTROL, newest_first=True)
    return desk.page(
        "controls.html",
        stopped=desk.services.controls.stopped(),
        titles=titles(desk),
        purposes=tuple(Purpose),
        places=[rule.code for rule in desk.services.policies.policies.purposes.jurisdictions],
        events=events,
    )


@router.post("/controls")
def stop(
    desk: DeskDep,
    scope: Annotated[ControlScope, Form()],
    target: Annotated[str, Form(min_length=1, max_length=200)],
    note: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Stop something, at once."""
    desk.services.controls.kill(scope, target.strip(), actor=desk.visitor.actor, note=note.strip())
    return desk.back("/controls", "stopped")


@router.post("/controls/release")
def release(
    desk: DeskDep,
    scope: Annotated[ControlScope, Form()],
    target: Annotated[str, Form(min_length=1, max_length=200)],
    note: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Let it run again."""
    desk.services.controls.release(scope, target, actor=desk.visitor.actor, note=note.strip())
    return desk.back("/controls", "released")
