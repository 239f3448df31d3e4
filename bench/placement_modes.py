"""Mode 2 on held-out shelves: exact values of a private pick, and the share of mode 1's gain that it keeps.

The device draws once per store and week, from scores at its first basket there, and repeats that answer; the service
reads it as E[Y | pick] and lets g choose on the whole shelf. Expectations over the draw are exact, and equal scores
are told apart as g does it, in every mode. Shares of gain, each with its theory:

*over uniform*, on the list, for the answer shown as it is: m·(high - low)/D times what the best m are worth (it knows
no staleness); *over mode 0*, on the whole shelf, for the answer as g uses it. There, theory is the best that any
reading could do that knows of each candidate its place in the list's contextual order and nothing else: with the
answer, and without any. What the answer itself can add is the difference of these two.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from bench.placement_data import Shelves
from common.privacy.posterior import posterior
from common.privacy.top_m import TopM, best_chosen, probabilities, share_kept
from policies.placement.tie_break import stable_hash

Floats = npt.NDArray[np.float64]
PERCENT: Final = (
    "theory, over uniform",
    "measured, over uniform",
    "no answer at best, over mode 0",
    "theory, over mode 0",
    "by g, over mode 0",
)


def pick_values(
    held: Shelves, personal: Floats, contextual: Floats, drawn: Floats, *, size: int, epsilon: float, spread: float
) -> dict[str, float]:
    """Exact expectations over the mechanism's draw.

    Args:
        held: the shelves.
        personal: Y of every row at the moment of its basket.
        contextual: the same from the page alone.
        drawn: Y of the listed candidates when the pick is drawn, ``[n, LISTED]``.
        size: K; the first of the list.
        epsilon: ε of one draw.
        spread: what the service assumes of people's log-odds.
    """
    mechanism = TopM(candidates=size, chosen=best_chosen(size, epsilon), epsilon=epsilon)
    listed = held.listed[:, :size]
    outcome = held.rows.labels[listed].astype(np.float64)
    answer = probabilities(mechanism, drawn[:, :size])
    uniform, best = float(outcome.mean()), _of_best(outcome, personal[listed], 1)
    shown = float((answer * outcome).sum(1).mean())
    labels = held.rows.labels.astype(np.float64)
    served, most = labels[_firsts(held, contextual)], float(labels[_firsts(held, personal)].mean())
    base, used = float(served.mean()), float(_used(held, contextual, answer, mechanism, spread=spread).mean())
    order = np.argsort(-contextual[listed], axis=1, kind="stable")
    told, known = (np.take_along_axis(table, order, axis=1) for table in (answer, outcome))
    silent, spoken = _readings(told, np.column_stack([known, served]))
    gain = _of_best(outcome, personal[listed], mechanism.chosen) - uniform
    return {
        "m": mechanism.chosen,
        "uniform on the list": uniform,
        "mode 1 on the list": best,
        "pick shown": shown,
        "pick by g": used,
        PERCENT[0]: share_kept(mechanism, gain, best - uniform),
        PERCENT[1]: (shown - uniform) / (best - uniform),
        PERCENT[2]: (silent - base) / (most - base),
        PERCENT[3]: (spoken - base) / (most - base),
        PERCENT[4]: (used - base) / (most - base),
    }


def _readings(answer: Floats, outcome: Floats) -> tuple[float, float]:
    """Value of the best choice without an answer, and of the best choice for each answer; candidates in columns."""
    joint = answer.T @ outcome / len(outcome)
    return float(outcome.mean(0).max()), float(joint.max(1).sum())


def _used(held: Shelves, contextual: Floats, answer: Floats, mechanism: TopM, *, spread: float) -> Floats:
    """Expected outcome of what g chooses on each shelf given the answer, over all answers, ``[n]``."""
    out = np.zeros(len(held.starts))
    for index, start in enumerate(held.starts):
        rows = slice(int(start), int(start + held.sizes[index]))
        listed = held.listed[index, : mechanism.candidates]
        labels, scores = held.rows.labels[rows], contextual[rows].copy()
        responses = contextual[listed].tolist()
        for place, probability in enumerate(answer[index]):
            scores[listed - start] = posterior(mechanism, responses, place, spread=spread)
            out[index] += probability * labels[_first(scores, held.products[rows], index)]
    return out


def _firsts(held: Shelves, scores: Floats) -> npt.NDArray[np.int64]:
    """The row that g shows of each shelf."""
    ends = held.starts + held.sizes
    pairs = enumerate(zip(held.starts.tolist(), ends.tolist(), strict=True))
    return np.array([a + _first(scores[a:b], held.products[a:b], index) for index, (a, b) in pairs], np.int64)


def _first(scores: Floats, products: npt.NDArray[np.int64], index: int) -> int:
    """The place that greedy g takes: the best score, and of equals the one that the stable hash puts first."""
    tied = np.flatnonzero(scores == scores.max())
    if len(tied) == 1:
        return int(tied[0])
    return int(min(tied, key=lambda place: stable_hash(str(index), str(int(products[place])))))


def _of_best(outcome: Floats, scores: Floats, many: int) -> float:
    """Mean outcome of the ``many`` best-scoring candidates of each row."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :many]
    return float(np.take_along_axis(outcome, order, axis=1).mean())
