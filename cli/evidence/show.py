"""What a verification has found, on the terminal and as JSON. Owns words; judges nothing."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.evidence.verify import Report

console = Console()


def show_report(report: Report) -> None:
    """The report in words: integrity and completeness apart."""
    newest = _moment(report.signed_at)
    console.print(
        f"Log [bold]{escape(report.origin or '(unsigned)')}[/]: {report.entries:,} entries, {report.covered:,} of them "
        f"under a checkpoint signed {newest}; {report.keys} trusted keys; {report.kept} checkpoints from elsewhere",
        soft_wrap=True,
    )
    table = Table("", "good", box=None, header_style="dim")
    for name, count in report.counts.items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    receipts = report.counts.get("receipts", 0)
    if receipts:
        console.print(_signatures(report.signatures, receipts), style="dim", soft_wrap=True)
    if report.genuine:
        console.print("[bold green]INTEGRITY[/]     everything that is here is what was signed")
    else:
        console.print("[bold red]INTEGRITY[/]     not what was signed:")
        for finding in report.findings:
            console.print(f"  {escape(finding.sentence())}", soft_wrap=True)
    if not report.gaps:
        console.print("[bold green]COMPLETENESS[/]  nothing is missing")
    else:
        colour = "green" if report.complete else "red"
        console.print(
            f"[bold {colour}]COMPLETENESS[/]  {'as it may be' if report.complete else 'not everything is here'}:"
        )
        for gap in report.gaps:
            console.print(f"  {escape(gap.sentence())}", soft_wrap=True)
    if not report.kept:
        console.print(
            "A history rewritten by whoever holds the key shows only against a checkpoint kept elsewhere: --checkpoint",
            style="dim",
            soft_wrap=True,
        )
    console.print(f"{report.seconds:.2f} s", style="dim")


def _signatures(checked: int, receipts: int) -> str:
    if checked == receipts:
        return f"Signatures of receipts: all {receipts:,} verified"
    return (
        f"Signatures of receipts: {checked:,} of {receipts:,} verified, drawn at random; all {receipts:,} are those "
        "whose digests the signed log holds. Every signature: --all-signatures"
    )


def report_json(report: Report) -> str:
    """The report for programs."""
    return json.dumps(asdict(report) | {"genuine": report.genuine, "complete": report.complete}, indent=1)


def _moment(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else "never"
