"""A log seen from a target policy. Owns how a placement policy document becomes probabilities on logged turns.

The candidates of a turn are taken as logged: filters, caps and pacing are those that were in force. So is what an
exchange asked to be offered at least: whoever offers less takes part under no policy. What differs is score, floor,
pool and strategy. Turns after the first are weighted with the turns before them.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from common.errors import InputError, OutOfRange
from common.wire.messages import Creative
from policies.evaluation import reward_model
from policies.evaluation.rows import LoggedCandidate, LogRow
from policies.evaluation.sample import Floats, Integers, Sample
from policies.placement.document import PlacementPolicy, ScoreRule
from policies.placement.inputs import NO_BID, Bid, Evidence
from policies.placement.protocol import Scored
from policies.placement.scoring import calibrated
from policies.placement.strategies import floor_of, pool_of, strategy_of
from policies.placement.tie_break import ranked

TargetPolicy = Callable[[LogRow], Sequence[float]]
"""Probabilities of a turn's candidates, in their order; what is missing to 1 leaves the position to the fallback."""
_SUM_TOLERANCE = 1e-6


def by_document(policy: PlacementPolicy) -> TargetPolicy:
    """The probabilities of a policy document.

    Its pool is that of the decision: who was shown in an earlier turn was of it and is gone, and nobody moves up. Where
    the policy would not have shown one of those, the turn has no weight.
    """
    strategy, floor, pool = strategy_of(policy), floor_of(policy), pool_of(policy)

    def probabilities(row: LogRow) -> list[float]:
        order = ranked([_scored(candidate, policy.score) for candidate in row.candidates], row.decision_id)
        left = None if pool is None else max(0, pool - row.turn)
        choices = [candidate for candidate in order[:left] if candidate.score >= floor]
        share = dict.fromkeys((c.id for c in row.candidates), 0.0)
        if choices:
            share |= zip((c.creative.creative_id for c in choices), strategy(choices), strict=True)
        return [share[c.id] for c in row.candidates]

    return probabilities


def by_name(name: str) -> TargetPolicy:
    """Probabilities that the log itself holds under this name."""

    def probabilities(row: LogRow) -> list[float]:
        if row.candidates and not any(name in candidate.targets for candidate in row.candidates):
            raise InputError(f"decision {row.decision_id}, turn {row.turn}: no candidate has a target {name!r}")
        return [candidate.targets.get(name, 0.0) for candidate in row.candidates]

    return probabilities


def as_logged(row: LogRow) -> list[float]:
    """The logging policy itself, as far as the log holds it."""
    return [
        row.propensity if c.id == row.shown else (0.0 if c.propensity is None else c.propensity) for c in row.candidates
    ]


def uniform(row: LogRow) -> list[float]:
    """Every candidate alike: what no policy at all would do."""
    return [1 / len(row.candidates)] * len(row.candidates) if row.candidates else []


def judgeable(rows: Sequence[LogRow]) -> tuple[list[LogRow], int]:
    """The turns of decisions whose least bids can be heeded, and how many decisions were left out.

    Where something had to be offered at least and a candidate's bid was not logged, nobody knows who could have been
    shown: the whole decision is left out, because its turns hang together.
    """
    dark = {row.decision_id for row in rows if None in row.reaching}
    return [row for row in rows if row.decision_id not in dark], len(dark)


def seen_from(rows: Sequence[LogRow], target: TargetPolicy) -> Sample:
    """The sample that estimators need, with a cross-fitted reward model.

    Args:
        rows: the log, in any order; see ``judgeable``.
        target: the policy to be judged.

    Raises:
        InputError: a decision lacks a turn, has one twice, there is nothing at all, or a least bid without the bids.
        OutOfRange: the target's probabilities are none.
    """
    ordered = _in_order(rows)
    numbers: dict[str, int] = {}
    decisions: dict[str, int] = {}
    clusters = np.array([decisions.setdefault(row.decision_id, len(decisions)) for row in ordered], np.int64)
    folds = reward_model.folds_of(clusters)
    turns = [_Turn(row, _heeding(row, target), numbers) for row in ordered]
    shown = np.array([turn.shown for turn in turns], np.int64)
    of_shown = np.array([turn.response for turn in turns])
    rewards = np.array([row.reward for row in ordered], np.float64)
    model = reward_model.fit(folds, shown, of_shown, rewards, actions=len(numbers))
    pairs = np.repeat(np.arange(len(turns)), [len(turn.actions) for turn in turns])
    actions = np.array([a for turn in turns for a in turn.actions], np.int64)
    responses = np.array([c.response for row in ordered for c in row.candidates])
    predicted = model.predict(folds[pairs], actions, responses)
    chosen = np.array([p for turn in turns for p in turn.target])
    was_shown = np.array([c.id == row.shown for row in ordered for c in row.candidates], bool)
    ratio = np.array([turn.ratio for turn in turns])
    before = _before(clusters, ratio)
    idle = _so_far(clusters, before * np.array([turn.idle for turn in turns]))
    return Sample(
        rewards=rewards,
        weights=before * ratio,
        model_shown=np.asarray(np.bincount(pairs, predicted * was_shown, len(turns)), np.float64),
        model_target=before * np.bincount(pairs, predicted * chosen, len(turns)),
        before=before,
        clusters=clusters,
        idle=idle,
        uncovered=_uncovered(ordered, turns),
    )


