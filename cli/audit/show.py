"""What an audit looks like in a terminal. Prints only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.audit.results import Audit, Finding, LineAudit, Trial

TITLES = {
    Trial.CURVE: "f-DP curve",
    Trial.DEVIATION: "update deviation",
    Trial.VARIANCE: "noise variance",
    Trial.CLIP: "outsized canary",
    Trial.ACCOUNTING: "accounting",
    Trial.CLAIMS: "claims",
    Trial.GENERATOR: "generator",
    Trial.LEDGER: "ledger",
}
COLUMNS = ("ε of one", "claimed", "composed", "audited ≥", "if Gauss ≥", "cap", "remaining")

console = Console()


@contextmanager
def audit_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each kind of run: callback (what, units just done, units in all)."""
    with Progress(
        TextColumn("{task.description:<46}"), BarColumn(bar_width=20), TimeElapsedColumn(), console=Console(stderr=True)
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def seen(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.advance(tasks[what], done)

        yield seen


def show_audit(audit: Audit) -> None:
    """The three ε side by side, every test, and the verdict."""
    console.print(_claims(audit))
    for line in audit.lines:
        console.print(
            f"{line.name}: δ = {line.delta:g}, {line.rounds} rounds: {line.composition}; {line.relation.value}; "
            f"trust {line.trust.value}; audited at {1 - line.audit_error:.0%} confidence",
            highlight=False,
        )
    for line in audit.lines:
        console.print(_tests(line))
        console.print(f"[dim]What they would have caught ({line.name}):[/]")
        for text in _power(line):
            console.print(text, highlight=False)
    for limit in audit.limits:
        console.print(f"· {limit}", style="dim")
    verdict = "[bold green]nothing falsifies the claims[/]" if audit.passed else "[bold red]A CLAIM IS FALSE[/]"
    console.print(
        f"{verdict}: {len(audit.findings)} tests in {audit.seconds:.0f} s; a right build fails one of them with "
        f"probability at most {audit.error_probability:.3f}; noise from: {audit.randomness}"
    )


def _claims(audit: Audit) -> Table:
    table = Table(
        title=f"Claimed, audited, remaining (profile {audit.profile.value})", box=box.SIMPLE, title_justify="left"
    )
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == COLUMNS[0] else "right")
    for line in audit.lines:
        table.add_row(
            line.name,
            number(line.epsilon_declared),
            number(line.epsilon_composed),
            number(line.epsilon_audited),
            number(line.epsilon_audited_gaussian),
            number(line.budget.epsilon_cap),
            _remaining(line),
        )
    return table


def _remaining(line: LineAudit) -> str:
    left = line.budget.epsilon_remaining
    return "no ledger" if left is None else f"{number(left)} (of {line.budget.devices})"


def _tests(line: LineAudit) -> Table:
    table = Table(title=f"Tests of the line {line.name}", box=box.SIMPLE, title_justify="left")
    for column in ("test", "of", "verdict", "found", "must be"):
        table.add_column(column, overflow="fold")
    for finding in line.findings:
        found = f"{finding.statistic:.4g}"
        table.add_row(TITLES[finding.kind], finding.part, verdict(finding), found, finding.bound)
    return table


def _power(line: LineAudit) -> Iterator[str]:
    """What each test would have caught, its error probability, and what one that failed saw."""
    for finding in line.findings:
        seen = f" [bold]{finding.note}[/]" if finding.note and not finding.passed else ""
        error = f", wrong with probability ≤ {finding.error_probability:g}" if finding.error_probability else ""
        yield f"[dim]· {TITLES[finding.kind]}, {finding.part}: {finding.power}{error}[/]{seen}"


def verdict(finding: Finding) -> str:
    """Coloured word."""
    return "[green]passed[/]" if finding.passed else "[bold red]FALSE[/]"


def number(value: float) -> str:
    """Three digits, or the sign for no privacy at all."""
    return "∞" if math.isinf(value) else f"{value:.3g}"
