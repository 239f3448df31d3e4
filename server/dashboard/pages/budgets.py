"""Privacy budgets: per line, training, purpose, epoch and device pseudonym, with what an audit could show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response
from markupsafe import Markup

from policies.schema import BudgetLine
from server.dashboard import charts
from server.dashboard.charts import Mark, Span
from server.dashboard.desk import Desk, DeskDep
from server.dashboard.pages.consent import titles
from server.ledger.report import ROUNDS_MAX, Projection
from server.reports.budget_figures import LineFigures, line_figures, model_figures
from server.reports.figures import AuditedLine, DeviceBudget, audited_lines, device_budget, identity_budget
from server.words import Words

router = APIRouter()


@dataclass(frozen=True, slots=True)
class LineView:
    """One line with its pictures."""

    figures: LineFigures
    meter: Markup
    curve: Markup
    histogram: Markup


@router.get("/budgets")
def budgets(
    desk: DeskDep,
    device: Annotated[str, Query(max_length=64)] = "",
    rounds: Annotated[int, Query(ge=1, le=ROUNDS_MAX)] = 10,
) -> Response:
    """What was spent, what is left, what was claimed, and what an attack could show of it."""
    ledger = desk.services.ledger
    audited = audited_lines(desk.services)
    return desk.page(
        "budgets.html",
        lines=[
            line_view(desk.say, figures, half=True) for figures in line_figures(ledger, desk.services.caps.in_force())
        ],
        models=model_figures(ledger),
        projections=_projections(desk, rounds),
        rounds=rounds,
        titles=titles(desk),
        audited=audited,
        audited_chart=_audited_chart(desk.say, audited),
        period_days=ledger.policy.budget_period_days,
        period=ledger.period,
        device=device,
        found=_device(desk, device.strip()) if device.strip() else None,
    )


def line_view(say: Words, figures: LineFigures, *, half: bool = False) -> LineView:
    """A line's figures as pictures, each with its description in words."""
    line, name = figures.line, say("one " + figures.line.unit.value)
    relative = say("ε at δ = {delta}, for {unit}", delta=f"{line.delta:g}", unit=name)
    cap, declared = Mark(say("cap"), figures.cap), Mark(say("declared"), line.epsilon_declared, "claim")
    return LineView(
        figures=figures,
        meter=charts.meter(
            say("Spent of the cap"),
            say(
                "{relative}: the device that has spent the most is at {spent} of {cap}.",
                relative=relative,
                spent=charts.number(figures.claim.epsilon),
                cap=charts.number(figures.cap),
            ),
            value=figures.claim.epsilon,
            most=figures.cap,
            marks=[declared, cap],
        ),
        curve=charts.steps(
            say("After each charge"),
            _curve_words(say, figures, relative),
            figures.curve,
            marks=[cap, declared],
            projected=figures.projected,
            horizontal=say("charges; dashed: the last one repeated"),
            width=charts.HALF if half else charts.WIDTH,
        ),
        histogram=charts.columns(
            say("Devices by what they have spent"),
            say("{relative}; {devices} devices, half of them at or below {median}.").format(
                relative=relative, devices=figures.devices, median=charts.number(figures.median)
            ),
            [(f"≤ {charts.number(round(limit, 2))}", count) for limit, count in figures.histogram],
            horizontal=relative,
            width=charts.HALF,
            height=178 - 16,
        ),
    )


def _curve_words(say: Words, figures: LineFigures, relative: str) -> str:
    if figures.rounds_left is None:
        return say("{relative}: how a device that took part in every charge came to what it has spent.").format(
            relative=relative
        )
    return say(
        "{relative}: a device that took part in every charge is at {spent}; {left} more like the last one fit.",
        relative=relative,
        spent=charts.number(figures.curve[-1]),
        left=figures.rounds_left,
    )


def _audited_chart(say: Words, audited: Sequence[AuditedLine]) -> Markup | None:
    if not audited:
        return None
    rows = [
        Span(f"{say(line.unit.value)}, δ = {line.delta:g}", line.epsilon_audited, line.epsilon_composed)
        for line in audited
    ]
    return charts.spans(
        say("Claimed and audited"),
        say("For each line the claimed ε, an upper bound, and the lower bound that the strongest attack showed."),
        rows,
        low=say("audited ≥"),
        high=say("claimed ≤"),
    )


def _projections(desk: Desk, rounds: int) -> list[tuple[BudgetLine, Projection]]:
    """What so many more training rounds would cost the device that has spent most, line by line."""
    lines = {line.unit: line for line in desk.services.ledger.policy.lines}
    return [(lines[found.unit], found) for found in desk.services.budgets.projection(rounds)]


def _device(desk: Desk, name: str) -> DeviceBudget | None:
    """By pseudonym; for officers by handle too, which joins the two: that stands in the log under the person."""
    identity = desk.services.signed.identity(name) if desk.visitor.officer else None
    desk.note_read("budget of one device", subject=None if identity is None else name)
    return device_budget(desk.services, name) if identity is None else identity_budget(desk.services, identity)
