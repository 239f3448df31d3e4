"""The reward model q̂ of DM and DR. Owns one simple, cross-fitted model; small enough to be understood at a glance.

q̂(x, a) = Y(x, a) · (Σ r of a + m·c·ȳ) / (Σ Y of a + m·ȳ): the logged scores Y, corrected by a factor for each creative
that is shrunk towards the whole log's factor c = Σ r / Σ Y with the weight of ``m`` average views. Where no Y is logged
Y = 1, and q̂ is the creative's own mean reward, shrunk towards the log's. The sums leave out the fold that a turn
belongs to (five folds, by decision), so that no turn predicts itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.evaluation.sample import Floats, Integers

FOLDS = 5
PRIOR_STRENGTH = 100.0


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Factors by fold and action; predicts for a turn of fold k with what all folds but k say.

    Attributes:
        factors: float64 ``[FOLDS, actions]``.
        by_response: whether Y were logged.
    """

    factors: Floats
    by_response: bool

    def predict(self, folds: Integers, actions: Integers, responses: Floats) -> Floats:
        """q̂ for pairs of turn and action.

        Args:
            folds: of each pair's turn, int64 ``[m]``.
            actions: int64 ``[m]``.
            responses: Y(x, a), float64 ``[m]``; ignored where the log has none.
        """
        factors = self.factors[folds, actions]
        return np.asarray(factors * responses if self.by_response else factors)


def fit(
    folds: Integers,
    shown: Integers,
    responses: Floats,
    rewards: Floats,
    *,
    actions: int,
    prior_strength: float = PRIOR_STRENGTH,
) -> RewardModel:
    """Fit on the turns that showed something.

    Args:
        folds: int64 ``[n]``, from 0 to ``FOLDS - 1``.
        shown: action of each turn, int64 ``[n]``; below 0 where nothing was shown.
        responses: Y of what was shown, float64 ``[n]``; all 0 where the log has none.
        rewards: float64 ``[n]``.
        actions: how many there are.
        prior_strength: m, in views.
    """
    seen = shown >= 0
    by_response = bool((responses[seen] > 0).any())
    base = responses[seen] if by_response else np.ones(int(seen.sum()))
    cells = (folds * actions + shown)[seen]
    below, above, count = (
        _but_own(np.bincount(cells, values, FOLDS * actions).reshape(FOLDS, actions))
        for values in (base, rewards[seen], np.ones(len(cells)))
    )
    mean = _ratio(below.sum(1), count.sum(1))[:, None]
    common = _ratio(above.sum(1), below.sum(1))[:, None]
    return RewardModel(_ratio(above + prior_strength * common * mean, below + prior_strength * mean), by_response)


def _but_own(by_fold: npt.NDArray[np.number]) -> Floats:
    return np.asarray(by_fold.sum(0) - by_fold, np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def folds_of(clusters: Integers) -> Integers:
    """The fold of each turn; a decision's turns stay together."""
    _, of = np.unique(clusters, return_inverse=True)
    return np.asarray(of % FOLDS, np.int64)
