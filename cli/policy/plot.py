"""The picture of a verdict: every estimate with its interval, and what the weights look like. Owns how it looks."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure as Figure_

from cli.policy.judge import Verdict
from common.errors import InputError

_COLOURS = {  # Okabe and Ito: for every eye
    "IPS": "#0072b2",
    "SNIPS": "#56b4e9",
    "calibrated DM": "#cc79a7",
    "DR": "#009e73",
    "DM": "#e69f00",
}
_MARKS = {"IPS": "o", "SNIPS": "s", "calibrated DM": "v", "DR": "D", "DM": "x"}


def save_plot(verdict: Verdict, path: Path) -> None:
    """Write the picture; the suffix chooses: .svg, .png or .pdf.

    Raises:
        InputError: another suffix, or the file cannot be written.
    """
    if path.suffix not in {".svg", ".png", ".pdf"}:
        raise InputError("a plot is written as .svg, .png or .pdf")
    figure = draw(verdict)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise InputError(f"{path.name} cannot be written ({error.strerror})") from None
    finally:
        plt.close(figure)


def draw(verdict: Verdict) -> Figure_:
    """Policies beside each other, estimators each, the logged rate behind them; effective turns below. DM: a point."""
    count = len(verdict.policies)
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(2.6 + 1.6 * count, 5.2), height_ratios=(3, 1), sharex=True, layout="constrained"
    )
    top.axhspan(verdict.logged.low, verdict.logged.high, color="#dddddd", lw=0, label="logged, 95 %")
    top.axhline(verdict.logged.value, color="#888888", lw=1)
    for place, one in enumerate(verdict.policies):
        for step, estimate in enumerate(one.estimates):
            at = place + (step - 2) * 0.17
            top.plot([at, at], [estimate.low, estimate.high], color=_COLOURS[estimate.estimator], lw=2)
            top.plot(
                at,
                estimate.value,
                _MARKS[estimate.estimator],
                color=_COLOURS[estimate.estimator],
                label=estimate.estimator if place == 0 else None,
            )
        told = one.direct
        mark = {"color": _COLOURS[told.estimator], "label": f"{told.estimator}, no interval" if place == 0 else None}
        top.plot(place + 2 * 0.17, told.value, _MARKS[told.estimator], **mark)
    top.set_ylabel("reward per turn")
    top.legend(fontsize=8, ncols=3)
    bottom.bar(range(count), [one.diagnostics.effective for one in verdict.policies], width=0.5, color="#bbbbbb")
    bottom.set_ylabel("effective turns")
    bottom.set_xticks(range(count), [one.policy for one in verdict.policies])
    figure.suptitle(f"{count} policies judged on {verdict.rows:,} logged turns", fontsize=10)
    return figure
