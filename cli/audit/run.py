"""One audit: the tests of every line under one policy document. Owns their sizes and error probabilities.

Source: privacy.md §6; Dong, Roth, Su 2022; Nasr et al. 2023 (see ``common.privacy.audit``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from cli.audit import checks, ledgers
from cli.audit.build import OURS, Build, Noise
from cli.audit.record import RecordRuns
from cli.audit.results import Audit, Budget, CurvePoint, Finding, LineAudit, Trial
from cli.audit.trials import Scores, audited, clip_finding, curve_finding, roc, variance_findings
from cli.audit.user import UserRuns
from common.errors import PolicyError
from common.privacy import accountant
from common.privacy.audit import ClaimedCurve, claimed_curve
from common.privacy.parameters import MechanismUse
from common.privacy.randomness import SECURE_LABEL, SEEDED_LABEL
from common.taxonomy import PrivacyUnit, Profile, ReleaseKind, Task
from policies.budget import PlannedRelease
from policies.releases import lines_stated, segments_of
from policies.schema import BudgetLine, PrivacyBudgetPolicy

LIMITS: Final = (
    "Passing proves nothing: an audit can only falsify a claim. The proof is the accounting and the reviewed code.",
    "A test sees what its power says and nothing smaller; wrong noise shows in the variance test first.",
    "Masks are taken to cancel and to hide, which the tests of secure aggregation show; the audit sees the sum only.",
    "Lower bounds hold for these canaries; another canary might show more.",
)

DEVIATION_SHARES: Final = 16_000
RESIDUAL_SHARES: Final = 4_000


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to run.

    Attributes:
        record_scores: canary scores per engine, with as many without the canary.
        user_scores: the same for the secure sum, which needs a share of noise from every device.
        deviation_runs: runs with and without the one record or device.
        residual_runs: repetitions of each half of the noise-variance test.
    """

    record_scores: int = 20_000
    user_scores: int = 2_000
    deviation_runs: int = 300
    residual_runs: int = 60

    def for_devices(self, honest: int) -> Effort:
        """The same with fewer repetitions where a run needs a share of noise from many devices."""
        deviation, residual = (max(4, shares // (2 * honest)) for shares in (DEVIATION_SHARES, RESIDUAL_SHARES))
        return replace(
            self,
            deviation_runs=min(self.deviation_runs, max(20, deviation)),
            residual_runs=min(self.residual_runs, residual),
        )


FULL: Final = Effort()
QUICK: Final = Effort(record_scores=5_000, user_scores=400, deviation_runs=100, residual_runs=20)

Progress = Callable[[str, int, int], None]
"""(what is being run, how many units of it were just done, how many there are)."""


@dataclass(frozen=True)
class Order:
    """What to audit.

    Attributes:
        build: the code, or a test double of it.
        policy: the privacy budget document in force.
        policy_digest: of its bytes.
        profile: whose lines are audited.
        seed: None audits the production generator.
        budgets: what a node's ledger says, by line; the caps alone where it is absent.
        ledger: findings about a node's ledger, by line.
    """

    policy: PrivacyBudgetPolicy
    profile: Profile
    policy_digest: str
    seed: int | None
    effort: Effort = FULL
    build: Build = OURS
    budgets: dict[PrivacyUnit, Budget] | None = None
    ledger: dict[PrivacyUnit, Finding] | None = None


def audit(order: Order, progress: Progress = lambda _what, _done, _total: None) -> Audit:
    """Run every test of every line.

    Raises:
        PolicyError: the profile states nothing, so there is nothing to falsify.
    """
    began = time.monotonic()
    if order.profile is Profile.NON_PRIVATE:
        raise PolicyError("the non-private profile claims nothing: there is nothing to audit")
    lines = tuple(_audit_line(order, line, progress) for line in lines_stated(order.policy, order.profile))
    findings = [finding for line in lines for finding in line.findings]
    return Audit(
        profile=order.profile,
        policy_digest=order.policy_digest,
        randomness=SECURE_LABEL if order.seed is None else SEEDED_LABEL,
        seed=order.seed,
        runs=sum(finding.samples for finding in findings if finding.kind is Trial.CURVE),
        seconds=time.monotonic() - began,
        error_probability=sum(finding.error_probability for finding in findings),
        lines=lines,
        limits=LIMITS,
    )


def _audit_line(order: Order, line: BudgetLine, progress: Progress) -> LineAudit:
    record = record_runs(order, together=False)
    if line.unit is PrivacyUnit.RECORD:
        parts: Sequence[RecordRuns | UserRuns] = [record, record_runs(order, together=True)]
        attached: Sequence[MechanismUse] = [record.release()]
        declared = [order.policy.training.release(Profile.RECORD_LOCAL)]
        kinds = [ReleaseKind.TRAINING_UPDATE]
    else:
        runs = user_runs(order)
        parts, attached = [runs], runs.releases()
        segments = segments_of(order.policy, Task.TRAIN, runs.world.length)
        declared, kinds = [segment.use for segment in segments], [segment.kind for segment in segments]
    rounds = order.policy.rounds_max
    planned = [PlannedRelease(kind, use) for kind, use in zip(kinds, declared, strict=True)]
    fixed = [
        checks.accounting(order.build, line, attached, rounds),
        checks.refusal(order.build.allows, line, planned),
        ledgers.growth(order.build.ledger, order.policy, line, planned),
        checks.claims(line, attached, declared),
        checks.generator(record),
    ]
    found = [_audit_part(order, line, part, attached, progress) for part in parts]
    bounds = audited([scores for _, scores, _ in found], line.delta)
    composed = order.build.epsilon(list(attached) * rounds, line.delta)
    ledger = (order.ledger or {}).get(line.unit)
    return LineAudit(
        unit=line.unit,
        relation=line.relation,
        trust=line.trust,
        delta=line.delta,
        rounds=rounds,
        composition=accountant.describe(checks.times(attached, rounds)),
        epsilon_declared=line.epsilon_declared,
        epsilon_composed=composed,
        epsilon_audited=bounds.distribution_free,
        epsilon_audited_gaussian=bounds.gaussian,
        audit_error=bounds.error_probability,
        budget=(order.budgets or {}).get(line.unit, Budget(epsilon_cap=line.epsilon_cap)),
        findings=(*(f for findings, _, _ in found for f in findings), *fixed, *([ledger] if ledger else [])),
        curve=found[0][2],
    )


def _audit_part(
    order: Order,
    line: BudgetLine,
    part: RecordRuns | UserRuns,
    attached: Sequence[MechanismUse],
    progress: Progress,
) -> tuple[list[Finding], Scores, tuple[CurvePoint, ...]]:
    """The tests of one engine: what they found, the canaries' scores, and the curve they draw."""
    rounds, effort = order.policy.rounds_max, order.effort
    wanted = effort.record_scores
    if isinstance(part, UserRuns):
        wanted, effort = effort.user_scores, effort.for_devices(part.honest)

    work = part.work(wanted, rounds) | {"deviation": effort.deviation_runs}

    def ticker(what: str) -> Callable[[int], None]:
        return lambda done: progress(f"{line.unit.value}: {what}, {part.part}", done, work.get(what, 0))

    def curve_of(count: int) -> ClaimedCurve:
        return claimed_curve(lambda delta: order.build.epsilon(list(attached) * count, delta))

    whole = curve_of(rounds)
    canaries = Scores(*part.canary_scores(wanted, rounds, ticker("canaries")))
    deviation = Scores(*part.deviation_scores(effort.deviation_runs, ticker("deviation")))
    halves = part.noise_residuals(effort.residual_runs, ticker("noise"))
    findings = [
        curve_finding(Trial.CURVE, part.part, canaries, whole, mu=_separation(attached, rounds)),
        curve_finding(Trial.DEVIATION, part.part, deviation, curve_of(1), mu=None),
        *variance_findings(part.part, halves, part.stddev),
        clip_finding(part.part, part.clip_moves(ticker("clip"))),
    ]
    return findings, canaries, roc(canaries, whole)


def _separation(uses: Sequence[MechanismUse], rounds: int) -> float | None:
    """μ of the declared mechanism if it is a Gaussian, for power statements; Skellam noise is one to 0.1 %."""
    if any(use.sampling_rate < 1 or use.noise_multiplier == 0 for use in uses):
        return None
    return float(np.sqrt(uses[0].count * rounds) / uses[0].noise_multiplier)


def record_runs(order: Order, *, together: bool) -> RecordRuns:
    """Local training under the order: its cohort engine, or the engine of one device."""
    profile = order.profile if order.profile is Profile.LAYERED else Profile.RECORD_LOCAL
    noise = Noise(order.build, order.seed, "cohort" if together else "one device")
    return RecordRuns(order.build, order.policy.training, profile, noise, together, _coins(order))


def user_runs(order: Order) -> UserRuns:
    """The secure sum under the order."""
    update, *beside = segments_of(order.policy, Task.TRAIN, 1)
    return UserRuns(
        build=order.build,
        release=update.parameters,
        beside=tuple((segment.length, segment.parameters) for segment in beside),
        training=order.policy.user_training,
        cohort=order.policy.cohort,
        profile=order.profile,
        noise=Noise(order.build, order.seed, "secure sum"),
        coins=_coins(order),
    )


def _coins(order: Order) -> np.random.Generator:
    """Which canaries take part: public coins of the experiment, not of the mechanism."""
    return np.random.default_rng(order.seed)
