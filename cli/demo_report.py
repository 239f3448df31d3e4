"""What the demonstration shows at its end: rows for the terminal and the HTML page. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.people import Visits, Withdrawal
from cli.report import (
    Curve,
    Figure,
    Report,
    Table,
    bars,
    epsilon_curve,
    learning_curves,
    reliability,
    write_report,
    write_tensorboard,
)
from cli.shows import QUALITY_COLUMNS, QUALITY_NOTE, quality_rows, statements
from cli.training import Trained
from client.population.build import Population
from policies.loader import load

LIMITS = (
    "Purchases, not clicks: a 'click' here means that the household bought the product within 14 days.",
    "Exposures are inferred from store-week promotions and negatives are sampled: the rate is not a real ad's CTR.",
    (
        "The served model's ε protects one device with everything on it; the record-level reference's one "
        "record (one exposure with its outcome), not a person with all their records. They are never added up."
    ),
    "This demonstration is its own enrolment authority: that devices exist is its word alone.",
    "The catalogue and its order come from weeks 1-10 of the same data and count as public here (docs/adr/0008).",
    (
        "What is said about the quality of the private models came back as paid, noisy releases; the intervals hold "
        "the noise, and the AUC's also the draw of examples."
    ),
    (
        "The non-private training, its exact figures and the value of a placement policy are references that only "
        "a simulation has; that model is never served."
    ),
    "One run with one seed; intervals over seeds come from bench/.",
)


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that happened."""

    population: Population
    rounds: int
    attitudes: Mapping[str, int]
    trained: Sequence[Trained]
    visits: Visits
    withdrawal: Withdrawal | None
    values: Mapping[str, float]


def decision_rows(story: Story) -> list[list[str]]:
    """Placements by mode and reason."""
    return [[mode, reason, str(count)] for (mode, reason), count in story.visits.decisions.most_common()]


def follow_up_rows(story: Story) -> list[list[str]]:
    """Impressions and what followed, by mode."""
    visits = story.visits
    return [
        [mode, str(shown), str(visits.clicked[mode]), str(visits.converted[mode])]
        for mode, shown in visits.shown.most_common()
    ]


def withdrawal_rows(story: Story) -> list[list[str]]:
    """What one withdrawal changed."""
    withdrawal = story.withdrawal
    if withdrawal is None:
        return [["nobody had agreed to personalised ads", ""]]
    return [
        ["decision before", withdrawal.before],
        ["decision after", f"{withdrawal.after} ({withdrawal.reason})"],
        ["device refuses a permit issued before", "yes" if withdrawal.device_refuses_old_permit else "NO"],
        ["from the tap to the contextual answer", f"{withdrawal.seconds * 1000:.0f} ms"],
    ]


def write_story(story: Story, out: Path) -> Path:
    """TensorBoard logs and the HTML page; returns the page."""
    curves = [trained.curve for trained in story.trained]
    write_tensorboard(curves, out / "tensorboard")
    devices = story.population.training_devices
    households = devices + story.population.unseen_devices
    counts = {f"{mode}: {reason}": float(n) for (mode, reason), n in story.visits.decisions.most_common()}
    report = Report(
        title="Reticent: from raw behaviour to a consented placement",
        summary=(
            f"{households} households, {devices} of them invited to train, {story.population.events:,} events in "
            f"encrypted vaults, {story.rounds} federated rounds per training."
        ),
        statements=[f"{name}: {line.sentence()}" for name, line in statements(story.trained)],
        tables=_tables(story),
        figures=[
            learning_curves(curves, {t.plan.name: t.paid for t in story.trained if t.paid}),
            *_budget_figures(curves),
            reliability({f"{t.plan.name}, {view}": q for t in story.trained for view, q in (t.seen or {}).items()}),
            bars("Decisions by mode and reason", counts, unit="placements"),
            bars("Value of the top slot", {k: 100 * v for k, v in story.values.items()}, unit="% bought"),
        ],
        limits=LIMITS,
    )
    return write_report(report, out / "report.html")


def _budget_figures(curves: Sequence[Curve]) -> list[Figure]:
    """One figure per line of the budget that a training was charged on."""
    figures = []
    for line in load().policies.privacy_budget.lines:
        spent = [c for c in curves if c.unit == line.unit.value and c.epsilon and c.epsilon[-1] != float("inf")]
        if spent:
            found = epsilon_curve(spent, unit=line.unit.value, declared=line.epsilon_declared, cap=line.epsilon_cap)
            figures.append(found)
    return figures


def _tables(story: Story) -> list[Table]:
    return [
        Table("Model quality", QUALITY_COLUMNS, quality_rows(story.trained), QUALITY_NOTE),
        Table(
            "What people decided",
            ("people", "devices"),
            [[name, str(count)] for name, count in sorted(story.attitudes.items())],
            "Simulated owners; every decision went through the real service and came back as a signed receipt.",
        ),
        Table("Decisions", ("mode", "reason", "placements"), decision_rows(story)),
        Table("What followed", ("mode", "impressions", "clicks", "conversions"), follow_up_rows(story)),
        Table("One withdrawal", ("what", "result"), withdrawal_rows(story)),
        Table(
            "Value of a placement policy",
            ("policy", "top slots whose product was bought"),
            [[name, f"{value:.2%}"] for name, value in story.values.items()],
            "Exact: the first of 10 candidates of every held-out slate; all outcomes are known.",
        ),
    ]
