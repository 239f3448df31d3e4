"""Checks without chance: accounting, claims and the generator. Owns no figure of its own but the recomputed ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

from cli.audit.build import Build
from cli.audit.record import RecordRuns
from cli.audit.results import Finding, Trial
from common.errors import PolicyError
from common.privacy.parameters import MechanismUse
from common.privacy.randomness import SimulationNoise
from common.privacy.recompute import recompute_epsilon
from policies.budget import PlannedRelease, claims_amplification
from policies.schema import BudgetLine

# The two accountants may differ by this share; a claim below the independent figure by more is falsified.
TOLERANCE = 0.01
SECOND_BOUND = f"≥ {1 - TOLERANCE:g} of the second accountant"


def times(uses: Sequence[MechanismUse], rounds: int) -> list[MechanismUse]:
    """The uses of ``rounds`` equal rounds."""
    return [use.model_copy(update={"count": use.count * rounds}) for use in uses] if rounds else []


def accounting(build: Build, line: BudgetLine, uses: Sequence[MechanismUse], rounds: int) -> Finding:
    """Recompute ε with independent formulas, and see that it grows with every round.

    Args:
        build: whose accountant is audited.
        line: whose δ counts.
        uses: releases of one round as the code attached them.
        rounds: of the training that the claim is about.
    """
    points = sorted({1, 2, max(1, rounds // 2), rounds})
    # One release after the other, as a ledger meets them; never handed over as a finished product.
    claimed = [build.epsilon(list(uses) * point, line.delta) for point in points]
    expected = [recompute_epsilon(times(uses, point), line.delta) for point in points]
    grows = all(before < after or math.isinf(before) for before, after in itertools.pairwise(claimed))
    last = points.index(rounds)
    return second_opinion(
        Trial.ACCOUNTING,
        "accountant",
        list(zip(claimed, expected, strict=True)),
        grows=grows,
        power="any claim more than 1 % too low, any round that is not counted",
        note=f"ε claimed {claimed[last]:.4g}, recomputed {expected[last]:.4g}, after {rounds} rounds",
    )


def second_opinion(
    kind: Trial, part: str, found: Sequence[tuple[float, float]], *, grows: bool, power: str, note: str
) -> Finding:
    """No claimed ε is below the independent one beside it, and each is above the one before.

    Args:
        kind: the trial.
        part: what is audited.
        found: claimed and recomputed ε, round after round.
        grows: whether the claimed ones do, by the trial's own idea of it.
        power: what would be caught.
        note: the figures in words.
    """
    worst = lowest(found)
    return Finding(
        kind=kind,
        part=part,
        passed=grows and worst >= 1 - TOLERANCE,
        statistic=worst,
        bound=SECOND_BOUND,
        error_probability=0.0,
        power=power,
        samples=len(found),
        note=note,
    )


def refusal(allows: Callable[..., object | None], line: BudgetLine, planned: Sequence[PlannedRelease]) -> Finding:
    """The filter refuses a round once the independent figure is past the cap, whatever was allowed before."""
    uses = [release.use for release in planned]
    rounds = _rounds_past(line, uses)
    spent = [(release.purpose, use) for release in planned for use in times([release.use], rounds)]
    refused = allows(line, spent, planned) is not None
    return Finding(
        kind=Trial.ACCOUNTING,
        part="budget filter",
        passed=refused,
        statistic=recompute_epsilon(times(uses, rounds + 1), line.delta),
        bound=f"refused at {line.epsilon_cap:g}",
        error_probability=0.0,
        power="a filter that forgets earlier rounds, or counts them too low by more than one round",
        samples=rounds + 1,
        note=f"round {rounds + 1}",
    )


def claims(line: BudgetLine, attached: Sequence[MechanismUse], declared: Sequence[MechanismUse]) -> Finding:
    """What the code says about its releases is what the policy declares, and no participant is charged less.

    **Privacy:** a ledger knows who took part, so the server's choice of a cohort amplifies nothing (privacy.md). A
    device's sample of its own records is its secret, and may.
    """
    problems = []
    if any(claims_amplification(use) for use in attached):
        problems.append("amplification by a sample of participants that the ledger knows")
    if list(attached) != list(declared):
        problems.append("the attached releases are not those that the policy declares")
    if any((use.unit, use.relation, use.trust) != (line.unit, line.relation, line.trust) for use in attached):
        problems.append("a release of another line")
    return Finding(
        kind=Trial.CLAIMS,
        part="attached releases",
        passed=not problems,
        statistic=float(len(problems)),
        bound="0 contradictions",
        error_probability=0.0,
        power="a sampling rate, noise multiplier, count or unit other than declared; amplification among participants",
        samples=len(attached),
        note="; ".join(problems),
    )


def generator(runs: RecordRuns) -> Finding:
    """Production draws from a secret generator, no two of which agree, and training refuses a seeded one."""
    problems = []
    first, second = runs.build.production(), runs.build.production()
    if first.simulation or (first.uniform(4) == second.uniform(4)).any():
        problems.append("the production generator can be repeated")
    seeded = SimulationNoise(0)
    try:
        runs.trainer(runs.world, seeded, simulation=False)
        problems.append("training accepts a seeded generator outside simulations")
    except PolicyError:
        pass
    return Finding(
        kind=Trial.GENERATOR,
        part="random generator",
        passed=not problems,
        statistic=float(len(problems)),
        bound="0 contradictions",
        error_probability=0.0,
        power="a seeded or shared generator where a device would run; not one whose secret key is weak",
        samples=2,
        note="; ".join(problems),
    )


def lowest(found: Iterable[tuple[float, float]]) -> float:
    """The lowest quotient of claimed and recomputed ε; 1 where there is none."""
    return min((_quotient(ours, theirs) for ours, theirs in found), default=1.0)


def _quotient(ours: float, theirs: float) -> float:
    """Claimed over recomputed ε; 1 where both are 0 or infinite."""
    if math.isinf(theirs) or theirs == 0:
        return 1.0 if ours == theirs or math.isinf(ours) else 0.0
    return ours / theirs


def _rounds_past(line: BudgetLine, uses: Sequence[MechanismUse]) -> int:
    """The fewest rounds whose ε, recomputed, is above the cap, with as much to spare as the accountants may differ."""
    low, high = 0, 1
    cap = line.epsilon_cap * (1 + 2 * TOLERANCE)
    while recompute_epsilon(times(uses, high), line.delta) <= cap and high < 1 << 20:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if recompute_epsilon(times(uses, middle), line.delta) > cap else (middle, high)
    return high