class _Turn:
    """One row's numbers: which action was shown, the target's probabilities, and its ratio to the propensity."""

    __slots__ = ("actions", "idle", "ratio", "response", "shown", "target")

    def __init__(self, row: LogRow, target: Sequence[float], numbers: dict[str, int]) -> None:
        total = sum(target)
        if len(target) != len(row.candidates) or min(target, default=0) < 0 or total > 1 + _SUM_TOLERANCE:
            raise OutOfRange(f"decision {row.decision_id}, turn {row.turn}: the target's probabilities are none")
        self.target = target
        self.actions = [numbers.setdefault(c.id, len(numbers)) for c in row.candidates]
        place = next((i for i, c in enumerate(row.candidates) if c.id == row.shown), None)
        self.shown = -1 if place is None else self.actions[place]
        self.response = 0.0 if place is None else row.candidates[place].response
        fallback = 0.0 if total > 1 - _SUM_TOLERANCE else 1 - total
        self.ratio = (fallback if place is None else target[place]) / row.propensity
        self.idle = fallback if place is not None and not _may_idle(row) else 0.0


def _heeding(row: LogRow, target: TargetPolicy) -> Sequence[float]:
    """The target's probabilities where only who offers enough takes part: before score, pool and strategy."""
    within = row.reaching
    if None in within:
        raise InputError(f"decision {row.decision_id}, turn {row.turn}: a least bid, and a candidate without its bid")
    if all(within):
        return target(row)
    able = tuple(itertools.compress(row.candidates, within))
    found = target(row.model_copy(update={"candidates": able}))
    if len(found) != len(able):
        raise OutOfRange(f"decision {row.decision_id}, turn {row.turn}: the target's probabilities are none")
    shares = iter(found)
    return [next(shares) if may else 0.0 for may in within]


def _may_idle(row: LogRow) -> bool:
    """Whether the logging policy itself sometimes left this turn to the fallback, by its own propensities."""
    logged = [c.propensity for c in row.candidates if c.propensity is not None]
    return len(logged) == len(row.candidates) and sum(logged) < 1 - _SUM_TOLERANCE


def _so_far(clusters: Integers, values: Floats) -> Floats:
    """Sum over the same decision's turns up to each one: a policy that left a position leaves the later ones too."""
    sums = np.cumsum(values)
    first = np.concatenate([[True], clusters[1:] != clusters[:-1]])
    base = np.where(first, sums - values, 0.0)[np.maximum.accumulate(np.where(first, np.arange(len(values)), 0))]
    return np.asarray(np.maximum(sums - base, 0.0))


def _before(clusters: Integers, ratio: Floats) -> Floats:
    """Product of the ratios of the same decision's earlier turns; rows are in order."""
    before = np.ones(len(ratio))
    for i in range(1, len(ratio)):
        if clusters[i] == clusters[i - 1]:
            before[i] = before[i - 1] * ratio[i - 1]
    return before


def _uncovered(rows: Sequence[LogRow], turns: Sequence[_Turn]) -> float:
    """Mean target probability of candidates that the logging policy never shows; NaN where propensities lack."""
    if any(c.propensity is None for row in rows for c in row.candidates):
        return float("nan")
    gone = [
        sum(p for c, p in zip(row.candidates, turn.target, strict=True) if c.propensity == 0)
        for row, turn in zip(rows, turns, strict=True)
    ]
    return float(np.mean(gone))


def _scored(candidate: LoggedCandidate, rule: ScoreRule) -> Scored:
    response = calibrated(candidate.response, rule.calibration)
    bid = NO_BID if candidate.bid_micros is None else Bid(candidate.bid_micros)
    value = rule.kind == "value"
    evidence = Evidence(max(candidate.views, candidate.responses), candidate.responses)
    return Scored(
        Creative.model_construct(creative_id=candidate.id),
        bid.value_of(response) if value else response,
        response,
        bid.value_of(1.0) if value else 1.0,
        evidence,
        candidate.response,
    )


def _in_order(rows: Sequence[LogRow]) -> list[LogRow]:
    """By decision, and by turn within it."""
    if not rows:
        raise InputError("the log is empty")
    decisions: dict[str, list[LogRow]] = defaultdict(list)
    for row in rows:
        decisions[row.decision_id].append(row)
    for name, turns in decisions.items():
        turns.sort(key=lambda row: row.turn)
        if [row.turn for row in turns] != list(range(len(turns))):
            raise InputError(f"decision {name}: its turns are not 0, 1, … each once")
    return [row for turns in decisions.values() for row in turns]
