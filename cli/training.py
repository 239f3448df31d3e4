"""Trains a simulated population round by round and measures every round. Shared by demo, bench and tables."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cli.evaluation import Holdouts, Quality, evaluate
from cli.report import Curve
from cli.simulation import simulate
from common.model.feature_spec import FeatureSpec
from common.taxonomy import ModelFamily, Profile, ServerOptimiser
from server.rounds.training import FinishedTraining, RoundReport
from server.rounds.training_config import TrainingConfig
from server.settings import Settings

RunConfig = dict[str, str | int | float | bool]
Watch = Callable[[RoundReport, dict[str, Quality]], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """One training of a population.

    Attributes:
        rounds: at most what the privacy budget document declares, unless nothing is protected.
        seed: of the model, and of simulated noise when ``seeded``.
    """

    name: str
    profile: Profile
    base_rate: float
    rounds: int = 20
    family: ModelFamily = ModelFamily.LOGISTIC
    wide_scale: float = 0.2
    hidden_width: int = 64
    learning_rate: float = 0.1
    seed: int = 0
    run_name: str = ""

    def run_config(self) -> RunConfig:
        """Keys of ``[tool.flwr.app.config]``."""
        return {
            "num-server-rounds": self.rounds,
            "run-name": self.run_name,
            "profile": self.profile.value,
            "model-family": self.family.value,
            "model-seed": self.seed,
            "base-rate": self.base_rate,
            "wide-scale": 1.0 if self.profile is Profile.NON_PRIVATE else self.wide_scale,
            "hidden-width": self.hidden_width,
            "server-optimiser": ServerOptimiser.FEDADAM.value,
            "server-learning-rate": self.learning_rate,
            "server-learning-rate-decay": 0.9,
            "server-damping": 1e-6 if self.profile is Profile.NON_PRIVATE else 3e-3,
            "node-wait-s": 60.0,
        }


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training with its curve and its final quality on both hold-outs."""

    plan: Plan
    finished: FinishedTraining
    curve: Curve
    seen: dict[str, Quality]
    unseen: dict[str, Quality] | None


def train(
    plan: Plan,
    nodes_dir: Path,
    *,
    spec: FeatureSpec,
    holdouts: Holdouts,
    settings: Settings,
    watch: Watch = lambda _report, _quality: None,
    environment: Mapping[str, str] | None = None,
) -> Trained:
    """Train over the nodes in ``nodes_dir`` and measure each committed round on held-out rows.

    Raises:
        ReticentError: whatever ended the training, by name.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    spec_path = settings.state_dir / "feature_spec.json"
    spec_path.write_text(spec.model_dump_json())
    curve = Curve(plan.name)
    model = TrainingConfig.from_run_config(plan.run_config()).model(spec)

    def observe(report: RoundReport) -> Mapping[str, float]:
        measured = evaluate(report.model, model, spec, holdouts.seen)
        curve.add(report.round_number, measured, report.privacy.epsilon)
        watch(report, measured)
        return figures(measured)

    finished = simulate(
        plan.run_config(),
        nodes_dir,
        settings=replace(settings, feature_spec=spec_path),
        observer=observe,
        workers=min(os.cpu_count() or 1, 8),
        environment={"RETICENT_SIMULATION": "1", **(environment or {})},
    )
    seen = evaluate(finished.model, finished.manifest.model, spec, holdouts.seen)
    unseen = evaluate(finished.model, finished.manifest.model, spec, holdouts.unseen) if len(holdouts.unseen) else None
    return Trained(plan, finished, curve, seen, unseen)


def figures(measured: Mapping[str, Quality]) -> dict[str, float]:
    """Figures for the registry: measured on rows that only a simulation has."""
    return {
        f"simulated_holdout_{view}_{name}": getattr(found, name)
        for view, found in measured.items()
        for name in ("auc", "log_loss", "calibration")
    }


def copy_nodes(directories: Sequence[Path], target: Path) -> Path:
    """Copy node directories, so that a cached population is never written to."""
    target.mkdir(parents=True, exist_ok=True)
    for directory in directories:
        shutil.copytree(directory, target / directory.name, dirs_exist_ok=True)
    return target
