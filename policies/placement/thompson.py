"""Strategy ``thompson``: P(i) is the posterior probability that i is the best of the candidates left.

With independent posteriors F_j, P(i) = ∫ Π_{j≠i} F_j dF_i. The integral is taken cell by cell on one grid: inside a
cell, whose probability under F_i is ΔF_i, every F_j is taken as linear, and the polynomial that this leaves is
integrated by Gauss-Legendre points, exactly up to degree 7. The candidate is then drawn **from these numbers**, so the
propensity that is logged is the probability of the draw itself, whatever error the quadrature has; that error is only
a difference to ideal Thompson sampling (below 1e-3 with the default cells; a test holds it against closed forms).

A slate takes a new posterior draw at every position, from the candidates left: that keeps propensities exact given the
earlier positions. Ranking by a single joint draw would be another mechanism, whose slates have no such product form.

**Source:** Thompson 1933, "On the Likelihood that One Unknown Probability Exceeds Another"; Agrawal and Goyal 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.placement import beta_table
from policies.placement.document import ThompsonStrategy
from policies.placement.protocol import Probabilities, Scored

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.intp]
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(4)
_TAIL = 6.5
"""Standard deviations beyond which a Gaussian posterior holds less than 1e-10."""
_BETA_TAIL = 1e-8
"""What a Beta posterior holds beyond the ends that it is taken to have."""
_DIVISIBLE = 1e-100
_RESOLVED = 12
"""Even cells that a standard deviation must span, or the posterior gets a grid of its own."""


def thompson(left: Sequence[Scored], rule: ThompsonStrategy) -> Probabilities:
    """Probability of each candidate to be the best."""
    posteriors = _gaussian(left, rule) if rule.posterior == "gaussian" else _beta(left, rule)
    rivals = np.flatnonzero(posteriors.highs >= posteriors.lows.max())  # nobody else can win
    probabilities = np.zeros(len(left))
    if len(rivals) == 1:
        probabilities[rivals] = 1.0
    else:
        edges = _edges(posteriors.lows[rivals], posteriors.highs[rivals], rule.cells)
        probabilities[rivals] = best_of(posteriors.below(rivals, edges))
    return tuple(probabilities.tolist())


@dataclass(frozen=True, slots=True)
class _Posteriors:
    """Where each one has its mass, and its distribution function: of these rows, at these places."""

    lows: Floats
    highs: Floats
    below: Callable[[Integers, Floats], Floats]


def best_of(below: Floats) -> Floats:
    """Probability of each of ``n`` independent variables to be the largest.

    Args:
        below: distribution functions F_i at the edges of the cells, float64 ``[n, cells + 1]``.

    Returns:
        Probabilities that add up to 1, float64 ``[n]``; atoms at equal places are shared evenly.
    """
    low, step = below[:, :-1], np.diff(below, axis=1)
    share = np.zeros_like(low)
    for point, weight in zip((_POINTS + 1) / 2, _WEIGHTS / 2, strict=True):
        inside = low + point * step
        share += weight * _product_of_others(inside)
    wins = (step * share).sum(axis=1)
    return np.asarray(wins / wins.sum())


def _product_of_others(values: Floats) -> Floats:
    """Product over all rows but one's own; where one's own is as good as 0, without a division."""
    some = values.min(axis=0) > _DIVISIBLE
    others = np.empty_like(values)
    np.divide(values.prod(axis=0), values, out=others, where=some)
    rest = values[:, ~some]
    ones = np.ones((1, rest.shape[1]))
    before = np.vstack([ones, np.cumprod(rest[:-1], axis=0)])
    after = np.vstack([np.cumprod(rest[:0:-1], axis=0)[::-1], ones])
    others[:, ~some] = before * after
    return others


def _gaussian(left: Sequence[Scored], rule: ThompsonStrategy) -> _Posteriors:
    """N(score, stddev² · m / (m + views)) with prior strength m."""
    from scipy.special import ndtr

    means = np.array([candidate.score for candidate in left])
    views = np.array([candidate.evidence.views for candidate in left])
    deviations = rule.stddev * np.sqrt(rule.prior_strength / (rule.prior_strength + views))

    def below(rows: Integers, places: Floats) -> Floats:
        return np.asarray(ndtr((places - means[rows, None]) / deviations[rows, None]), np.float64)

    return _Posteriors(means - _TAIL * deviations, means + _TAIL * deviations, below)


def _beta(left: Sequence[Scored], rule: ThompsonStrategy) -> _Posteriors:
    """Scale · Beta(m·Y + responses, m·(1 - Y) + views - responses): the response is uncertain, the bid is not."""
    from scipy.special import betaincinv

    response = np.clip([candidate.response for candidate in left], 1e-6, 1 - 1e-6)
    views = np.array([candidate.evidence.views for candidate in left])
    hits = np.array([candidate.evidence.responses for candidate in left])
    alpha, beta = rule.prior_strength * response + hits, rule.prior_strength * (1 - response) + views - hits
    scale = np.maximum([candidate.scale for candidate in left], 1e-300)
    lows, highs = betaincinv(alpha, beta, _BETA_TAIL), betaincinv(alpha, beta, 1 - _BETA_TAIL)

    def below(rows: Integers, places: Floats) -> Floats:
        spans = lows[rows], highs[rows]
        return beta_table.below(alpha[rows], beta[rows], np.clip(places / scale[rows, None], 0, 1), spans)

    return _Posteriors(scale * lows, scale * highs, below)


def _edges(lows: Floats, highs: Floats, cells: int) -> Floats:
    """Cells where the best is decided: from where the first is certain to have begun to where the last one ends.

    Whoever lies wholly below the highest lower end cannot win. Posteriors that the even cells would not resolve get
    cells of their own, the three sharpest of them.
    """
    low, high = lows.max(), highs.max()
    coarse = 2 * _TAIL * _RESOLVED * (high - low) / cells
    sharp = sorted((h - w, w, h) for w, h in zip(lows, highs, strict=True) if 0 < h - w < coarse)[:3]
    grids = [np.linspace(low, high, cells + 1), *(np.linspace(w, h, cells // 2) for _, w, h in sharp)]
    return np.unique(np.clip(np.concatenate(grids), low, high))
