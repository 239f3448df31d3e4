"""Tables, targets and plots of the utility bench. Reads results; trains nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.utility_path import Measured
from cli.evaluation import interval
from cli.shows import console, show_table
from common.taxonomy import Profile

VIEWS = (("later", "personal"), ("unseen", "personal"), ("later", "contextual"), ("unseen", "contextual"))
FIGURES = ("auc", "log_loss", "calibration")
HEADER = (
    "profile",
    "ε",
    "seeds",
    "AUC later",
    "AUC unseen",
    "AUC later, contextual",
    "log loss later",
    "calibration later: before",
    "after",
    "contextual: before",
    "after",
)
AUC_MIN = {8.0: 0.855, 1.0: 0.848}
AUC_LOSS_MAX = 0.01
CALIBRATION = (0.95, 1.05)


@dataclass(frozen=True, slots=True)
class Curves:
    """Results by training and seed.

    Attributes:
        facts: what each training was.
        found: name -> seed -> "part.view.figure.before" or ".after" -> value.
    """

    facts: dict[str, dict[str, Any]]
    found: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def has(self, name: str, seed: int) -> bool:
        """Whether this training is measured."""
        return str(seed) in self.found.get(name, {})

    def add(self, name: str, seed: int, measured: tuple[Measured, Measured], seconds: float) -> None:
        """Keep one training's figures."""
        figures = {"cpu_seconds": round(seconds, 1)}
        for when, by_part in zip(("before", "after"), measured, strict=True):
            for part, by_view in by_part.items():
                for view, quality in by_view.items():
                    for name_ in FIGURES:
                        figures[f"{part}.{view}.{name_}.{when}"] = round(float(getattr(quality, name_)), 6)
        self.found.setdefault(name, {})[str(seed)] = figures

    def take(self, earlier: Mapping[str, Any]) -> None:
        """Results of an earlier run, as far as they are of the same trainings."""
        for name, facts in earlier["facts"].items():
            known = self.facts.setdefault(name, facts)
            if all(known[key] == facts[key] for key in known.keys() - {"statements"}):
                self.found[name] = dict(earlier["found"].get(name, {}))

    def values(self, name: str, figure: str, *, last: bool = True) -> list[float]:
        """One figure over seeds: after the calibration if there was one and ``last`` is asked for."""
        seeds = self.found.get(name, {})
        order = ("after", "before") if last else ("before",)
        return [
            next(seeds[seed][f"{figure}.{when}"] for when in order if f"{figure}.{when}" in seeds[seed])
            for seed in sorted(seeds)
        ]

    def names(self, profile: str) -> list[str]:
        """Measured trainings of a profile, most private last."""
        chosen = [n for n in self.facts if self.facts[n]["profile"] == profile and self.found.get(n)]
        return sorted(chosen, key=lambda name: -float(self.facts[name]["epsilon"]))


def print_report(curves: Curves) -> int:
    """Table, statements, targets; the number of targets missed."""
    rows, profiles = [], dict.fromkeys(facts["profile"] for facts in curves.facts.values())
    for profile in profiles:
        rows += [_row(curves, name) for name in curves.names(profile)]
    show_table("Held-out quality by profile and ε: mean ± half width of the 95 % interval over seeds", HEADER, rows)
    for profile in profiles:
        for name in curves.names(profile):
            for sentence in curves.facts[name]["statements"]:
                console.print(f"{name}: {sentence}", soft_wrap=True, highlight=False)
    missed = 0
    for text, value, passed in targets(curves):
        console.print(f"{'pass' if passed else 'MISSED'}  {text}: {value:.4f}", highlight=False)
        missed += not passed
    return missed


def _row(curves: Curves, name: str) -> list[str]:
    facts = curves.facts[name]
    epsilon = float(facts["epsilon"])
    cells = [facts["profile"], "∞" if math.isinf(epsilon) else f"{epsilon:g}", str(len(curves.found[name]))]
    cells += [_told(curves.values(name, f"{part}.{view}.auc")) for part, view in VIEWS[:3]]
    cells.append(_told(curves.values(name, "later.personal.log_loss")))
    calibrated = facts["calibration_noise_multiplier"] is not None
    for view in ("personal", "contextual"):
        figure = f"later.{view}.calibration"
        cells.append(_told(curves.values(name, figure, last=False), 3))
        cells.append(_told(curves.values(name, figure), 3) if calibrated else "—")
    return cells


def _told(values: Sequence[float], digits: int = 4) -> str:
    mean, half = interval(values)
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def targets(curves: Curves) -> list[tuple[str, float, bool]]:
    """What the project promises of the user-level profile, and whether it holds in the mean over seeds."""
    user = Profile.USER_DISTRIBUTED.value
    told: list[tuple[str, float, bool]] = []

    def mean(name: str, figure: str) -> float | None:
        return interval(curves.values(name, figure))[0] if curves.found.get(name) else None

    for epsilon, least in AUC_MIN.items():
        auc = mean(f"{user} {epsilon:g}", "later.personal.auc")
        if auc is not None:
            told.append((f"AUC at user-level ε = {epsilon:g}, at least {least}", auc, auc >= least))
    references = [mean(f"{profile} inf", "later.personal.auc") for profile in (user, Profile.RECORD_LOCAL.value)]
    private, best = mean(f"{user} 1", "later.personal.auc"), max((r for r in references if r is not None), default=None)
    if private is not None and best is not None:
        text = f"AUC lost to the best non-private federated model at ε = 1, at most {AUC_LOSS_MAX}"
        told.append((text, best - private, best - private <= AUC_LOSS_MAX))
    for name in curves.names(user):
        for view in ("personal", "contextual"):
            ratio = mean(name, f"later.{view}.calibration")
            if ratio is not None:
                text = f"{name}: calibration, {view} view, after the refit, {CALIBRATION[0]} to {CALIBRATION[1]}"
                told.append((text, ratio, CALIBRATION[0] <= ratio <= CALIBRATION[1]))
    return told


def draw(curves: Curves, path: Path) -> None:
    """The curves with 95 % intervals as PNG and SVG, units of privacy in panels of their own."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = (
        ("user level, distributed trust", (Profile.USER_DISTRIBUTED, Profile.LAYERED)),
        ("record level, local trust", (Profile.RECORD_LOCAL,)),
    )
    figure, all_axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axes, (title, profiles) in zip(all_axes, panels, strict=True):
        for profile in profiles:
            for view, style in (("personal", "o-"), ("contextual", "s--")):
                _line(axes, curves, profile.value, view, style)
        axes.set(title=title, xlabel="ε at δ = 1e-5, everything that went into the model")
        axes.set_xticks([0, 1, 2, 3, 4], ["1", "2", "4", "8", "∞"])
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=7)
    all_axes[0].plot([0, 3], [AUC_MIN[1.0], AUC_MIN[8.0]], "k_", markersize=14, label="target")
    all_axes[0].set_ylabel("AUC, weeks 43-53")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"), dpi=110)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def _line(axes: Any, curves: Curves, profile: str, view: str, style: str) -> None:  # noqa: ANN401 - matplotlib's are untyped
    names = curves.names(profile)
    if not names:
        return
    places = [min(math.log2(float(curves.facts[name]["epsilon"])), 4.0) for name in names]
    told = [interval(curves.values(name, f"later.{view}.auc")) for name in names]
    means, halves = zip(*told, strict=True)
    axes.errorbar(places, means, yerr=halves, fmt=style, markersize=4, capsize=3, label=f"{profile}, {view} view")
