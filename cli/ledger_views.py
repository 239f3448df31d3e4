"""What ``reticent ledger`` prints, as tables and as JSON. Owns wording and layout; the accountant computes every ε."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.ledger_plan import LineForecast, Plan, Spent
from client.store.ledger_check import Verdict
from common.privacy import accountant
from policies import budget
from policies.schema import BudgetLine, PrivacyBudgetPolicy

if TYPE_CHECKING:
    from server.ledger.check import ServerVerdict
    from server.ledger.repository import StoredCharge

_BAR = 40
_LISTED_MAX = 20
_out = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class BoundView:
    """One cap or quota and how it stands, for the device that has spent the most."""

    bound: str
    epsilon_max: float
    spent: float
    remaining: float
    median: float


@dataclass(frozen=True, slots=True)
class LineView:
    """One line: what its ε is relative to, and its bounds."""

    unit: str
    relation: str
    trust: str
    delta: float
    devices: int
    bounds: tuple[BoundView, ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One ε that two accountants see differently."""

    what: str
    ledger: float
    recomputed: float


def line_views(policy: PrivacyBudgetPolicy, spends: Sequence[tuple[Spent, int]], *, lost: bool) -> list[LineView]:
    """Every line of the document over groups of devices with equal spend. ``lost``: what was spent is not known."""
    return [
        LineView(
            unit=line.unit.value,
            relation=line.relation.value,
            trust=line.trust.value,
            delta=line.delta,
            devices=sum(count for _, count in spends),
            bounds=tuple(_bounds(line, spends, lost=lost)),
        )
        for line in policy.lines
    ]


def _bounds(line: BudgetLine, spends: Sequence[tuple[Spent, int]], *, lost: bool) -> list[BoundView]:
    found = []
    for purpose, most in [(None, line.epsilon_cap), *line.quotas.items()]:
        values = sorted(
            (
                accountant.epsilon(budget.uses_on(line, [p for p in spent if purpose in {None, p[0]}]), line.delta),
                count,
            )
            for spent, count in spends
        )
        worst = max((value for value, _ in values), default=0.0)
        worst = max(worst, most) if lost else worst
        name = "cap" if purpose is None else purpose.value
        found.append(BoundView(name, most, worst, max(0.0, most - worst), _median(values)))
    return found


def _median(values: Sequence[tuple[float, int]]) -> float:
    half, seen = sum(count for _, count in values) / 2, 0
    for value, count in values:
        seen += count
        if seen >= half:
            return value
    return 0.0


def as_json(document: object) -> None:
    """One JSON document; ∞ as a word, because JSON has no number for it."""
    _out.print(json.dumps(_plain(document), indent=1, ensure_ascii=False), markup=False, soft_wrap=True)


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def lines(views: Sequence[LineView]) -> None:
    """How each line stands."""
    table = Table("line", "bound", "at most", "spent", "left", "median", "", title="privacy budget of this period")
    for view in views:
        for row in view.bounds:
            figures = (_number(row.epsilon_max), _number(row.spent), _number(row.remaining), _number(row.median))
            table.add_row(f"per {view.unit}", row.bound, *figures, _bar(row.spent, row.epsilon_max, 12))
    _out.print(table)
    for view in views:
        _out.print(
            f"per {view.unit}: ε at δ = {view.delta:g}; relation: {view.relation}; trust: {view.trust}; "
            f"{view.devices} devices; spent and left are of the device that has spent the most"
        )


def charges(rows: Sequence[StoredCharge]) -> None:
    """The newest charges of the server's ledger."""
    table = Table("training", "session", "devices", "unnamed", "barred", "ε alone", title=f"{len(rows)} charges")
    for row in rows[-_LISTED_MAX:]:
        alone = ", ".join(f"{release.epsilon:.3f}" for release in row.releases)
        counts = (str(row.devices), str(row.unnamed), str(row.barred))
        table.add_row(row.run_id, row.cause[:16], *counts, alone)
    _out.print(table)


def forecast(plan: Plan, found: Sequence[LineForecast]) -> None:
    """What a plan costs, line by line, with bars of how ε grows."""
    for line in found:
        head = f"{plan.rounds} rounds, one {line.line.unit.value} at δ = {line.line.delta:g}"
        table = Table(
            "bound", "at most", "spent", "after the rounds", "after everything", "rounds that fit", title=head
        )
        for row in line.bounds:
            fits = "any number" if row.rounds_possible is None else str(row.rounds_possible)
            figures = (row.epsilon_max, row.epsilon_now, row.epsilon_of_rounds, row.epsilon_of_plan)
            table.add_row(row.bound, *map(_number, figures), fits)
        _out.print(table)
        cap = line.line.epsilon_cap
        for rounds, value in line.curve:
            _out.print(f"{rounds:>7} rounds  {_bar(value, cap, _BAR)}  ε = {_number(value)}")
        _out.print(f"{'':>7}         {'':{_BAR}} │ cap ε = {cap:g}")
        for row in line.bounds:
            if row.epsilon_of_plan > row.epsilon_max:
                _out.print(f"[red]refused[/]: the plan passes the {row.bound} of {row.epsilon_max:g}")
        if (many := line.too_many) is not None:
            _out.print(
                f"[red]refused[/]: {many.would_be} releases of {many.kind.value} by one device in one budget period; "
                f"the document's {many.field} is {many.most}"
            )


def forecast_json(plan: Plan, found: Sequence[LineForecast]) -> dict[str, object]:
    """The same as a document."""
    return {
        "rounds": plan.rounds,
        "tasks": {task.value: count for task, count in plan.tasks.items()},
        "lines": [
            {
                "unit": line.line.unit.value,
                "relation": line.line.relation.value,
                "trust": line.line.trust.value,
                "delta": line.line.delta,
                "bounds": [asdict(row) for row in line.bounds],
                "too_many": None if line.too_many is None else asdict(line.too_many),
                "curve": [{"rounds": rounds, "epsilon": value} for rounds, value in line.curve],
                "allowed": line.too_many is None and all(row.epsilon_of_plan <= row.epsilon_max for row in line.bounds),
            }
            for line in found
        ],
    }


def verdict(found: Verdict | ServerVerdict) -> None:
    """What a check has found."""
    for problem in found.problems:
        _out.print(f"[bold red]wrong[/]: {escape(problem)}")
    links = f"{found.links} links, " if isinstance(found, Verdict) else ""
    counts = f"{links}{found.charges} charges, {found.entries} entries of {found.devices} devices"
    _out.print(f"{counts}: {'tell one story' if not found.problems else 'do not tell one story'}")


def recomputed(checked: int, worst: float, wrong: Sequence[Disagreement]) -> None:
    """What a second accountant says."""
    for row in wrong:
        _out.print(f"[bold red]disagree[/]: {row.what}: ledger {row.ledger:.6g}, recomputed {row.recomputed:.6g}")
    _out.print(f"{checked} figures recomputed by an independent accountant; largest difference {worst:.3%}")


def say(text: str) -> None:
    """One line."""
    _out.print(text, markup=False)


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "∞"


def _bar(value: float, most: float, width: int) -> str:
    filled = min(width, round(width * min(value / most, 1.0))) if most > 0 else width
    return "█" * filled + "·" * (width - filled)
