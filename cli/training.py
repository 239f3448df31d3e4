"""Trains a simulated population round by round and measures every round. Shared by demo, bench and tables."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from cli.evaluation import Holdouts, Quality, evaluate
from cli.owners import certify_all
from cli.paid import PaidQuality
from cli.report import Curve
from cli.simulation import node_directories, simulate, simulate_measurement
from common.crypto import keyfile
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.privacy.parameters import PrivacyStatement
from common.taxonomy import ModelFamily, Profile, ServerOptimiser
from policies import loader
from server.rounds.plan import SECURE
from server.rounds.training import FinishedTraining, RoundReport
from server.rounds.training_config import TrainingConfig
from server.settings import Settings

RunConfig = dict[str, str | int | float | bool]
Watch = Callable[[RoundReport, dict[str, Quality]], None]


CONTEXTUAL_WEIGHT = 0.4


@dataclass(frozen=True, slots=True)
class Steps:
    """Public constants of a training that fit one profile's noise; measured by ``bench.utility``.

    Attributes:
        wide_scale: factor on the hashed table; the smaller, the less of a clipped update goes to rarely met values.
        learning_rate: of the server's FedAdam.
        damping: in model-weight units; where a clip of the whole update makes it short, less of it is needed.
    """

    wide_scale: float
    learning_rate: float
    damping: float


STEPS: Mapping[Profile, Steps] = MappingProxyType(
    {
        Profile.NON_PRIVATE: Steps(1.0, 0.1, 1e-4),
        Profile.RECORD_LOCAL: Steps(0.2, 0.1, 3e-3),
        Profile.USER_DISTRIBUTED: Steps(1.0, 0.2, 1e-3),
        Profile.LAYERED: Steps(0.3, 0.2, 1e-4),
    }
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One training of a population.

    Attributes:
        rounds: at most what the privacy budget document declares, unless nothing is protected.
        steps: the profile's own by default.
        seed: of the model, and of simulated noise when ``seeded``.
    """

    name: str
    profile: Profile
    base_rate: float
    rounds: int = 20
    family: ModelFamily = ModelFamily.LOGISTIC
    hidden_width: int = 64
    steps: Steps | None = None
    seed: int = 0
    run_name: str = ""

    def run_config(self) -> RunConfig:
        """Keys of ``[tool.flwr.app.config]``."""
        steps = self.steps or STEPS[self.profile]
        return {
            "num-server-rounds": self.rounds,
            "run-name": self.run_name,
            "profile": self.profile.value,
            "model-family": self.family.value,
            "model-seed": self.seed,
            "base-rate": self.base_rate,
            "contextual-weight": CONTEXTUAL_WEIGHT,
            "wide-scale": steps.wide_scale,
            "hidden-width": self.hidden_width,
            "server-optimiser": ServerOptimiser.FEDADAM.value,
            "server-learning-rate": steps.learning_rate,
            "server-learning-rate-decay": 0.9,
            "server-damping": steps.damping,
            "node-wait-s": 60.0,
        }


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training.

    Attributes:
        curve: round by round; without quality where none was measured.
        seen, unseen: exact quality on held-out rows, which only a simulation can measure; None where nobody did.
        paid: quality as devices released it, noise included; None where they did not.
        evaluation: what that cost, where it is not part of the training's own lines.
    """

    plan: Plan
    finished: FinishedTraining
    curve: Curve
    seen: dict[str, Quality] | None
    unseen: dict[str, Quality] | None
    paid: PaidQuality | None = None
    evaluation: tuple[PrivacyStatement, ...] = ()


def train(
    plan: Plan,
    nodes_dir: Path,
    *,
    spec: FeatureSpec,
    holdouts: Holdouts | None,
    settings: Settings,
    watch: Watch = lambda _report, _quality: None,
    environment: Mapping[str, str] | None = None,
) -> Trained:
    """Train over the nodes in ``nodes_dir``, and measure each committed round on held-out rows if there are any.

    Where the plan's profile is not the one of the policy documents, devices and server alike get a copy of these that
    differs in it alone.

    Raises:
        ReticentError: whatever ended the training, by name.
    """
    settings = _prepared(settings, plan, nodes_dir, spec)
    curve = Curve(plan.name)
    model = TrainingConfig.from_run_config(plan.run_config()).model(spec)

    def observe(report: RoundReport) -> Mapping[str, float]:
        measured = evaluate(report.model, model, spec, holdouts.seen) if holdouts else None
        curve.unit = report.privacy.unit.value
        curve.add(report.round_number, measured, report.privacy.epsilon)
        watch(report, measured or {})
        return figures(measured or {})

    policies = {"RETICENT_POLICIES": str(settings.policies)} if settings.policies else {}
    finished = simulate(
        plan.run_config(),
        nodes_dir,
        settings=settings,
        observer=observe,
        workers=min(os.cpu_count() or 1, 8),
        environment={"RETICENT_SIMULATION": "1", **policies, **(environment or {})},
    )

    def exact(rows: Examples | None) -> dict[str, Quality] | None:
        return evaluate(finished.model, finished.manifest.model, spec, rows) if rows is not None and len(rows) else None

    return Trained(
        plan,
        finished,
        curve,
        exact(holdouts.seen) if holdouts else None,
        exact(holdouts.unseen) if holdouts else None,
        PaidQuality.of(finished.figures),
    )


def evaluate_paid(
    trained: Trained,
    nodes_dir: Path,
    *,
    spec: FeatureSpec,
    settings: Settings,
    environment: Mapping[str, str] | None = None,
) -> Trained:
    """The same training with its quality as devices release it, charged, through secure aggregation.

    Raises:
        ReticentError: whatever ended the evaluation, by name.
    """
    plan = replace(trained.plan, profile=Profile.USER_DISTRIBUTED)
    settings = _prepared(settings, plan, nodes_dir, spec)
    policies = {"RETICENT_POLICIES": str(settings.policies)} if settings.policies else {}
    measured = simulate_measurement(
        plan.run_config() | {"task": "evaluate", "model-version": trained.finished.manifest.version, "run-name": ""},
        nodes_dir,
        settings=settings,
        workers=min(os.cpu_count() or 1, 8),
        environment={"RETICENT_SIMULATION": "1", **policies, **(environment or {})},
    )
    return replace(trained, paid=PaidQuality.of(measured.figures), evaluation=measured.lines)


def _prepared(settings: Settings, plan: Plan, nodes_dir: Path, spec: FeatureSpec) -> Settings:
    """The server's settings with this training's specification and policy documents; devices certified if need be."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    spec_path = settings.state_dir / "feature_spec.json"
    spec_path.write_text(spec.model_dump_json())
    if plan.profile in SECURE:
        certify_all(node_directories(nodes_dir), keyfile.load_or_create(settings.authority_key))
    return replace(settings, feature_spec=spec_path, policies=documents_for(plan.profile, settings))


def documents_for(profile: Profile, settings: Settings) -> Path | None:
    """The policy documents under which ``profile`` is trained: those in force, or a copy with that profile."""
    current = loader.load(settings.policies, prove=False).policies.privacy_budget.profile
    if profile in {current, Profile.NON_PRIVATE}:
        return settings.policies
    source = settings.policies or loader.DOCUMENTS
    target = settings.state_dir / f"policies-{profile.value}"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    budget = target / "privacy_budget.yaml"
    budget.write_text(re.sub(r"(?m)^profile: \w+", f"profile: {profile.value}", budget.read_text("utf-8")), "utf-8")
    return target


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
