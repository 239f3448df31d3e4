"""Experiments on placements: what runs and has shown what, and changes that wait for a second person."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Form, Path, Query, Response

from common.taxonomy import ChangeKind, ChangeState
from server.dashboard.desk import Desk, DeskDep
from server.dashboard.door import PAGES
from server.experiments.repository import Change
from server.experiments.trials import Report

router = APIRouter()
_NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,39}$"
_LISTED: Final = 50


@dataclass(frozen=True, slots=True)
class ChangeView:
    """A proposal, with its body and evidence as somebody can read them."""

    change: Change
    about: str
    body: str
    evidence: str


@router.get("/experiments")
def experiments(desk: DeskDep, experiment: Annotated[str | None, Query(pattern=_NAME)] = None) -> Response:
    """The running experiment, or the one that is asked for; proposals that wait; what was decided."""
    services, role = desk.services, desk.visitor.role
    changes = [_view(change) for change in services.proposals.list(limit=_LISTED)]
    running = services.experiments.in_force()
    asked = experiment or (None if running is None else running.document.experiment_id)
    return desk.page(
        "experiments.html",
        report=_report(desk, asked),
        running=None if running is None else running.document.experiment_id,
        waiting=[view for view in changes if view.change.state is ChangeState.PROPOSED],
        decided=[view for view in changes if view.change.state is not ChangeState.PROPOSED],
        earlier=[view.about for view in changes if _ran(view.change)],
        may_decide=role in PAGES[("POST", "/changes/{number}")],
        may_stop=role in PAGES[("POST", "/experiments/{experiment_id}/stop")],
    )


@router.post("/experiments/{experiment_id}/stop")
def stop(
    desk: DeskDep,
    experiment_id: Annotated[str, Path(pattern=_NAME)],
    reason: Annotated[str, Form(min_length=3, max_length=500)],
) -> Response:
    """End an experiment now; one person is enough."""
    visitor = desk.visitor
    desk.services.experiments.stop(experiment_id, person=visitor.holder, actor=visitor.actor, reason=reason.strip())
    return desk.back("/experiments", "experiment-stopped")


@router.post("/changes/{number}")
def decide(
    desk: DeskDep,
    number: Annotated[int, Path(ge=1, le=2**53)],
    decision: Annotated[Literal["approve", "reject"], Form()],
) -> Response:
    """Agree as the second person, or reject."""
    if decision == "approve":
        desk.services.proposals.approve(number, desk.visitor.principal)
        return desk.back("/experiments", "change-approved")
    desk.services.proposals.reject(number, desk.visitor.principal)
    return desk.back("/experiments", "change-rejected")


def _report(desk: Desk, experiment_id: str | None) -> Report | None:
    return None if experiment_id is None else desk.services.trials.report(experiment_id)


def _ran(change: Change) -> bool:
    return change.kind is ChangeKind.EXPERIMENT and change.state is ChangeState.APPROVED


def _view(change: Change) -> ChangeView:
    body = json.loads(change.body)
    about = next((str(body[name]) for name in ("experiment_id", "creative_id", "campaign_id") if name in body), "")
    evidence = "" if change.evidence == "null" else _readable(json.loads(change.evidence))
    return ChangeView(change, about, _readable(body), evidence)


def _readable(value: object) -> str:
    """JSON with the line breaks of the policy texts in it."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).replace("\\n", "\n")
