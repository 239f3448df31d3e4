"""Top-m randomised response: one index out of a public list of K candidates, ε-LDP for everything that chose it.

Let S be the m candidates with the highest scores. An index in S is drawn with weight ``high``, any other with weight
``low``: integers with high/low ≤ e^ε exactly, drawn without rounding. |S| = m whatever the scores are, so the total
D = m·high + (K - m)·low is a public constant, and the probability of any answer differs by a factor of at most
high/low ≤ e^ε between any two inputs: pure ε, unit user, replace-one, trust local.

m, ε and the list come from public documents. The draw is made at once from the m·high + (K - m)·low equally likely
numbers: there is no coin "true answer or not" that could be kept, logged or sent. Drawing again for the same cause is
a new release; ``client.pick`` keeps the answer instead.

**Source:** Wang, Blocki, Li, Jha 2016/2017 (k-subset mechanism), its one-draw form; Kairouz, Oh, Viswanath 2014 for
m = 1 (K-ary randomised response). Own: integer weights, after Mironov 2012 on floating-point mechanisms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.errors import ContractError
from common.privacy.parameters import MechanismUse
from common.privacy.randomness import NoiseSource
from common.taxonomy import Mechanism, NeighbouringRelation, PrivacyUnit, TrustModel

FloatArray = npt.NDArray[np.float64]

EPSILON_MAX = 12.0
CANDIDATES_MAX = 1024
_LOW = 1 << 32
_ROUNDING = 1 - 2.0**-48  # far more than exp() and the product can be off


class TopM(BaseModel):
    """The public constants of one mechanism.

    Attributes:
        candidates: K, the length of the public list.
        chosen: m, how many candidates count as the best; never a function of the scores.
        epsilon: ε of one draw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    candidates: int = Field(ge=2, le=CANDIDATES_MAX)
    chosen: int = Field(ge=1, le=CANDIDATES_MAX)
    epsilon: float = Field(gt=0, le=EPSILON_MAX, allow_inf_nan=False)

    @model_validator(mode="after")
    def _some_are_left_out(self) -> TopM:
        if self.chosen >= self.candidates:
            raise ValueError("fewer candidates are chosen than there are")
        return self

    @property
    def weights(self) -> tuple[int, int]:
        """Integer weights (high, low) of an index among the best and of any other: high/low ≤ e^ε, hardly below."""
        return max(_LOW, math.floor(math.exp(self.epsilon) * _ROUNDING * _LOW)), _LOW

    @property
    def total(self) -> int:
        """D: the sum of all weights, the same for every input."""
        high, low = self.weights
        return self.chosen * high + (self.candidates - self.chosen) * low

    @property
    def truth(self) -> float:
        """Share of an answer that depends on the scores at all: m·(high - low)/D. The rest is a uniform draw."""
        high, low = self.weights
        return self.chosen * (high - low) / self.total

    def release(self) -> MechanismUse:
        """What one fresh draw costs, in the accountant's words."""
        return MechanismUse(
            mechanism=Mechanism.TOP_M,
            noise_multiplier=0.0,
            sampling_rate=1.0,
            count=1,
            unit=PrivacyUnit.USER,
            relation=NeighbouringRelation.REPLACE,
            trust=TrustModel.LOCAL,
            epsilon=self.epsilon,
            candidates=self.candidates,
            chosen=self.chosen,
        )


def best_chosen(candidates: int, epsilon: float) -> int:
    """The m that serves large lists best: the whole number nearest to K/(e^ε + 1), at least 1."""
    return min(candidates - 1, max(1, round(candidates / (math.exp(epsilon) + 1))))


def top(mechanism: TopM, scores: Sequence[float] | FloatArray) -> tuple[int, ...]:
    """S: indexes of the m highest scores, ascending; ties go to the earlier in public order.

    Args:
        mechanism: its constants.
        scores: one per candidate, in the public order; -inf keeps a capped candidate in the domain.

    Raises:
        ContractError: another number of scores, or one that is NaN.
    """
    row = np.asarray(scores, np.float64)
    return tuple(int(index) for index in np.flatnonzero(members(mechanism, row[np.newaxis])[0]))


def probabilities(mechanism: TopM, scores: FloatArray) -> FloatArray:
    """Probability of each answer given each row of scores, float64 ``[n, K]``: for evaluation, never sent."""
    high, low = mechanism.weights
    return np.where(members(mechanism, np.asarray(scores, np.float64)), high, low) / mechanism.total


def exact_probabilities(mechanism: TopM, best: Sequence[int]) -> tuple[Fraction, ...]:
    """The same for one set of best candidates, as the fractions that are actually drawn from."""
    high, low = mechanism.weights
    return tuple(Fraction(high if i in best else low, mechanism.total) for i in range(mechanism.candidates))


def draw(mechanism: TopM, scores: Sequence[float] | FloatArray, noise: NoiseSource) -> int:
    """One answer, drawn afresh. Charge it before, keep it after, and never draw again for the same question.

    Args:
        mechanism: its constants.
        scores: one per candidate, in the public order.
        noise: secret randomness.

    **Privacy:** spends ε once, unit user, replace-one, local.
    """
    return pick_at(mechanism, top(mechanism, scores), noise.below(mechanism.total))


def pick_at(mechanism: TopM, best: Sequence[int], number: int) -> int:
    """The index that owns ``number`` when each index owns as many numbers as its weight, in public order."""
    high, low = mechanism.weights
    chosen = frozenset(best)
    for index in range(mechanism.candidates):
        number -= high if index in chosen else low
        if number < 0:
            return index
    raise ContractError("the number is not below the total weight")


def share_kept(mechanism: TopM, gain_of_top: float, gain_of_best: float) -> float:
    """Share of the gain over a uniform choice that serving the answer keeps: truth times what the best m are worth.

    Args:
        mechanism: its constants.
        gain_of_top: mean value of the m best candidates, less that of all.
        gain_of_best: value of the best candidate, less the mean of all.
    """
    return mechanism.truth * gain_of_top / gain_of_best if gain_of_best else 0.0


def members(mechanism: TopM, scores: FloatArray) -> npt.NDArray[np.bool_]:
    """Who is in S, bool ``[n, K]``, for each row of scores; arguments and errors as ``top``."""
    if scores.ndim != 2 or scores.shape[1] != mechanism.candidates:
        raise ContractError("one score for each candidate, in the public order")
    if np.isnan(scores).any():
        raise ContractError("a score is not a number")
    order = np.argsort(-scores, axis=1, kind="stable")[:, : mechanism.chosen]
    members = np.zeros(scores.shape, bool)
    np.put_along_axis(members, order, np.True_, axis=1)
    return members
