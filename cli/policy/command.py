"""``reticent policy evaluate | compare | lint``. Owns words and options only; ``cli.policy.changing`` has the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.policy import changing
from common.errors import InputError, ReticentError

policy_app = typer.Typer(
    no_args_is_help=True,
    help="Judge placement policies on logs and in experiments; promote one with another person's approval.",
)

Log = Annotated[Path, typer.Argument(help="Decision log: .jsonl or .parquet (docs/policy-evaluation.md).")]
Plot = Annotated[Path | None, typer.Option(help="Picture to write: .svg, .png or .pdf.")]
Json = Annotated[Path | None, typer.Option("--json", help="All figures as JSON.")]
_POLICY = "A policy: a YAML file, a ready one (ecommerce, finance, search, social), uniform, logged, or target:NAME."


@policy_app.command("evaluate")
def evaluate(
    log: Log,
    policy: Annotated[list[str], typer.Option("--policy", "-p", help=f"{_POLICY} Repeat for several.")],
    plot: Plot = None,
    json_: Json = None,
) -> None:
    """What policies would have earned on a log: IPS, SNIPS, calibrated DM and DR with intervals; DM as a point."""
    _judged(log, policy, plot, json_, compare=False)


@policy_app.command("compare")
def compare(
    log: Log,
    base: Annotated[str, typer.Argument(help=_POLICY)],
    others: Annotated[list[str], typer.Argument(help="What is compared with it.")],
    plot: Plot = None,
    json_: Json = None,
) -> None:
    """Policies against one of them, paired turn by turn on the same log."""
    _judged(log, [base, *others], plot, json_, compare=True)


@policy_app.command("lint")
def lint(
    documents: Annotated[list[Path], typer.Argument(help="Placement policies to check.")],
) -> None:
    """Check placement policies as they are checked when a service or a device loads them."""
    from policies.loader import load_placement

    failed = False
    for path in documents:
        try:
            policy, digest = load_placement(path)
            typer.echo(f"{path.name}: {policy.name} version {policy.version}, {policy.strategy.kind}, {digest[:16]}…")
        except ReticentError as error:
            failed = True
            _complain(error)
    if failed:
        raise typer.Exit(1)


def _judged(log: Path, names: Sequence[str], plot: Path | None, json_: Path | None, *, compare: bool) -> None:
    from cli.policy.judge import judge
    from cli.policy.plot import save_plot
    from cli.policy.read import read_log, target_of
    from cli.policy.show import show_verdict

    try:
        targets = [target_of(name) for name in names]
        if len({name for name, _ in targets}) != len(targets):
            raise InputError("a policy is named twice")
        verdict = judge(read_log(log), targets)
        if not compare:
            verdict.differences.clear()
        show_verdict(verdict)
        if json_ is not None:
            json_.write_text(json.dumps(verdict.as_json(), indent=1, allow_nan=True) + "\n", encoding="utf-8")
        if plot is not None:
            save_plot(verdict, plot)
    except ReticentError as error:
        _complain(error)
        raise typer.Exit(1) from None


def _complain(error: ReticentError) -> None:
    Console(stderr=True).print(f"[bold red]{error.name}[/]: {error}", soft_wrap=True)


changing.register(policy_app)
