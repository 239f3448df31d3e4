"""What the demonstration shows at its end: rows for the terminal and the HTML page. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.people import Visits, Withdrawal
from cli.report import Report, Table, bars, epsilon_curve, learning_curves, reliability, write_report, write_tensorboard
from cli.shows import QUALITY_COLUMNS, QUALITY_NOTE, quality_rows
from cli.training import Trained
from client.population.build import Population
from policies.loader import load

LIMITS = (
    "Purchases, not clicks: a 'click' here means that the household bought the product within 14 days.",
    "Exposures are inferred from store-week promotions and negatives are sampled: the rate is not a real ad's CTR.",
    "The ε shown protects one record (one exposure with its outcome), not a person with all their records.",
    "The catalogue and its order come from weeks 1-10 of the same data and count as public here (docs/adr/0008).",
    "AUC, log loss and calibration are measured on rows that only a simulation has; a deployment would pay for them.",
    "The non-private training is a reference that only a simulation may run; its model is never served.",
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
    budget = load().policies.privacy_budget
    devices = story.population.training_devices
    households = devices + story.population.unseen_devices
    counts = {f"{mode}: {reason}": float(n) for (mode, reason), n in story.visits.decisions.most_common()}
    report = Report(
        title="Reticent: from raw behaviour to a consented placement",
        summary=(
            f"{households} households, {devices} of them invited to train, {story.population.events:,} events in "
            f"encrypted vaults, {story.rounds} federated rounds per training."
        ),
        statements=[f"{t.plan.name}: {t.finished.privacy.sentence()}" for t in story.trained],
        tables=_tables(story),
        figures=[
            learning_curves(curves),
            epsilon_curve(curves, budget.epsilon_declared, budget.epsilon_cap),
            reliability({f"{t.plan.name}, {view}": q for t in story.trained for view, q in t.seen.items()}),
            bars("Decisions by mode and reason", counts, unit="placements"),
            bars("Value of the top slot", {k: 100 * v for k, v in story.values.items()}, unit="% bought"),
        ],
        limits=LIMITS,
    )
    return write_report(report, out / "report.html")


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
