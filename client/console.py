"""What the device's command line prints. Owns tables and wording; computes nothing and opens nothing."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from client.behavior.importing import ImportReport
from client.behavior.summary import KindSummary
from client.budget import Ledger
from client.store.keys import DeviceId
from client.store.ledger_table import LedgerEntry
from common.errors import ReticentError
from common.wire.journal import JournalRow
from policies.consent import Permit, Refusal
from policies.schema import PurposeRule

_LISTED_MAX: Final = 20
_out: Final = Console(highlight=False, soft_wrap=True)
_err: Final = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line."""
    _out.print(escape(text))


def plain(text: str) -> None:
    """One line for programs: no wrapping, no markup."""
    _out.print(text, markup=False, soft_wrap=True)


def error(failure: ReticentError) -> None:
    """The error's name and text, on standard error."""
    _err.print(f"[bold red]{failure.name}[/]: {escape(str(failure))}")


@contextlib.contextmanager
def file_progress(path: Path) -> Iterator[Callable[[int], None]]:
    """A progress bar over the bytes of a file, on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True) as progress:
        task = progress.add_task(f"importing {path.name}", total=path.stat().st_size if path.exists() else None)
        yield lambda done: progress.update(task, completed=done)


def import_report(report: ImportReport) -> None:
    """What became of a file."""
    say(f"stored {report.stored}, duplicates {report.duplicates}, rejected {sum(report.reasons.values())}")
    if not report.rejected:
        return
    table = Table("line", "reason", "field", title="not stored")
    for row in sorted(report.rejected, key=lambda row: row.line)[:_LISTED_MAX]:
        table.add_row(str(row.line), row.reason.value, row.field)
    _out.print(table)
    if sum(report.reasons.values()) > _LISTED_MAX:
        say("in all: " + ", ".join(f"{count} × {reason.value}" for reason, count in report.reasons.most_common()))


def devices(counts: Mapping[DeviceId, int], directory: Path) -> None:
    """A node with many devices."""
    table = Table("device", "events", title=f"{len(counts)} devices in {directory}")
    for device, count in list(counts.items())[:_LISTED_MAX]:
        table.add_row(escape(device), str(count))
    _out.print(table)
    if len(counts) > _LISTED_MAX:
        say(f"… and {len(counts) - _LISTED_MAX} more; name one with --device")


def holdings(summaries: Sequence[KindSummary], directory: Path, device: DeviceId) -> None:
    """What one device holds."""
    if not summaries:
        say(f"nothing is held ({directory})")
        return
    table = Table("kind", "events", "first", "last", "apps", "kept for", "next deletion", title=escape(f"{device}"))
    for row in summaries:
        countdown = max(0, math.ceil(row.days_to_first_deletion))
        table.add_row(
            row.kind.value,
            str(row.count),
            _moment(row.first),
            _moment(row.last),
            escape(", ".join(row.apps)),
            f"{row.days_kept} days",
            f"in {countdown} days",
        )
    _out.print(table)
    say(f"encrypted in {directory}")


def consent(answers: Sequence[tuple[PurposeRule, Permit | Refusal]]) -> None:
    """Each purpose with its answer."""
    table = Table("purpose", "meaning", "state", "why, or until when", title="your consent, as this device sees it")
    for rule, answer in answers:
        if isinstance(answer, Permit):
            table.add_row(
                rule.id.value, rule.title["en"], "[green]permitted[/]", f"until {_moment(answer.valid_until)}"
            )
        else:
            table.add_row(rule.id.value, rule.title["en"], "[red]refused[/]", answer.reason.explanation)
    _out.print(table)


def ledger(book: Ledger, device: DeviceId) -> None:
    """One device's ledger: every charge, the statement, and what was refused."""
    entries = book.entries(device)
    if entries:
        _out.print(_entries(entries, device))
    say(f"This period:  {book.statement(device).sentence()}")
    say(f"Lifetime:     {book.statement(device, lifetime=True).sentence()}")
    say(f"Cap:          ε = {book.policy.epsilon_cap:g}; left: {book.remaining(device):.3g}")
    refused = book.refusals(device)
    if refused:
        table = Table("day", "purpose", "why", "ε would be", "cap", title="refused to release")
        for row in refused[-_LISTED_MAX:]:
            figures = (_epsilon(row.epsilon_would_be), f"{row.epsilon_cap:g}")
            table.add_row(_day(row.day), row.purpose.value, row.reason.explanation, *figures)
        _out.print(table)


def journal(rows: Sequence[JournalRow]) -> None:
    """What left, and what was held back."""
    if not rows:
        say("nothing has left this device")
        return
    table = Table("when", "device", "message", "purpose", "bytes", "ε", "outcome")
    for row in rows:
        cells = [
            _moment(row.time),
            row.device,
            row.kind,
            row.purpose or "-",
            str(row.size_bytes),
            _epsilon(row.epsilon),
        ]
        table.add_row(*map(escape, cells), escape(row.outcome))
    _out.print(table)


def ledger_overview(book: Ledger) -> None:
    """A node with many devices: one line each."""
    known = book.devices()
    table = Table("device", "releases", "ε this period", "left", "refused", title=f"{len(known)} devices")
    for device in known[:_LISTED_MAX]:
        figures = (_epsilon(book.epsilon(device)), f"{book.remaining(device):.3g}")
        table.add_row(escape(device), str(len(book.entries(device))), *figures, str(len(book.refusals(device))))
    _out.print(table)
    if len(known) > _LISTED_MAX:
        say(f"… and {len(known) - _LISTED_MAX} more; name one with --device")
    policy = book.policy
    say(
        f"ε at δ = {policy.delta:g}; unit: one {policy.unit.value}; relation: {policy.relation.value}; "
        f"trust: {policy.trust.value}; cap: {policy.epsilon_cap:g} in {policy.budget_period_days} days"
    )


def _entries(entries: Sequence[LedgerEntry], device: DeviceId) -> Table:
    table = Table(
        "day", "purpose", "mechanism", "ε", "ε so far", "δ", "state", title=escape(f"privacy ledger of {device}")
    )
    for row in entries:
        use = row.use
        mechanism = f"{use.count} × {use.mechanism.value} z={use.noise_multiplier:g} q={use.sampling_rate:g}"
        figures = (_epsilon(row.epsilon), _epsilon(row.epsilon_total), f"{row.delta:g}")
        table.add_row(_day(row.day), row.purpose.value, mechanism, *figures, row.state)
    return table


def _epsilon(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "∞ (no privacy)"


def _moment(time: float) -> str:
    return dt.datetime.fromtimestamp(time, dt.UTC).strftime("%Y-%m-%d %H:%M")


def _day(day: int) -> str:
    return dt.datetime.fromtimestamp(day * 86_400, dt.UTC).strftime("%Y-%m-%d")
