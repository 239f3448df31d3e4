"""Figures about the privacy budget, for pages and reports. Owns what is asked of the ledger; computes no ε itself.

Every ε leaves here inside a ``Claim``: with δ, unit, neighbouring relation, trust model and composition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from common.privacy import accountant
from common.privacy.accountant import Line
from common.privacy.parameters import MechanismUse, PrivacyStatement
from common.taxonomy import Purpose
from policies import budget
from policies.schema import BudgetLine
from server.ledger.bounds import CAP, Bound
from server.ledger.repository import StoredCharge
from server.ledger.service import ServerLedger

Spent = Sequence[tuple[Purpose, MechanismUse]]
POINTS_MAX: Final = 48
PROJECTED_MAX: Final = 16
_BINS: Final = 12


@dataclass(frozen=True, slots=True)
class QuotaFigures:
    """One purpose's part of a line, for the device that has spent the most of it."""

    purpose: Purpose
    spent: float
    most: float | None


@dataclass(frozen=True, slots=True)
class LineFigures:
    """How one line of the privacy budget stands.

    Attributes:
        cap: what binds now: the document's, or the officers' if that is lower.
        claim: the whole statement about the device that has spent the most.
        median: ε that half of the devices have not passed.
        remaining: of the device that has spent the most. Composition is not additive: a lower bound.
        quotas: parts by purpose.
        histogram: (ε up to, devices).
        curve: ε of a device in every charge, after each charge of the period; at most ``POINTS_MAX``.
        projected: the same if the last charge is repeated, up to the cap.
        rounds_left: how many such repetitions fit; None where nothing was charged yet or too many fit.
    """

    line: BudgetLine
    cap: float
    claim: PrivacyStatement
    devices: int
    median: float
    remaining: float
    quotas: tuple[QuotaFigures, ...]
    histogram: tuple[tuple[float, int], ...]
    curve: tuple[float, ...]
    projected: tuple[float, ...]
    rounds_left: int | None


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What one training has cost a device that took part in all of it, on one line and for one purpose."""

    run_id: str
    period: int
    purpose: Purpose
    charges: int
    devices_max: int
    barred: int
    claim: PrivacyStatement


def line_figures(ledger: ServerLedger, bounds: Sequence[Bound]) -> list[LineFigures]:
    """Every line of the budget, under the bounds that bind now."""
    spends, period = ledger.spends(), ledger.period
    uses = uses_by_number(ledger)
    charges = [charge for charge in ledger.charges() if charge.period == period]
    charged = [_uses_of(charge, uses) for charge in charges]
    return [
        _line(line, {one.bound: one.in_force for one in bounds if one.unit is line.unit}, spends, charged)
        for line in ledger.policy.lines
    ]


def model_figures(ledger: ServerLedger) -> list[ModelFigures]:
    """Every training that was charged, newest first, by period, purpose and line."""
    uses = uses_by_number(ledger)
    groups: defaultdict[tuple[int, str], list[StoredCharge]] = defaultdict(list)
    for charge in ledger.charges():
        groups[charge.period, charge.run_id].append(charge)
    found = []
    for (period, run_id), charges in reversed(groups.items()):
        spent = [pair for charge in charges for pair in _uses_of(charge, uses)]
        for line in ledger.policy.lines:
            mine = set(budget.uses_on(line, spent))
            for purpose in sorted({purpose for purpose, use in spent if use in mine}):
                part = budget.uses_on(line, [pair for pair in spent if pair[0] is purpose])
                found.append(
                    ModelFigures(
                        run_id=run_id,
                        period=period,
                        purpose=purpose,
                        charges=len(charges),
                        devices_max=max(charge.devices for charge in charges),
                        barred=sum(charge.barred for charge in charges),
                        claim=_statement(line, part, "a device that took part in all of it"),
                    )
                )
    return found


def spent_figures(ledger: ServerLedger, spent: Spent) -> list[tuple[BudgetLine, PrivacyStatement, float]]:
    """What one device has spent on each line in the running period, and what is left."""
    found = []
    for line in ledger.policy.lines:
        claim = _statement(line, budget.uses_on(line, spent), "this device, this budget period")
        found.append((line, claim, max(0.0, line.epsilon_cap - claim.epsilon)))
    return found


def uses_by_number(ledger: ServerLedger) -> dict[int, tuple[Purpose, MechanismUse]]:
    """Every mechanism that was ever charged, by its number."""
    return {number: (kind.purpose, use) for number, (kind, use) in ledger.uses().items()}


def _line(
    line: BudgetLine, bounds: Mapping[str, float], spends: Sequence[tuple[Spent, int]], charged: Sequence[Spent]
) -> LineFigures:
    cap = bounds.get(CAP, line.epsilon_cap)
    every = ((_epsilon(line, spent), count, index) for index, (spent, count) in enumerate(spends))
    values = sorted(row for row in every if row[0] > 0)
    worst = spends[values[-1][2]][0] if values else []
    claim = _statement(line, budget.uses_on(line, worst), "the device that has spent the most in this budget period")
    curve, projected, left = _curve(line, cap, charged)
    return LineFigures(
        line=line,
        cap=cap,
        claim=claim,
        devices=sum(count for _, count, _ in values),
        median=_median([(value, count) for value, count, _ in values]),
        remaining=max(0.0, cap - claim.epsilon),
        quotas=tuple(_quotas(line, bounds, spends)),
        histogram=_histogram([(value, count) for value, count, _ in values], max(line.epsilon_cap, cap)),
        curve=curve,
        projected=projected,
        rounds_left=left,
    )


def _quotas(line: BudgetLine, bounds: Mapping[str, float], spends: Sequence[tuple[Spent, int]]) -> list[QuotaFigures]:
    seen = {purpose for spent, _ in spends for purpose, use in spent if budget.uses_on(line, [(purpose, use)])}
    found = []
    for purpose in sorted(seen | set(line.quotas)):
        parts = [[pair for pair in spent if pair[0] is purpose] for spent, _ in spends]
        most = max((_epsilon(line, part) for part in parts), default=0.0)
        found.append(QuotaFigures(purpose, most, bounds.get(purpose.value)))
    return found


def _curve(
    line: BudgetLine, cap: float, charged: Sequence[Spent]
) -> tuple[tuple[float, ...], tuple[float, ...], int | None]:
    """ε after each charge, and after repetitions of the last one."""
    done: list[MechanismUse] = []
    points, last = [], list[MechanismUse]()
    for spent in charged:
        mine = budget.uses_on(line, spent)
        if mine:
            done, last = _merged([*done, *mine]), mine
            points.append(list(done))
    if not points:
        return (), (), None
    every = -(-len(points) // POINTS_MAX)
    curve = tuple(accountant.epsilon(uses, line.delta) for uses in points[::-1][::every][::-1])
    projected = []
    for _ in range(PROJECTED_MAX):
        done = _merged([*done, *last])
        projected.append(accountant.epsilon(done, line.delta))
        if projected[-1] > cap:
            return curve, tuple(projected), len(projected) - 1
    return curve, tuple(projected), None


def _merged(uses: Sequence[MechanismUse]) -> list[MechanismUse]:
    """Equal mechanisms counted together."""
    counts: defaultdict[MechanismUse, int] = defaultdict(int)
    for use in uses:
        counts[use.model_copy(update={"count": 1})] += use.count
    return [use.model_copy(update={"count": count}) for use, count in counts.items()]


def _histogram(values: Sequence[tuple[float, int]], cap: float) -> tuple[tuple[float, int], ...]:
    bins = [0] * _BINS
    for value, count in values:
        bins[min(int(value / cap * _BINS), _BINS - 1)] += count
    return tuple((cap * (index + 1) / _BINS, count) for index, count in enumerate(bins))


def _median(values: Sequence[tuple[float, int]]) -> float:
    half, seen = sum(count for _, count in values) / 2, 0
    for value, count in values:
        seen += count
        if seen >= half:
            return value
    return 0.0


def _uses_of(charge: StoredCharge, uses: dict[int, tuple[Purpose, MechanismUse]]) -> list[tuple[Purpose, MechanismUse]]:
    return [uses[release.use] for release in charge.releases]


def _epsilon(line: BudgetLine, spent: Spent) -> float:
    return accountant.epsilon(budget.uses_on(line, spent), line.delta)


def _statement(line: BudgetLine, uses: Sequence[MechanismUse], scope: str) -> PrivacyStatement:
    place = Line(line.unit, line.relation, line.trust)
    return accountant.statement(_merged(uses), line.delta, "operating system", line=place, scope=scope)
