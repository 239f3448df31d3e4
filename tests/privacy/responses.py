"""Top-m randomised response and ways to get it wrong, each as an exact distribution over what an observer sees."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

from common.privacy.top_m import TopM, exact_probabilities, top

Scores = Sequence[float]
Seen = Mapping[Hashable, Fraction]
Distribution = Callable[[Scores], Seen]


def all_inputs(candidates: int) -> Iterable[tuple[float, ...]]:
    """Every order of the candidates that scores can express, ties and capped candidates included."""
    return itertools.product([-np.inf, *map(float, range(1, candidates))], repeat=candidates)


def correct(mechanism: TopM) -> Distribution:
    return lambda scores: dict(enumerate(exact_probabilities(mechanism, top(mechanism, scores))))


def m_follows_the_scores(mechanism: TopM) -> Distribution:
    """S is whoever scores at least 2: how many that are depends on the person."""

    def seen(scores: Scores) -> Seen:
        best = [i for i, score in enumerate(scores) if score >= 2]
        high, low = mechanism.weights
        total = len(best) * high + (mechanism.candidates - len(best)) * low
        return {i: Fraction(high if i in best else low, total) for i in range(mechanism.candidates)}

    return seen


def coin_is_told(mechanism: TopM) -> Distribution:
    """The observer learns whether the answer is one of the best."""

    def seen(scores: Scores) -> Seen:
        best = top(mechanism, scores)
        return {(i, i in best): p for i, p in enumerate(exact_probabilities(mechanism, best))}

    return seen


def drawn_twice(mechanism: TopM) -> Distribution:
    """A retry draws again, and both answers are seen."""

    def seen(scores: Scores) -> Seen:
        single = exact_probabilities(mechanism, top(mechanism, scores))
        return {(i, j): p * q for (i, p), (j, q) in itertools.product(enumerate(single), repeat=2)}

    return seen


def capped_leave_the_domain(mechanism: TopM) -> Distribution:
    """What must not be shown is never answered."""

    def seen(scores: Scores) -> Seen:
        single = exact_probabilities(mechanism, top(mechanism, scores))
        left = {i: p for i, p in enumerate(single) if scores[i] > -np.inf} or dict(enumerate(single))
        total = sum(left.values())
        return {i: p / total for i, p in left.items()}

    return seen


def rounded_up(mechanism: TopM) -> Distribution:
    """The upper weight is the next float that looks right, one part in a million too large."""

    def seen(scores: Scores) -> Seen:
        best = top(mechanism, scores)
        high, low = mechanism.weights
        high += high // 1_000_000 + 1
        total = mechanism.chosen * high + (mechanism.candidates - mechanism.chosen) * low
        return {i: Fraction(high if i in best else low, total) for i in range(mechanism.candidates)}

    return seen


def distinct(distribution: Distribution, candidates: int) -> list[Seen]:
    """What can be seen of all inputs, each distribution once."""
    found = {tuple(sorted(seen.items(), key=repr)): seen for seen in map(distribution, all_inputs(candidates))}
    return list(found.values())


def worst_ratio(distributions: Sequence[Seen]) -> Fraction | None:
    """The largest ratio between two inputs' probabilities of one observation; None if it is infinite."""
    answers = {answer for seen in distributions for answer in seen}
    worst = Fraction(1)
    for answer in answers:
        values = [seen.get(answer, Fraction(0)) for seen in distributions]
        if min(values) == 0:
            return None
        worst = max(worst, max(values) / min(values))
    return worst


def exp_of(epsilon: float) -> Fraction:
    """e^ε from below, to sixty digits."""
    with localcontext() as context:
        context.prec = 60
        return Fraction(Decimal(epsilon).exp()) * (1 - Fraction(1, 10**55))
