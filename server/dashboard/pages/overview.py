"""The overview: what needs a person today, and how things stand."""

from __future__ import annotations

from fastapi import APIRouter, Response

from common.taxonomy import CapState, ChangeState, LogKind, ReviewState, Role
from server.dashboard.desk import DeskDep
from server.dashboard.pages.budgets import line_view
from server.dashboard.pages.consent import consent_chart, seen_states, titles
from server.dashboard.queue import waiting
from server.reports.budget_figures import line_figures
from server.reports.figures import consent_totals

router = APIRouter()
_ACTIVITY = 10
_QUIET = frozenset({LogKind.PRIVILEGED_READ, LogKind.CONSENT, LogKind.CHARGE})


@router.get("/")
def overview(desk: DeskDep) -> Response:
    """Everything at a glance; for an admin nothing about subjects."""
    services, admin = desk.services, desk.visitor.role is Role.ADMIN
    events = services.log.events(limit=200, newest_first=True)
    figures = line_figures(services.ledger, services.caps.in_force())
    lines = [view for view in figures if view.devices or view.curve]
    totals = consent_totals(services.consent.rates())
    return desk.page(
        "overview.html",
        admin=admin,
        waiting=None if admin else waiting(services, desk.now),
        pending_caps=sum(cap.state is CapState.PROPOSED for cap in services.caps.list(limit=100)),
        to_review=sum(number for (_, at), number in services.plans.counts().items() if at is ReviewState.SUBMITTED),
        pending_changes=sum(one.state is ChangeState.PROPOSED for one in services.proposals.list(limit=100)),
        stopped=services.controls.stopped(),
        lines=[line_view(desk.say, line) for line in (lines or figures[:1])],
        totals=totals,
        consent_chart=consent_chart(desk.say, totals, titles(desk)),
        seen=seen_states(totals),
        log_size=services.log.size(),
        checkpoint=next(iter(services.log.checkpoints(newest_first=True, limit=1)), None),
        model=services.registry.current_version(),
        events=[entry for entry in events if entry.leaf.kind not in _QUIET][:_ACTIVITY],
    )
