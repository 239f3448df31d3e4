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
from client.requests import AskedRequest
from client.store.keys import DeviceId
from client.store.ledger_table import LedgerEntry
from client.store.placed import PlacedAd
from common.errors import ReticentError
from common.wire.journal import JournalRow
from common.wire.pick import CandidateList
from policies.consent import Permit, Refusal
from policies.placement.protocol import Decision
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


def requests(asked: Sequence[AskedRequest]) -> None:
    """What was asked of the service."""
    if not asked:
        say("you have asked the service for nothing")
        return
    table = Table("id", "request", "received", "status", "due, or done", title="your requests")
    for one in asked:
        end = f"done {_moment(one.completed_at)}" if one.completed_at else f"{_moment(one.due_at)} ({one.law})"
        table.add_row(one.request_id, one.request.value, _moment(one.received_at), one.status.value, escape(end))
    _out.print(table)
    for one in asked:
        if one.explanation:
            say(one.explanation)


def placed(ads: Sequence[PlacedAd]) -> None:
    """The ads that this device chose."""
    if not ads:
        say("no ad has been chosen on this device")
        return
    table = Table(
        "when", "decision", "ad", "paid by", "score", "from the page alone", title="ads chosen on this device"
    )
    for ad in ads[:_LISTED_MAX]:
        title = ad.title.get("en") or ad.creative_id
        cells = (_moment(ad.time), ad.decision_id or "-", title, ad.payer, f"{ad.score:.4f}", f"{ad.contextual:.4f}")
        table.add_row(*map(escape, cells))
    _out.print(table)
    say("for one of them: reticent device why DECISION; to check it: reticent device replay DECISION")


def replayed(decision_id: str, made: Decision) -> None:
    """A decision that was made once more, to the same answer."""
    table = Table("slot", "shown", "score", "propensity", "could be shown", title=escape(decision_id))
    for turn in made.turns:
        one = turn.placement
        score = "-" if one.score is None else f"{one.score:.6g}"
        shown = one.creative_id or one.reason.value
        table.add_row(
            escape(f"{one.slot_id}/{one.position}"),
            escape(shown),
            score,
            f"{one.propensity:.6g}",
            str(len(turn.choices)),
        )
    _out.print(table)
    dropped = ", ".join(f"{step.value} {count}" for step, count in made.dropped.items())
    say(f"left out: {dropped}")
    say("the same answer, from the signed catalogue and policy document that were in force")


def candidates(listed: CandidateList, kept: int | None) -> None:
    """The public list of a slot group and epoch; the place that is remembered is marked."""
    title = f"{listed.slot_group}, epoch {listed.epoch}, until {_moment(listed.ends_at)} UTC; the same for everybody"
    table = Table("place", "ad", "advertiser", "category", "", title=escape(title))
    for place, creative in enumerate(listed.candidates):
        cells = (creative.title.get("en") or creative.creative_id, creative.advertiser, creative.category)
        table.add_row(str(place), *map(escape, cells), "remembered" if place == kept else "")
    _out.print(table)


def ledger(book: Ledger, device: DeviceId) -> None:
    """One device's ledger: every charge, the statements of each line, and what was refused."""
    entries = book.entries(device)
    if entries:
        _out.print(_entries(entries, device))
    for line in book.policy.lines:
        say(f"Per {line.unit.value}, this period:  {book.statement(device, line).sentence()}")
        say(f"Per {line.unit.value}, lifetime:     {book.statement(device, line, lifetime=True).sentence()}")
        quotas = "".join(f"; quota of {purpose.value}: {most:g}" for purpose, most in line.quotas.items())
        left = f"left: {book.remaining(device, line):.3g}{quotas}"
        say(f"Per {line.unit.value}, cap:          ε = {line.epsilon_cap:g}; {left}")
    if book.exhausted:
        say("This period was accepted as spent after the ledger was lost or put back: nothing more is released in it.")
    refused = book.refusals(device)
    if refused:
        table = Table("day", "purpose", "why", "unit", "bound", "ε would be", "at most", title="refused to release")
        for row in refused[-_LISTED_MAX:]:
            figures = (_epsilon(row.epsilon_would_be), f"{row.epsilon_max:g}")
            what = (row.purpose.value, row.reason.explanation, row.unit.value, row.bound)
            table.add_row(_day(row.day), *what, *figures)
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
    known, lines = book.devices(), book.policy.lines
    heads = [head for line in lines for head in (f"ε per {line.unit.value}", "left")]
    table = Table("device", "releases", *heads, "refused", title=f"{len(known)} devices")
    for device in known[:_LISTED_MAX]:
        figures = [
            text
            for line in lines
            for text in (_epsilon(book.epsilon(device, line)), f"{book.remaining(device, line):.3g}")
        ]
        table.add_row(escape(device), str(len(book.entries(device))), *figures, str(len(book.refusals(device))))
    _out.print(table)
    if len(known) > _LISTED_MAX:
        say(f"… and {len(known) - _LISTED_MAX} more; name one with --device")
    for line in lines:
        say(
            f"ε at δ = {line.delta:g}; unit: one {line.unit.value}; relation: {line.relation.value}; "
            f"trust: {line.trust.value}; cap: {line.epsilon_cap:g} in {book.policy.budget_period_days} days"
        )


def _entries(entries: Sequence[LedgerEntry], device: DeviceId) -> Table:
    heads = ("day", "what", "purpose", "mechanism", "unit", "ε", "ρ", "δ", "state")
    table = Table(*heads, title=escape(f"privacy ledger of {device}"))
    for row in entries:
        use = row.use
        mechanism = (
            f"{use.count * row.times} × {use.mechanism.value} z={use.noise_multiplier:g} q={use.sampling_rate:g}"
        )
        figures = (_epsilon(row.epsilon), "-" if row.rho is None else f"{row.rho:.3g}", f"{row.delta:g}")
        table.add_row(_day(row.day), row.kind.value, row.purpose.value, mechanism, use.unit.value, *figures, row.state)
    return table


def _epsilon(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "∞ (no privacy)"


def _moment(time: float) -> str:
    return dt.datetime.fromtimestamp(time, dt.UTC).strftime("%Y-%m-%d %H:%M")


def _day(day: int) -> str:
    return dt.datetime.fromtimestamp(day * 86_400, dt.UTC).strftime("%Y-%m-%d")
