"""Judges policies on one log. Owns the answer's form; prints nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from common.errors import InputError
from policies.evaluation.diagnostics import Diagnostics, diagnose
from policies.evaluation.estimators import ESTIMATORS, Modelled, difference, direct_method, on_policy
from policies.evaluation.intervals import Estimate
from policies.evaluation.rows import LogRow
from policies.evaluation.sample import Sample
from policies.evaluation.targets import TargetPolicy, as_logged, judgeable, seen_from


@dataclass(frozen=True, slots=True)
class Judged:
    """One policy on one log; ``direct`` is DM, which has no interval."""

    policy: str
    estimates: tuple[Estimate, ...]
    diagnostics: Diagnostics
    direct: Modelled

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the estimates."""
        return (*self.diagnostics.warnings, self.direct.warning)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All of it.

    Attributes:
        rows, decisions: how much of the log was judged.
        with_least_bid: turns among them in which an exchange asked for a least bid; policies are judged under it.
        left_out: decisions that were not judged, because there was a least bid and not every candidate's bid.
        logged: what the logging policy earned a turn.
        policies: each policy judged.
        differences: of each later policy to the first, by name; empty for a single policy.
    """

    rows: int
    decisions: int
    with_least_bid: int
    left_out: int
    logged: Estimate
    policies: tuple[Judged, ...]
    differences: dict[str, tuple[Estimate, ...]]

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def judge(rows: Sequence[LogRow], targets: Sequence[tuple[str, TargetPolicy]]) -> Verdict:
    """Judge policies on a log; the first is the one that the others are compared with.

    Raises:
        InputError, OutOfRange: as for ``seen_from``; or no decision is left.
    """
    rows, left_out = judgeable(rows)
    if left_out and not rows:
        raise InputError("every decision of the log has a least bid, and none has the bids of all its candidates")
    samples: dict[str, Sample] = {name: seen_from(rows, target) for name, target in targets}
    logged = seen_from(rows, as_logged)
    first = next(iter(samples))
    return Verdict(
        rows=len(rows),
        decisions=len({row.decision_id for row in rows}),
        with_least_bid=sum(row.least_bid_micros > 0 for row in rows),
        left_out=left_out,
        logged=on_policy(logged),
        policies=tuple(
            Judged(name, tuple(estimate(sample) for estimate in ESTIMATORS), diagnose(sample), direct_method(sample))
            for name, sample in samples.items()
        ),
        differences={
            name: tuple(difference(sample, samples[first])) for name, sample in samples.items() if name != first
        },
    )
