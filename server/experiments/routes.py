"""Changes, placement policies and experiments over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Request, Response

from server.api.deps import ServicesDep, declared, document
from server.api.paging import PageDep, cut, link
from server.api.security import Caller
from server.experiments.schemas import (
    ChangeAnswer,
    ChangeList,
    ChangeOrder,
    ExperimentReport,
    ExperimentState,
    PolicyVersion,
    PolicyVersionList,
    RollbackOrder,
    StopOrder,
)

router = APIRouter(tags=["experiments"])

_CHANGES: Final = "changes"
_VERSIONS: Final = "policy-versions"
Number = Annotated[int, Path(ge=1, le=2**53, examples=[1])]
ExperimentId = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", examples=["softer-floor"])]
_EXAMPLES: Final[dict[str, Any]] = {
    "pause": {
        "value": {
            "change": {"kind": "creative", "creative_id": "cr_1", "action": "pause"},
            "reason": "fewest clicks of its campaign, intervals apart",
        }
    }
}


@router.post("/v1/changes", status_code=201)
def propose(
    order: Annotated[ChangeOrder, Body(openapi_examples=_EXAMPLES)], services: ServicesDep, caller: Caller
) -> ChangeAnswer:
    """Ask for a change of policy, experiment, creative or budget. It takes effect when another person approves it."""
    made = services.proposals.propose(order.change, caller, reason=order.reason, evidence=order.evidence)
    return ChangeAnswer.of(made)


@router.get("/v1/changes")
def changes(request: Request, response: Response, services: ServicesDep, asked: PageDep) -> ChangeList:
    """Everything that was proposed, newest first."""
    before = asked.after(_CHANGES, (int,))
    rows = services.proposals.list(None if before is None else int(before[0]), asked.rows)
    found = cut(rows, asked, _CHANGES, lambda change: (change.id,))
    link(request, response, found)
    return ChangeList(changes=tuple(map(ChangeAnswer.of, found.items)), next_cursor=found.next_cursor)


@router.get("/v1/changes/{number}")
def change(number: Number, services: ServicesDep) -> ChangeAnswer:
    """One proposal."""
    return ChangeAnswer.of(services.proposals.get(number))


@router.post("/v1/changes/{number}/approve")
def approve(number: Number, services: ServicesDep, caller: Caller) -> ChangeAnswer:
    """Agree to somebody else's proposal: it is in force when this answer arrives."""
    return ChangeAnswer.of(services.proposals.approve(number, caller))


@router.post("/v1/changes/{number}/reject")
def reject(number: Number, services: ServicesDep, caller: Caller) -> ChangeAnswer:
    """End a proposal, one's own included."""
    return ChangeAnswer.of(services.proposals.reject(number, caller))


@router.get("/v1/policy/versions")
def versions(request: Request, response: Response, services: ServicesDep, asked: PageDep) -> PolicyVersionList:
    """Placement policies that were put in force, newest first; without any, the installation's file is in force."""
    before = asked.after(_VERSIONS, (int,))
    rows = services.placement.history(None if before is None else int(before[0]), asked.rows)
    found = cut(rows, asked, _VERSIONS, lambda stored: (stored.version,))
    link(request, response, found)
    return PolicyVersionList(versions=tuple(map(PolicyVersion.of, found.items)), next_cursor=found.next_cursor)


@router.post("/v1/policy/rollback")
def rollback(order: Annotated[RollbackOrder, Body()], services: ServicesDep, caller: Caller) -> PolicyVersion:
    """Put an earlier placement policy in force again, at the next decision. One person is enough."""
    done = services.placement.rollback(order.version, person=caller.holder, actor=caller.actor, reason=order.reason)
    return PolicyVersion.of(next(iter(services.placement.history(done.version + 1, 1))))


@router.get(
    "/v1/experiments/current",
    response_class=Response,
    responses=declared("application/jose") | {204: {"description": "No experiment is running."}},
)
def current(request: Request, services: ServicesDep) -> Response:
    """The signed experiment in force, the same for everybody; devices draw their arms by themselves. 204: none."""
    found = services.experiments.in_force()
    if found is None:
        return Response(status_code=204, headers={"cache-control": "public, max-age=60"})
    return document(request, found.jws.encode(), "application/jose")


@router.post("/v1/experiments/{experiment_id}/stop")
def stop(
    experiment_id: ExperimentId, order: Annotated[StopOrder, Body()], services: ServicesDep, caller: Caller
) -> ExperimentState:
    """End an experiment now. One person is enough."""
    done = services.experiments.stop(experiment_id, person=caller.holder, actor=caller.actor, reason=order.reason)
    return ExperimentState.of(done)


@router.get("/v1/experiments/{experiment_id}/report")
def report(experiment_id: ExperimentId, services: ServicesDep) -> ExperimentReport:
    """Arms with intervals, and whether they are split as they should be; before its time only if it is sequential."""
    return ExperimentReport.of(services.trials.report(experiment_id))
