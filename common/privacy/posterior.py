"""E[Y | pick]: what a private answer says about a person's responses, to somebody who knows the mechanism. Pure.

The service's model gives each candidate a response p from context alone. People differ: a person's log-odds are taken
to lie around it, independent and normal with one public deviation. The device reports an index drawn by top-m
randomised response from its own order; averaging over that prior, weighted by the probability of the answer, gives the
mean of each response given the answer. It is a function of the answer and of public facts: post-processing, free.

A wrong prior costs relevance, never privacy. Means are scaled so that without an answer they are p itself.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtri

from common.errors import ContractError
from common.privacy.top_m import TopM, members

Floats = npt.NDArray[np.float64]
_POINTS: Final = 4096
_EDGE: Final = 1e-9
_PRIMES: Final = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53)


def posterior(
    mechanism: TopM, responses: Sequence[float], index: int, *, spread: float, values: Sequence[float] | None = None
) -> tuple[float, ...]:
    """E[Y | answer] of every candidate.

    Args:
        mechanism: what the answer was drawn by.
        responses: p of each candidate from context alone, probabilities, in the public order.
        index: the answer.
        spread: standard deviation of people's log-odds around p.
        values: what a response to each candidate is worth, if candidates are ordered by value; 1 by default.

    Raises:
        ContractError: not one response per candidate, more candidates than 16, or no such index.
    """
    count = mechanism.candidates
    if len(responses) != count or not 0 <= index < count or count > len(_PRIMES):
        raise ContractError("one response for each candidate of a short list, and an index of it")
    worth = (1.0,) * count if values is None else tuple(map(float, values))
    return _table(mechanism, tuple(map(float, responses)), worth, float(spread))[index]


@functools.lru_cache(maxsize=4096)
def _table(
    mechanism: TopM, responses: tuple[float, ...], worth: tuple[float, ...], spread: float
) -> tuple[tuple[float, ...], ...]:
    """Row a: E[Y | answer a]. Few different contexts come up between two publications, so rows are remembered."""
    p = np.clip(np.asarray(responses), _EDGE, 1 - _EDGE)
    people = expit(logit(p) + spread * _normals(mechanism.candidates))
    people *= p / people.mean(axis=0)
    high, low = mechanism.weights
    weight = np.where(members(mechanism, people * np.asarray(worth)), float(high), float(low))
    means = (weight.T @ people) / weight.sum(axis=0)[:, np.newaxis]
    return tuple(tuple(float(y) for y in row) for row in np.clip(means, 0.0, 1.0))


@functools.lru_cache(maxsize=16)
def _normals(count: int) -> Floats:
    """Evenly spread standard normals ``[points, count]``: a Kronecker sequence; no randomness is needed here."""
    steps = np.sqrt(np.asarray(_PRIMES[:count], np.float64)) % 1
    return np.asarray(ndtri((np.arange(1, _POINTS + 1)[:, np.newaxis] * steps + 0.5) % 1 * (1 - 2e-12) + 1e-12))
