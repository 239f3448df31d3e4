"""Mode 2 on held-out shelves: exact values of a private pick, and the share of mode 1's gain that it keeps.

The device draws once per store and week, from scores at its first basket there, and repeats that answer; the service
reads it as E[Y | pick] and lets g choose on the whole shelf. Expectations over the draw are exact. Two shares of gain:
*over uniform* on the list, for the answer shown as it is, which is what theory speaks of (m·(high - low)/D times what
the best m are worth; it knows no staleness); and *over mode 0* on the whole shelf, for the answer as g uses it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from bench.placement_data import Shelves
from common.privacy.posterior import posterior
from common.privacy.top_m import TopM, best_chosen, probabilities, share_kept

Floats = npt.NDArray[np.float64]
PERCENT: Final = ("theory, over uniform", "measured, over uniform", "by g, over mode 0")


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
    whole = [_first(held, contextual), _first(held, personal)]
    used = float(_used(held, contextual, answer, mechanism, spread=spread).mean())
    gain = _of_best(outcome, personal[listed], mechanism.chosen) - uniform
    return {
        "m": mechanism.chosen,
        "uniform on the list": uniform,
        "mode 1 on the list": best,
        "pick shown": shown,
        "pick by g": used,
        PERCENT[0]: share_kept(mechanism, gain, best - uniform),
        PERCENT[1]: (shown - uniform) / (best - uniform),
        PERCENT[2]: (used - whole[0]) / (whole[1] - whole[0]),
    }


def _used(held: Shelves, contextual: Floats, answer: Floats, mechanism: TopM, *, spread: float) -> Floats:
    """Expected outcome of what g chooses on each shelf given the answer, over all answers, ``[n]``."""
    out = np.zeros(len(held.starts))
    for index, start in enumerate(held.starts):
        rows = slice(int(start), int(start + held.sizes[index]))
        listed = held.listed[index, : mechanism.candidates]
        labels, scores = held.rows.labels[rows], contextual[rows].copy()
        responses = contextual[listed]
        for place, probability in enumerate(answer[index]):
            scores[listed - start] = posterior(mechanism, responses.tolist(), place, spread=spread)
            out[index] += probability * labels[int(scores.argmax())]
    return out


def _first(held: Shelves, scores: Floats) -> float:
    """Mean outcome of each shelf's best-scoring product; the first of equals."""
    ends = held.starts + held.sizes
    best = [int(a + scores[a:b].argmax()) for a, b in zip(held.starts, ends, strict=True)]
    return float(held.rows.labels[best].mean())


def _of_best(outcome: Floats, scores: Floats, many: int) -> float:
    """Mean outcome of the ``many`` best-scoring candidates of each row."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :many]
    return float(np.take_along_axis(outcome, order, axis=1).mean())
