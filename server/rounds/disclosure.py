"""The disclosure of a finished training, from what was really released. Computes costs; renders nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from common.privacy import accountant
from common.privacy.accountant import Line, line_of
from common.privacy.parameters import MechanismUse, PrivacyStatement
from common.taxonomy import Mechanism, PrivacyUnit, Profile, ReleaseKind, TrustModel
from common.wire.disclosure import CohortDisclosure, Disclosure, Extrapolation, ReleaseDisclosure

SCOPE: Final = "a device that took part in every release"
SCALES: Final = (10_000, 100_000, 1_000_000)
SAMPLING: Final = "none: whoever takes part is charged the unamplified cost, because who took part is known"

_TRUST: Final = {
    TrustModel.LOCAL: ("The device's own software adds the noise as it says.",),
    TrustModel.DISTRIBUTED: (
        "Secure aggregation is not broken: the server sees the noised sum alone.",
        "In every round at least the policy's share of devices is honest and adds its part of the noise.",
        "The enrolment authority does not certify devices that are not there.",
    ),
}
_NOT_PROTECTED: Final = {
    PrivacyUnit.USER: (
        "That a device took part, and in which rounds.",
        "Facts about the population, which the model exists to learn.",
        "One person with two devices: each device is protected for itself.",
        "A single masked share if secure aggregation fails: its own noise is far too small.",
        "What serving shows: placements, impressions and clicks have their own rules.",
    ),
    PrivacyUnit.RECORD: (
        "A person with many records: the figure is for one record, and groups of them cost much more.",
        "That a device took part, and in which rounds.",
        "Facts about the population, which the model exists to learn.",
        "What serving shows: placements, impressions and clicks have their own rules.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Releases of one kind that were made.

    Attributes:
        use: one of them, in the accountant's words.
        count: how many.
        dimension: length of the released vector.
        clipping_norm: C of the last one.
        adaptive: True if C moved.
    """

    kind: ReleaseKind
    use: MechanismUse
    count: int
    dimension: int
    clipping_norm: float
    adaptive: bool = False


def build(
    profile: Profile,
    made: Sequence[Made],
    *,
    deltas: Mapping[Line, float],
    randomness: str,
    cohort: CohortDisclosure,
    scales: Sequence[int] = SCALES,
) -> Disclosure:
    """The disclosure of one training.

    Args:
        profile: how devices were protected.
        made: every kind of release, at least one.
        deltas: δ of each line that occurs.
        randomness: where the noise came from, in words.
        cohort: how many devices there really were.
        scales: larger cohorts for which the cost is extrapolated.

    Raises:
        ContractError: uses of one entry are unlike, or a mechanism is unknown to the accountant.
    """
    by_line: dict[Line, list[Made]] = {}
    for entry in made:
        by_line.setdefault(line_of([entry.use]), []).append(entry)
    totals = tuple(
        _statement(_uses(entries), deltas[line], randomness, scope=SCOPE) for line, entries in by_line.items()
    )
    return Disclosure(
        profile=profile,
        totals=totals,
        releases=tuple(_release(entry, deltas[line_of([entry.use])], randomness) for entry in made),
        sampling_assumption=SAMPLING,
        trust_assumptions=_distinct(_TRUST.get(line.trust, ()) for line in by_line),
        randomness=randomness,
        cohort=cohort,
        extrapolations=tuple(
            found for line, entries in by_line.items() for found in _extrapolated(entries, deltas[line], cohort, scales)
        ),
        not_protected=_distinct(_NOT_PROTECTED[line.unit] for line in by_line),
    )


def cohort_disclosure(rosters: Sequence[int], contributions: Sequence[int]) -> CohortDisclosure:
    """Minimum and median over rounds of how many devices were there and how many are in the sum."""
    return CohortDisclosure(
        rounds=len(rosters),
        roster_min=min(rosters),
        roster_median=statistics.median(rosters),
        contributions_min=min(contributions),
        contributions_median=statistics.median(contributions),
    )


def _release(entry: Made, delta: float, randomness: str) -> ReleaseDisclosure:
    return ReleaseDisclosure(
        kind=entry.kind,
        mechanism=entry.use.mechanism,
        dimension=entry.dimension,
        clipping_norm=entry.clipping_norm,
        clipping_norm_adaptive=entry.adaptive,
        noise_multiplier=entry.use.noise_multiplier,
        noise_stddev=entry.use.noise_multiplier * entry.clipping_norm,
        participations_max=entry.count,
        statement=_statement(_uses([entry]), delta, randomness, scope="all releases of this kind"),
    )


def _extrapolated(
    entries: Sequence[Made], delta: float, cohort: CohortDisclosure, scales: Sequence[int]
) -> list[Extrapolation]:
    """The same noise on the mean of a bigger cohort: z grows with the number of devices. User-level sums only."""
    if any(entry.use.mechanism is not Mechanism.SKELLAM for entry in entries):
        return []
    found = []
    for devices in scales:
        factor = devices / max(cohort.contributions_median, 1)
        if factor <= 1:
            continue
        uses = [use.model_copy(update={"noise_multiplier": use.noise_multiplier * factor}) for use in _uses(entries)]
        statement = _statement(uses, delta, "extrapolated: no such training was run", scope=SCOPE)
        found.append(Extrapolation(devices=devices, noise_multiplier=uses[0].noise_multiplier, statement=statement))
    return found


def _uses(entries: Sequence[Made]) -> list[MechanismUse]:
    return [entry.use.model_copy(update={"count": entry.use.count * entry.count}) for entry in entries]


def _statement(uses: Sequence[MechanismUse], delta: float, randomness: str, *, scope: str) -> PrivacyStatement:
    return accountant.statement(uses, delta, randomness, scope=scope)


def _distinct(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    texts: dict[str, None] = {}
    for group in groups:
        texts.update(dict.fromkeys(group))
    return tuple(texts)
