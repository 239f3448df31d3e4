"""What does privacy cost? Quality on weeks 43-53 of completejourney by profile and ε, over several seeds.

    python -m bench.utility --seeds 5 --json bench/results/utility.json --plot docs/img/utility.png

Every seed draws its own slates, its own unseen households and its own noise. Every ε covers all that went into the
model, for a device that took part in all of it: 20 rounds of training and one calibration. ``user_distributed`` and
``layered`` are stated at user level; ``layered`` has the policy's record-level noise beside it, stated on a line of its
own. ``record_local`` is stated at record level, which is another and weaker guarantee: compare curves, never the ε of
different units. The path and what it leaves out: ``bench.utility_path``.

A run that was cut off goes on where it stopped if the same JSON is named again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.utility_data import Households
from bench.utility_path import Measured
from bench.utility_path import Path as TrainingPath
from bench.utility_report import Curves, draw, print_report
from cli.shows import bars, console
from cli.training import Plan
from client.population.description import DataDescription, load_description
from common.model.sizes import CALIBRATION_LENGTH, network_length
from common.privacy import accountant
from common.privacy.parameters import MechanismUse, PrivacyStatement
from common.taxonomy import PrivacyUnit, Profile
from policies import loader
from policies.invariants import multiplier_min
from policies.releases import line_of_unit
from policies.schema import PrivacyBudgetPolicy
from server.rounds.plan import SECURE
from server.rounds.training_config import TrainingConfig

EPSILONS = (math.inf, 8.0, 4.0, 2.0, 1.0)
PROFILES = (Profile.USER_DISTRIBUTED, Profile.RECORD_LOCAL, Profile.LAYERED)
ROUNDS = 20
SCOPE = "everything that went into this model, for a device that took part in all of it"
RANDOMNESS = "each device's own generator, keyed by its operating system"


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen by ε for a user-level training; at 8 it is what the policy documents ship.

    Attributes:
        clipping_norm: C; the less noise is allowed to shrink relative to C, the smaller C should be.
        wide_scale: factor on the hashed table.
        calibration_multiplier: z of the calibration; training has what is left of ε.
    """

    clipping_norm: float
    wide_scale: float
    calibration_multiplier: float


CHOICES: Mapping[float, Choice] = {
    math.inf: Choice(0.2, 1.0, 0.0),
    8.0: Choice(0.2, 1.0, 4.0),
    4.0: Choice(0.2, 1.0, 4.0),
    2.0: Choice(0.1, 0.5, 6.0),
    1.0: Choice(0.05, 0.3, 12.0),
}


