"""Caps on ε: what binds, proposals, and the second officer's word."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Response

from common.taxonomy import CapState, PrivacyUnit
from server.dashboard.desk import DeskDep
from server.ledger.bounds import CAP, PICKS, PURPOSES, line_of_bound

router = APIRouter()


@router.get("/caps")
def caps(desk: DeskDep) -> Response:
    """What binds, and what waits for a decision."""
    service, policy = desk.services.caps, desk.services.policies.policies.privacy_budget
    listed, of_picks = service.list(limit=100), service.picks_in_force()
    return desk.page(
        "caps.html",
        bounds=service.in_force(),
        of_picks=of_picks,
        picks_bound=PICKS,
        line_of=lambda cap: line_of_bound(policy, cap.unit, cap.bound),
        lines={line.unit: line for line in policy.lines},
        pending=[cap for cap in listed if cap.state is CapState.PROPOSED],
        decided=[cap for cap in listed if cap.state is not CapState.PROPOSED],
        names=(CAP, *PURPOSES, *(() if of_picks is None else (PICKS,))),
    )


@router.post("/caps")
def propose(
    desk: DeskDep,
    unit: Annotated[PrivacyUnit, Form()],
    bound: Annotated[str, Form(max_length=40)],
    epsilon_max: Annotated[float, Form(allow_inf_nan=False)],
    reason: Annotated[str, Form(min_length=3, max_length=500)],
) -> Response:
    """Propose another bound; a lower one holds at once."""
    cap = desk.services.caps.propose(unit, bound, epsilon_max, reason=reason.strip(), holder=desk.visitor.holder)
    return desk.back("/caps", "cap-lowered" if cap.state is CapState.IN_FORCE else "cap-proposed")


@router.post("/caps/{change_id}")
def decide(desk: DeskDep, change_id: int, decision: Annotated[Literal["approve", "reject"], Form()]) -> Response:
    """Approve as the second officer, or reject."""
    if decision == "approve":
        desk.services.caps.approve(change_id, holder=desk.visitor.holder)
        return desk.back("/caps", "cap-approved")
    desk.services.caps.reject(change_id, holder=desk.visitor.holder)
    return desk.back("/caps", "cap-rejected")
