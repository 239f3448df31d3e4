"""What estimators work on. Owns the arrays and their checks; knows nothing of files or of g.

Symbols, as in Saito et al. 2021 (arXiv 2008.07146): ``n`` logged turns; context x, shown action a, reward r; logging
policy π₀, target policy π; importance weight w = π(a|x) / π₀(a|x); reward model q̂(x, a) ≈ E[r | x, a].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import NonFiniteValue, OutOfRange, ShapeMismatch

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One log seen from one target policy.

    Attributes:
        rewards: r, float64 ``[n]``.
        weights: w, float64 ``[n]``, at least 0; of a slate's later turns, the product over the turns so far.
        model_shown: q̂(x, a) of what was shown, float64 ``[n]``.
        model_target: Σ_a π(a|x) q̂(x, a), float64 ``[n]``; in later turns of a slate times the weight of those before.
        before: weight of the turns before, float64 ``[n]``; 1 in a decision's first turn.
        clusters: turns of one decision depend on each other and share a number, int64 ``[n]``.
        idle: weight of outcomes that the target leaves to the fallback and that a log that filled the position cannot
            show, float64 ``[n]``; their reward is known to be 0, and SNIPS has to count them.
        uncovered: mean probability that π gives to what π₀ never shows; NaN where the log does not say.
    """

    rewards: Floats
    weights: Floats
    model_shown: Floats
    model_target: Floats
    before: Floats
    clusters: Integers
    idle: Floats
    uncovered: float = float("nan")

    def __post_init__(self) -> None:
        """Refuse what no estimator could use.

        Raises:
            ShapeMismatch: the arrays are not all of one length, or empty.
            NonFiniteValue: a number is NaN or infinite.
            OutOfRange: a weight is negative.
        """
        arrays = [self.rewards, self.weights, self.model_shown, self.model_target, self.before, self.idle]
        sizes = {array.shape for array in (*arrays, self.clusters)}
        if len(sizes) != 1 or len(self.rewards.shape) != 1 or not len(self.rewards):
            raise ShapeMismatch("a sample needs arrays of one length, and at least one turn")
        if not all(np.isfinite(array).all() for array in arrays):
            raise NonFiniteValue("a reward, weight or model value is not finite")
        if (self.weights < 0).any() or (self.idle < 0).any():
            raise OutOfRange("an importance weight is negative")

    def __len__(self) -> int:
        """Number of turns."""
        return len(self.rewards)


def single_turns(
    rewards: Floats,
    propensities: Floats,
    target: Floats,
    *,
    model_shown: Floats | None = None,
    model_target: Floats | None = None,
) -> Sample:
    """The sample of decisions with one position each.

    Args:
        rewards: r, ``[n]``.
        propensities: π₀(a|x) of what was shown, ``[n]``, in (0, 1].
        target: π(a|x) of it, ``[n]``, in [0, 1].
        model_shown: q̂(x, a), ``[n]``; without a model, 0.
        model_target: Σ_a π(a|x) q̂(x, a), ``[n]``; without a model, 0.

    Raises:
        OutOfRange: a probability is none, or what was shown had none.
        ShapeMismatch, NonFiniteValue: as for ``Sample``.
    """
    if not ((propensities > 0) & (propensities <= 1)).all():
        raise OutOfRange("a logged propensity must be above 0 and at most 1")
    if not ((target >= 0) & (target <= 1)).all():
        raise OutOfRange("a target probability must be from 0 to 1")
    if propensities.shape != target.shape:
        raise ShapeMismatch("each turn needs one propensity and one target probability")
    nothing = np.zeros(len(rewards))
    return Sample(
        rewards=np.asarray(rewards, np.float64),
        weights=target / propensities,
        model_shown=nothing if model_shown is None else model_shown,
        model_target=nothing if model_target is None else model_target,
        before=np.ones(len(rewards)),
        clusters=np.arange(len(rewards)),
        idle=nothing,
    )
