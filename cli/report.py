"""The report of a run: one self-contained HTML file with plots, and TensorBoard logs. Owns how results look."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from jinja2 import Environment, select_autoescape
from markupsafe import Markup
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Figure_

from cli.evaluation import Quality
from cli.paid import PaidQuality

COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94", "#b08900")


@dataclass(slots=True)
class Curve:
    """One training, round by round, measured on held-out rows where somebody may look at any.

    Attributes:
        unit: what its ε protects one of.
    """

    name: str
    unit: str = "record"
    rounds: list[int] = field(default_factory=list)
    personal: list[float] = field(default_factory=list)
    contextual: list[float] = field(default_factory=list)
    log_loss: list[float] = field(default_factory=list)
    epsilon: list[float] = field(default_factory=list)

    def add(self, round_number: int, quality: dict[str, Quality] | None, epsilon: float) -> None:
        """Append one round; without ``quality`` only what it cost."""
        self.rounds.append(round_number)
        self.epsilon.append(epsilon)
        if quality is not None:
            self.personal.append(quality["personal"].auc)
            self.contextual.append(quality["contextual"].auc)
            self.log_loss.append(quality["personal"].log_loss)


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table; the first row of ``rows`` is not special."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot as inline SVG with the text that says what to see in it."""

    title: str
    svg: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that goes on the page."""

    title: str
    summary: str
    statements: Sequence[str]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    limits: Sequence[str]


def write_report(report: Report, path: Path) -> Path:
    """Render to one HTML file that needs nothing else."""
    environment = Environment(autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("cli") / "templates" / "report.html.j2").read_text("utf-8"))
    figures = [{"title": f.title, "note": f.note, "svg": Markup(f.svg)} for f in report.figures]  # noqa: S704 - our own SVG
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(report=report, figures=figures), "utf-8")
    return path


def write_tensorboard(curves: Sequence[Curve], directory: Path) -> Path:
    """One TensorBoard run per curve."""
    from torch.utils.tensorboard import SummaryWriter

    for curve in curves:
        with SummaryWriter(str(directory / curve.name.replace(" ", "-"))) as writer:
            for i, step in enumerate(curve.rounds):
                values = {}
                if curve.personal:
                    values["auc/personal"] = curve.personal[i]
                    values["auc/contextual"] = curve.contextual[i]
                    values["log_loss/personal"] = curve.log_loss[i]
                if curve.epsilon[i] != float("inf"):
                    values[f"privacy/epsilon_{curve.unit}"] = curve.epsilon[i]
                for tag, value in values.items():
                    writer.add_scalar(tag, value, step)
    return directory


def learning_curves(curves: Sequence[Curve], paid: Mapping[str, PaidQuality] | None = None) -> Figure:
    """AUC on held-out rows over rounds, personal and contextual view; paid figures as bands."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    measured = [curve for curve in curves if curve.personal]
    for colour, curve in zip(COLOURS, measured, strict=False):
        axes.plot(curve.rounds, curve.personal, color=colour, label=f"{curve.name}, personal")
        axes.plot(curve.rounds, curve.contextual, color=colour, linestyle=":", label=f"{curve.name}, contextual")
    for colour, (name, found) in zip(COLOURS[len(measured) :], (paid or {}).items(), strict=False):
        axes.axhline(found.auc.value, color=colour, linewidth=1, label=f"{name}, personal, paid")
        axes.axhspan(found.auc.low, found.auc.high, color=colour, alpha=0.12, linewidth=0)
    _label(axes, "round", "AUC on held-out weeks")
    axes.legend(fontsize=8, loc="lower right")
    note = "Solid: with the device's own history. Dotted: context alone."
    if paid:
        note += " Bands: 95 % intervals of what devices released, noise included, after the last round."
    return Figure("Learning curves", _svg(figure), note)


def epsilon_curve(curves: Sequence[Curve], *, unit: str, declared: float, cap: float) -> Figure:
    """ε spent over rounds on one line, with what was declared and the cap; lines are never drawn in one figure."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2))
    for colour, curve in zip(COLOURS[1:], curves, strict=False):
        axes.plot(curve.rounds, curve.epsilon, color=colour, marker=".", label=curve.name)
    axes.axhline(declared, color="#666", linestyle="--", linewidth=1, label=f"declared {declared:g}")
    axes.axhline(cap, color="#a00", linestyle="--", linewidth=1, label=f"device cap {cap:g}")
    axes.set_ylim(bottom=0)
    _label(axes, "round", f"ε (one {unit}, add/remove)")
    axes.legend(fontsize=8)
    return Figure(f"Privacy budget over rounds, per {unit}", _svg(figure), "Training alone, composed over all rounds.")


def reliability(qualities: dict[str, Quality]) -> Figure:
    """Predicted against observed rate in ten groups of equal size."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2))
    top = 1e-4
    for colour, (name, found) in zip(COLOURS, qualities.items(), strict=False):
        predicted = [max(group[0], 1e-5) for group in found.reliability]
        observed = [max(group[1], 1e-5) for group in found.reliability]
        top = max(top, *predicted, *observed)
        axes.plot(predicted, observed, "o-", color=colour, markersize=4, label=f"{name} ({found.calibration:.2f})")
    axes.plot([1e-5, top], [1e-5, top], color="#999", linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _label(axes, "mean prediction", "observed rate")
    axes.legend(fontsize=8, title="mean prediction ÷ rate", title_fontsize=8)
    return Figure("Calibration", _svg(figure), "On the grey line predictions are right. Groups of equal size.")


def bars(title: str, counts: dict[str, float], *, unit: str, note: str = "") -> Figure:
    """Named values as horizontal bars."""
    figure, axes = plt.subplots(figsize=(6.4, 0.5 + 0.42 * max(len(counts), 2)))
    names = list(counts)[::-1]
    drawn = axes.barh(names, [counts[name] for name in names], color=COLOURS[0])
    axes.bar_label(drawn, fmt="%.4g", padding=3, fontsize=8)
    axes.margins(x=0.15)
    _label(axes, unit, "")
    return Figure(title, _svg(figure), note)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _svg(figure: Figure_) -> str:
    buffer = io.StringIO()
    figure.tight_layout()
    figure.savefig(buffer, format="svg")
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