def main() -> int:
    """Measure, print, write; the exit status says whether a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--profiles", nargs="+", type=Profile, default=list(PROFILES), choices=list(PROFILES))
    parser.add_argument("--epsilons", nargs="+", type=float, default=list(EPSILONS), choices=list(EPSILONS))
    parser.add_argument("--quick", action="store_true", help="1 seed, 200 households, 3 rounds: no word on quality")
    parser.add_argument("--show", action="store_true", help="train nothing: report what the JSON holds")
    parser.add_argument("--cache", type=Path, default=Path("var/cache"))
    parser.add_argument("--json", type=Path, default=Path("var/bench/utility.json"))
    parser.add_argument("--plot", type=Path, default=Path("var/bench/utility.png"))
    arguments = parser.parse_args()
    description = load_description("completejourney")
    policy = loader.load().policies.privacy_budget
    rounds, devices, seeds = (3, 200, 1) if arguments.quick else (ROUNDS, None, arguments.seeds)
    wanted = [
        point(profile, epsilon, policy, description, rounds=rounds)
        for profile in arguments.profiles
        for epsilon in arguments.epsilons
    ]
    curves = _resumed(arguments.json, wanted)
    rows = Households(description, arguments.cache, devices=devices)
    for name, seed, measured, seconds in _measure(wanted, curves, rows, range(0 if arguments.show else seeds)):
        curves.add(name, seed, measured, seconds)
        _save(arguments.json, curves)
    _save(arguments.json, curves)
    draw(curves, arguments.plot)
    return print_report(curves)


@dataclass(frozen=True, slots=True)
class Point:
    """One training of the curve, and what it costs."""

    profile: Profile
    epsilon: float
    path: TrainingPath
    statements: tuple[PrivacyStatement, ...]

    @property
    def name(self) -> str:
        """In the JSON file."""
        return f"{self.profile.value} {self.epsilon:g}"

    @property
    def facts(self) -> dict[str, Any]:
        """What says that two results belong to the same training."""
        policy, user = self.path.policy, self.profile in SECURE
        parameters = policy.releases.training_update if user else policy.training
        calibration = policy.releases.calibration if user else None
        return {
            "profile": self.profile.value,
            "epsilon": str(self.epsilon),
            "spec_digest": self.path.spec.digest,
            "clipping_norm": parameters.clipping_norm,
            "noise_multiplier": parameters.noise_multiplier,
            "calibration_noise_multiplier": calibration.noise_multiplier if calibration else None,
            "config": self.path.config.model_dump(mode="json", exclude_defaults=True),
            "statements": [statement.sentence() for statement in self.statements],
        }


def point(
    profile: Profile, epsilon: float, policy: PrivacyBudgetPolicy, description: DataDescription, *, rounds: int = ROUNDS
) -> Point:
    """The training of ``profile`` whose whole cost is at most ``epsilon`` on its first line."""
    spec = description.feature_spec()
    actual = profile if profile in SECURE or math.isfinite(epsilon) else Profile.NON_PRIVATE
    plan = Plan(actual.value, actual, description.base_rate, rounds=rounds)
    config = TrainingConfig.from_run_config(plan.run_config())
    lines: list[list[MechanismUse]] = []
    if profile in SECURE:
        policy = user_level(policy, epsilon, rounds)
        if profile is Profile.USER_DISTRIBUTED:
            config = config.model_copy(update={"wide_scale": CHOICES[epsilon].wide_scale})
        lines.append(user_uses(policy, rounds, network_length(config.model(spec), spec)))
    else:
        private = math.isfinite(epsilon)
        z = multiplier_min(policy, PrivacyUnit.RECORD, epsilon=epsilon, rounds=rounds) if private else 0.0
        training = policy.training.model_copy(update={"noise_multiplier": z})
        policy = policy.model_copy(update={"training": training})
    if profile is not Profile.USER_DISTRIBUTED:
        record = policy.training.release(actual)
        lines.append([record.model_copy(update={"count": record.count * rounds})])
    deltas = {line.unit: line.delta for line in policy.lines}
    statements = tuple(accountant.statement(one, deltas[one[0].unit], RANDOMNESS, scope=SCOPE) for one in lines)
    path = TrainingPath(actual, policy, config, spec, calibrate=profile in SECURE)
    return Point(profile, epsilon, path, statements)


def user_level(policy: PrivacyBudgetPolicy, epsilon: float, rounds: int) -> PrivacyBudgetPolicy:
    """The policy with the least noise, to four digits, at which training and one calibration cost ``epsilon``."""
    choice, releases = CHOICES[epsilon], policy.releases
    if releases.calibration is None:
        raise SystemExit("the policy documents have no calibration")

    def with_noise(multiplier: float) -> PrivacyBudgetPolicy:
        noise = {"noise_multiplier": multiplier}
        training = releases.training_update.model_copy(update=noise | {"clipping_norm": choice.clipping_norm})
        noise = {"noise_multiplier": choice.calibration_multiplier}
        calibration = releases.calibration.model_copy(update=noise) if releases.calibration else None
        changed = releases.model_copy(
            update={"training_update": training, "calibration": calibration, "clip_quantile": None}
        )
        return policy.model_copy(update={"releases": changed})

    if math.isinf(epsilon):
        return with_noise(0.0)
    shipped = with_noise(releases.training_update.noise_multiplier)
    if epsilon == 8.0 and 7.9 < cost(shipped, rounds) <= epsilon:  # the very document, not a digit less of noise
        return shipped
    low, high = 0.1, 1000.0
    while high - low > 1e-5 * high:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if cost(with_noise(middle), rounds) <= epsilon else (middle, high)
    digits = 3 - math.floor(math.log10(high))
    return with_noise(math.ceil(high * 10.0**digits) / 10.0**digits)


def cost(policy: PrivacyBudgetPolicy, rounds: int) -> float:
    """ε of the user-level releases that go into one model."""
    return accountant.epsilon(user_uses(policy, rounds), line_of_unit(policy, PrivacyUnit.USER).delta)


def user_uses(policy: PrivacyBudgetPolicy, rounds: int, length: int = 1) -> list[MechanismUse]:
    """``rounds`` updates of ``length`` weights and one calibration; ε does not depend on the length."""
    update = policy.releases.training_update.release(length)
    uses = [update.model_copy(update={"count": rounds})]
    return uses + ([policy.releases.calibration.release(CALIBRATION_LENGTH)] if policy.releases.calibration else [])


def _measure(
    wanted: Sequence[Point], curves: Curves, households: Households, seeds: Sequence[int] | range
) -> Iterator[tuple[str, int, tuple[Measured, Measured], float]]:
    """Train whatever is missing, profile by profile, every seed's rows read once per profile."""
    with bars() as progress:
        for profile in dict.fromkeys(one.profile for one in wanted):
            for seed in seeds:
                due = [one for one in wanted if one.profile is profile and not curves.has(one.name, seed)]
                if not due:
                    continue
                task = progress.add_task(f"seed {seed}: households", total=None, note="")
                rows = households.rows(
                    seed,
                    lambda done, total, task=task: progress.update(task, completed=done, total=total),  # type: ignore[misc]
                )
                progress.update(task, description=f"seed {seed}: {profile.value}", completed=0, total=len(due))
                for one in due:
                    began = time.process_time()
                    measured = one.path.run(rows)
                    seconds = time.process_time() - began
                    progress.advance(task)
                    yield one.name, seed, measured, seconds


def _resumed(path: Path, wanted: Sequence[Point]) -> Curves:
    """Results of an earlier run that still mean the same trainings."""
    facts = {one.name: one.facts for one in wanted}
    curves = Curves(facts)
    if path.is_file():
        curves.take(json.loads(path.read_text()))
        console.print(f"{path}: {sum(map(len, curves.found.values()))} trainings found")
    return curves


def _save(path: Path, curves: Curves) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(asdict(curves), indent=1))
    temporary.rename(path)


if __name__ == "__main__":
    raise SystemExit(main())
