"""What a verdict looks like in a terminal. Prints only."""

from __future__ import annotations

from cli.policy.judge import Verdict
from cli.shows import console, show_table
from policies.evaluation.intervals import Estimate


def show_verdict(verdict: Verdict) -> None:
    """Two tables, or three, and every warning."""
    rows = [["logged", "on-policy", *_figures(verdict.logged), ""]]
    for one in verdict.policies:
        effective = f"{one.diagnostics.effective:,.0f}"
        rows += [[one.policy, e.estimator, *_figures(e), effective] for e in one.estimates]
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
    for one in verdict.policies:
        for warning in one.diagnostics.warnings:
            console.print(f"[bold yellow]{one.policy}[/]: {warning}", soft_wrap=True)


def _figures(estimate: Estimate) -> list[str]:
    return [f"{estimate.value:.5f}", f"{estimate.low:.5f} … {estimate.high:.5f}"]


def _word(estimate: Estimate) -> str:
    if estimate.low > 0:
        return "better"
    return "worse" if estimate.high < 0 else "no difference shown"
