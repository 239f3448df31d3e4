"""What a verdict looks like in a terminal. Prints only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.policy.judge import Verdict
from cli.shows import console, show_table
from policies.evaluation.intervals import Estimate


def show_verdict(verdict: Verdict) -> None:
    """Two tables, or three, and every warning."""
    rows = [["logged", "on-policy", *_figures(verdict.logged), ""]]
    for one in verdict.policies:
        effective = f"{one.diagnostics.effective:,.0f}"
        rows += [[one.policy, e.estimator, *_figures(e), effective] for e in one.estimates]
        rows.append([one.policy, one.direct.estimator, f"{one.direct.value:.5f}", "none: see below", ""])
    title = f"Reward per turn, from {verdict.rows:,} turns of {verdict.decisions:,} decisions"
    show_table(title, ["policy", "estimator", "value", "95 % interval", "effective turns"], rows)
    if verdict.differences:
        first = verdict.policies[0].policy
        gaps = [[name, e.estimator, *_figures(e), _word(e)] for name, es in verdict.differences.items() for e in es]
        show_table(f"Difference to {first}", ["policy", "estimator", "difference", "95 % interval", ""], gaps)
    weights = [
        [
            one.policy,
            f"{one.diagnostics.weight_mean:.3f}",
            f"{one.diagnostics.weight_max:,.1f}",
            f"{one.diagnostics.weight_quantiles[2]:,.1f}",
            f"{one.diagnostics.top_share:.0%}",
            f"{one.diagnostics.tail_index:.1f}",
            f"{one.diagnostics.uncovered:.1%}",
        ]
        for one in verdict.policies
    ]
    columns = ["policy", "mean weight", "largest", "99 % quantile", "share of heaviest 1 %", "tail index", "uncovered"]
    show_table("Importance weights", columns, weights)
    if verdict.with_least_bid:
        console.print(
            f"{verdict.with_least_bid:,} turns were asked for with a least bid: policies are judged under it",
            soft_wrap=True,
            highlight=False,
        )
    if verdict.left_out:
        console.print(
            f"[bold yellow]left out[/]: {verdict.left_out:,} decisions with a least bid and without the bids of all "
            "their candidates; every figure is about the others",
            soft_wrap=True,
            highlight=False,
        )
    for one in verdict.policies:
        for warning in one.warnings:
            console.print(f"[bold yellow]{one.policy}[/]: {warning}", soft_wrap=True)


def show_report(report: Mapping[str, Any]) -> bool:
    """An experiment's report as the service told it; whether every split is sound."""
    sound = True
    for table in report["tables"]:
        rows = []
        for arm in table["arms"]:
            gap, rate = arm["difference"], arm["rate"]
            interval = "" if gap is None else f"{gap['value']:+.5f} ({gap['low']:+.5f} … {gap['high']:+.5f})"
            rows.append(
                [
                    arm["name"],
                    f"{arm['share']:.0%}",
                    _noisy(arm, "units"),
                    _noisy(arm, "views"),
                    _noisy(arm, "rewards"),
                    "" if rate is None else f"{rate:.5f}",
                    interval,
                    "" if gap is None else gap["verdict"],
                ]
            )
        state = "running" if report["running"] else "over"
        title = f"{report['experiment']['experiment_id']} ({state}), chosen by the {table['source']}"
        columns = ["arm", "share", f"{table['unit']}s", "views", report["reward"], "rate", "difference", ""]
        show_table(title, columns, rows)
        if table["split"]["broken"]:
            sound = False
            console.print(
                "[bold red]the split is broken[/]: these arms are not what they should be; believe nothing here"
            )
    console.print(f"95 % intervals hold for {report['holds']}", soft_wrap=True, highlight=False)
    return sound


def _noisy(arm: Mapping[str, Any], name: str) -> str:
    noise = arm[f"{name}_noise"]
    return f"{arm[name]:,.0f}" + (f" ± {noise:,.0f}" if noise else "")


def _figures(estimate: Estimate) -> list[str]:
    return [f"{estimate.value:.5f}", f"{estimate.low:.5f} … {estimate.high:.5f}"]


def _word(estimate: Estimate) -> str:
    if estimate.low > 0:
        return "better"
    return "worse" if estimate.high < 0 else "no difference shown"
