"""What a training has cost so far. Owns the server's privacy lines; computing them is ``common.privacy.accountant``'s.

The server states what all charged sessions cost a device that took part in every one of them: an upper bound for all
others, lost and repeated sessions included. Each device's own ledger says what it really spent. Lines of another unit
or trust model stand beside each other, user level first, and are never added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.privacy import accountant
from common.privacy.accountant import Line, line_of
from common.privacy.parameters import MechanismUse, PrivacyStatement
from common.taxonomy import PrivacyUnit, ReleaseKind, Task
from common.wire.disclosure import Disclosure
from policies.budget import PlannedRelease
from policies.schema import PrivacyBudgetPolicy
from server.rounds.charges import Charge, planned_of
from server.rounds.disclosure import Made, build, cohort_disclosure
from server.rounds.plan import Protection

TOTAL = "everything that went into this model, for a device that took part in all of it"
UNPROTECTED = "none: the non-private profile draws no noise"
PROTECTED = "each device's own generator, keyed by its operating system (seeded in simulations that say so)"
LINES_MAX = 100


@dataclass(frozen=True, slots=True)
class Costs:
    """Turns charged sessions into statements.

    Attributes:
        randomness: where the noise came from, in words.
    """

    policy: PrivacyBudgetPolicy
    randomness: str

    def totals(self, charges: Sequence[Charge], scope: str = TOTAL) -> tuple[PrivacyStatement, ...]:
        """One statement per line, user level first."""
        return tuple(self._statement(uses, scope) for uses in by_line(planned_of(charges)))

    def statements(self, charges: Sequence[Charge]) -> tuple[PrivacyStatement, ...]:
        """What goes with a model: totals per line, then each kind of release, then how training grew by session."""
        kinds = _by_kind(planned_of(charges))
        told = [self._statement(uses, kind.value) for (kind, _), uses in kinds.items()] if len(kinds) > 1 else []
        return (*self.totals(charges), *told, *self._growth(charges))

    def epsilon(self, charges: Sequence[Charge]) -> tuple[float, float]:
        """ε and δ of the first line; 0 before anything was released."""
        lines = by_line(planned_of(charges))
        if not lines:
            return 0.0, self.policy.lines[0].delta
        delta = self.delta(line_of(lines[0]))
        return accountant.epsilon(lines[0], delta), delta

    def delta(self, line: Line) -> float:
        """δ of a line in the policy; the first line's for one that the policy does not have (non-private)."""
        own = (found.delta for found in self.policy.lines if (found.unit, found.relation, found.trust) == line)
        return next(own, self.policy.lines[0].delta)

    def _growth(self, charges: Sequence[Charge]) -> list[PrivacyStatement]:
        rounds = [charge for charge in charges if charge.task is Task.TRAIN]
        if len(rounds) > LINES_MAX:
            return []
        growth = []
        for k in range(1, len(rounds) + 1):
            first = by_line(planned_of(rounds[:k]))[0]
            growth.append(self._statement(first, f"after session {k} of {len(rounds)}"))
        return growth

    def _statement(self, uses: Sequence[MechanismUse], scope: str) -> PrivacyStatement:
        return accountant.statement(uses, self.delta(line_of(uses)), self.randomness, scope=scope)


def by_line(planned: Sequence[PlannedRelease]) -> list[list[MechanismUse]]:
    """Uses grouped by line, user level first."""
    groups: dict[Line, list[MechanismUse]] = {}
    for release in planned:
        groups.setdefault(line_of([release.use]), []).append(release.use)
    return [groups[line] for line in sorted(groups, key=lambda line: line.unit is not PrivacyUnit.USER)]


def _by_kind(planned: Sequence[PlannedRelease]) -> dict[tuple[ReleaseKind, Line], list[MechanismUse]]:
    """Uses by kind of release and line, in the order they were first made."""
    found: dict[tuple[ReleaseKind, Line], list[MechanismUse]] = {}
    for release in planned:
        found.setdefault((release.kind, line_of([release.use])), []).append(release.use)
    return found


def disclose(
    protection: Protection, charges: Sequence[Charge], cohorts: Sequence[tuple[int, int]], costs: Costs
) -> Disclosure:
    """The facts of the model's disclosure card.

    Args:
        protection: how devices were protected.
        charges: every charged session, at least one.
        cohorts: (roster, contributions) of every committed round.
        costs: words and δ.
    """
    made: dict[tuple[ReleaseKind, MechanismUse], list[tuple[Charge, PlannedRelease]]] = {}
    for charge in charges:
        for release in charge.releases:
            made.setdefault((release.kind, release.use), []).append((charge, release))
    entries = [_made(protection, found) for found in made.values()]
    entries.sort(key=lambda entry: entry.use.unit is not PrivacyUnit.USER)
    lines = {line_of([entry.use]) for entry in entries}
    rosters, contributions = zip(*cohorts, strict=True)
    return build(
        protection.profile,
        entries,
        deltas={line: costs.delta(line) for line in lines},
        randomness=costs.randomness,
        cohort=cohort_disclosure(rosters, contributions),
    )


def _made(protection: Protection, found: Sequence[tuple[Charge, PlannedRelease]]) -> Made:
    (charge, release), releases = found[-1], protection.policy.releases
    kind, use = release.kind, release.use
    if use.unit is PrivacyUnit.RECORD:
        clip = protection.parameters.clipping_norm
    elif kind is ReleaseKind.TRAINING_UPDATE:
        clip = charge.clipping_norm
    else:
        clip = getattr(releases, kind.value).clipping_norm
    adaptive = use.unit is PrivacyUnit.USER and kind is ReleaseKind.TRAINING_UPDATE and bool(releases.clip_quantile)
    dimension = use.dimension or 1
    return Made(kind=kind, use=use, count=len(found), dimension=dimension, clipping_norm=clip, adaptive=adaptive)
