"""The picture of an audit: what the claim allows against what was measured. Owns how it looks."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Figure_

from cli.audit.results import Audit, LineAudit
from common.errors import InputError


def save_plot(audit: Audit, path: Path) -> None:
    """Write the picture; the suffix chooses: .svg, .png, .pdf, or .html around an SVG.

    Raises:
        InputError: another suffix, or the file cannot be written.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in {"svg", "png", "pdf", "html"}:
        raise InputError("a plot is written as .svg, .png, .pdf or .html")
    buffer = io.BytesIO()
    figure = draw(audit)
    figure.savefig(buffer, format="svg" if form == "html" else form, dpi=150)
    plt.close(figure)
    content = buffer.getvalue()
    if form == "html":
        picture = content[content.index(b"<svg") :]
        content = b"<!doctype html><meta charset=utf-8><title>Privacy audit</title>" + picture
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path.name} cannot be written ({error.strerror})") from None


def draw(audit: Audit) -> Figure_:
    """Two panels a line: the empirical trade-off curve under the claimed one, and the three ε side by side."""
    count = len(audit.lines)
    figure, panels = plt.subplots(
        count, 2, figsize=(9.6, 4.4 * count), squeeze=False, width_ratios=(1.4, 1), layout="constrained"
    )
    for row, line in zip(panels, audit.lines, strict=True):
        _trade_off(row[0], line)
        _epsilons(row[1], line)
    verdict = "nothing falsifies the claims" if audit.passed else "A CLAIM IS FALSE"
    figure.suptitle(f"Privacy audit, profile {audit.profile.value}: {verdict}")
    return figure


def _trade_off(axes: Axes, line: LineAudit) -> None:
    """A measured band that rises wholly above the grey region falsifies the claim."""
    points = sorted(line.curve, key=lambda point: point.false_positives)
    false = [point.false_positives for point in points]
    allowed = [point.claimed_max for point in points]
    low, high = [p.true_positives_low for p in points], [p.true_positives_high for p in points]
    axes.fill_between(false, false, allowed, color="#888", alpha=0.25, label="allowed by the claim")
    axes.plot(false, allowed, color="#444", linewidth=1)
    axes.fill_between(false, low, high, color="#1b6ca8", alpha=0.35, label="measured, 99 % band (pointwise)")
    axes.plot(false, [point.true_positives for point in points], color="#1b6ca8", linewidth=1.2)
    axes.plot([0, 1], [0, 1], color="#aaa", linestyle=":", linewidth=1)
    axes.set(xlabel="false positives", ylabel="true positives", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"{line.name}, {line.rounds} rounds", fontsize=10)
    axes.legend(fontsize=8, loc="lower right")


def _epsilons(axes: Axes, line: LineAudit) -> None:
    bars = {
        "claimed": line.epsilon_declared,
        "composed": line.epsilon_composed,
        "audited ≥": line.epsilon_audited,
        "audited ≥\n(if Gaussian)": line.epsilon_audited_gaussian,
    }
    if line.budget.epsilon_remaining is not None:
        bars["remaining"] = line.budget.epsilon_remaining
    drawn = axes.barh(list(bars)[::-1], [min(value, 1e3) for value in bars.values()][::-1], color="#3a7d44")
    axes.bar_label(drawn, fmt="%.3g", padding=3, fontsize=8)
    axes.axvline(line.budget.epsilon_cap, color="#a00", linestyle="--", linewidth=1)
    axes.set_title(f"ε at δ = {line.delta:g} (dashed: cap)", fontsize=10)
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)
