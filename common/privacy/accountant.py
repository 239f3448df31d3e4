"""The cost of releases. Sole owner of the accounting library: description (``MechanismUse``) in, ε out.

Releases without sampling compose exactly to one Gaussian with 1/z² = Σ nᵢ/zᵢ², whose ε has a closed form. Skellam
noise counts as the Gaussian that dominates it (``common.privacy.domination``). Sampled Gaussians compose by privacy
loss distributions (PLD), pessimistically discretised, so the ε returned is an upper bound up to numerical precision.
Randomised responses (replace-one, local) have a line of their own and add up (``common.privacy.pure``).

**Source:** Balle and Wang 2018, Theorem 8 (single Gaussian); Dong, Roth, Su 2022, "Gaussian Differential Privacy",
Corollary 3.3 (composition of Gaussians); Doroshenko et al., "Connect the Dots" (PETS 2022), as in dp_accounting.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import log_ndtr

from common.errors import ContractError
from common.privacy import pure
from common.privacy.domination import equivalent_multiplier
from common.privacy.parameters import NO_SAMPLING, MechanismUse, PrivacyStatement
from common.taxonomy import Mechanism, NeighbouringRelation, PrivacyUnit, TrustModel

if TYPE_CHECKING:
    from dp_accounting import pld

ACCOUNTANT = "dp_accounting PLD"
CLOSED_FORM = "exact Gaussian composition (PLD in closed form, dp_accounting)"
SKELLAM = "exact Gaussian composition (PLD in closed form, dp_accounting), dominating the Skellam noise (ADR 0010)"
PURE = "exact composition of pure ε (sum at δ = 0)"
_INTERVAL = 1e-3
_FINE_INTERVAL = 1e-4
_FINE_BELOW_EPSILON = 0.5
_FINE_ABOVE_COUNT = 10_000
# Below this, ε is in the hundreds and convolving it takes minutes: the cheaper bounds used instead are still valid.
_PLD_MULTIPLIER_MIN = 0.2


class Line(NamedTuple):
    """What must be equal before two costs may be composed at all."""

    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel


class _Part(NamedTuple):
    noise_multiplier: float
    sampling_rate: float
    uses: int


def line_of(uses: Sequence[MechanismUse]) -> Line:
    """The one unit, neighbouring relation and trust model of all uses.

    Raises:
        ContractError: they differ, or there are none. Unlike guarantees are never added up or printed as one.
    """
    lines = {(use.unit, use.relation, use.trust) for use in uses}
    if len(lines) != 1:
        raise ContractError("only releases of one unit, neighbouring relation and trust model compose to one epsilon")
    return Line(*lines.pop())


def epsilon(uses: Sequence[MechanismUse], delta: float) -> float:
    """ε of all uses together at ``delta``; computed once per multiset of uses.

    Args:
        uses: releases of one unit, relation and trust model; order does not matter.
        delta: in (0, 1); 0 as well where every use is a randomised response.

    Returns:
        ε ≥ 0; 0 for no release, infinity when any release had no noise.

    Raises:
        ContractError: unlike releases, or a neighbouring relation that this accountant does not cover.

    **Privacy:** participants are charged the cost without amplification by their own absence: every use counts in full.
    """
    if pure.is_pure(uses) and 0 <= delta < 1:
        return pure.epsilon(uses, delta)
    if not 0 < delta < 1 and (uses or delta != 0):
        raise ContractError("delta lies between 0 and 1")
    if not uses:
        return 0.0
    return math.inf if _unprotected(uses) else _epsilon_of_parts(_parts(uses), delta)


def delta(uses: Sequence[MechanismUse], epsilon: float) -> float:
    """The smallest δ with which all uses together are (ε, δ)-private: a point of the curve that an audit tests.

    Args:
        uses: as for ``epsilon``.
        epsilon: at least 0.

    Raises:
        ContractError: as for ``epsilon``.
    """
    if not epsilon >= 0:
        raise ContractError("epsilon is at least 0")
    if not uses:
        return 0.0
    if pure.is_pure(uses):
        return pure.delta(uses, epsilon)
    return 1.0 if _unprotected(uses) else _delta_of_parts(_parts(uses), epsilon)


def rho(uses: Sequence[MechanismUse]) -> float | None:
    """ρ of zero-concentrated DP of all uses together: Σ n/(2z²), Skellam noise as the Gaussian that dominates it.

    None where it has none: without noise, or with sampling.
    """
    if pure.is_pure(uses):
        return pure.rho(uses)
    if any(not use.protects or _claims_sampling(use) for use in uses):
        return None
    return math.fsum(use.count / (2 * _multiplier(use) ** 2) for use in uses)


def _unprotected(uses: Sequence[MechanismUse]) -> bool:
    """Whether any of these like releases had no noise."""
    if line_of(uses).relation is not NeighbouringRelation.ADD_REMOVE:
        raise ContractError("beside randomised responses, this accountant covers add_or_remove_one only")
    return any(not use.protects for use in uses)


def _claims_sampling(use: MechanismUse) -> bool:
    return use.mechanism is Mechanism.POISSON_SUBSAMPLED_GAUSSIAN and use.sampling_rate < 1


def _multiplier(use: MechanismUse) -> float:
    return equivalent_multiplier(use) if use.mechanism is Mechanism.SKELLAM else use.noise_multiplier


def _parts(uses: Sequence[MechanismUse]) -> tuple[_Part, ...]:
    """The uses as a sorted multiset; unsampled releases are merged to one."""
    sampled: Counter[tuple[float, float]] = Counter()
    inverse_squares = []
    for use in uses:
        if _claims_sampling(use) and use.noise_multiplier >= _PLD_MULTIPLIER_MIN:
            sampled[use.noise_multiplier, use.sampling_rate] += use.count
        else:
            inverse_squares.append(use.count / _multiplier(use) ** 2)
    parts = [_Part(z, q, count) for (z, q), count in sampled.items()]
    if inverse_squares:
        parts.append(_Part(1 / math.sqrt(math.fsum(inverse_squares)), 1.0, 1))
    return tuple(sorted(parts))


@functools.lru_cache(maxsize=1 << 16)
def _epsilon_of_parts(parts: tuple[_Part, ...], delta: float) -> float:
    import dp_accounting

    if _is_gaussian(parts):
        return float(dp_accounting.get_epsilon_gaussian(parts[0].noise_multiplier, delta))
    quick = parts[0].noise_multiplier >= _PLD_MULTIPLIER_MIN
    many = quick and sum(part.uses for part in parts) > _FINE_ABOVE_COUNT
    value = float(_pld(parts, _FINE_INTERVAL if many else _INTERVAL).get_epsilon(delta))
    if many or value >= _FINE_BELOW_EPSILON:
        return value
    return float(_pld(parts, _FINE_INTERVAL).get_epsilon(delta))


@functools.lru_cache(maxsize=1 << 12)
def _delta_of_parts(parts: tuple[_Part, ...], epsilon: float) -> float:
    if _is_gaussian(parts):
        shift = 1 / parts[0].noise_multiplier
        upper, lower = log_ndtr(shift / 2 - epsilon / shift), log_ndtr(-shift / 2 - epsilon / shift)
        return float(-np.expm1(epsilon + lower - upper) * np.exp(upper))
    return float(_pld(parts, _INTERVAL).get_delta(epsilon))


def _is_gaussian(parts: tuple[_Part, ...]) -> bool:
    return len(parts) == 1 and parts[0].sampling_rate == 1


@functools.lru_cache(maxsize=8)
def _pld(parts: tuple[_Part, ...], interval: float) -> pld.PLDAccountant:
    import dp_accounting
    from dp_accounting import pld

    accountant = pld.PLDAccountant(
        dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=interval
    )
    for part in parts:
        event = dp_accounting.GaussianDpEvent(part.noise_multiplier)
        if part.sampling_rate < 1:
            event = dp_accounting.PoissonSampledDpEvent(part.sampling_rate, event)
        accountant.compose(event, part.uses)
    return accountant


def describe(uses: Sequence[MechanismUse]) -> str:
    """The composition in words: how many releases of which mechanism."""
    counts: Counter[str] = Counter()
    for use in uses:
        sampling = f", q={use.sampling_rate:g}" if use.sampling_rate < 1 else ""
        grid = f", levels={use.levels}, d={use.dimension}" if use.mechanism is Mechanism.SKELLAM else ""
        noise = "" if use.mechanism is Mechanism.NONE else f"(z={use.noise_multiplier:g}{sampling}{grid})"
        if use.mechanism is Mechanism.TOP_M:
            noise = f"(ε={use.epsilon:g}, m={use.chosen} of K={use.candidates})"
        counts[f"{use.mechanism.value}{noise}"] += use.count
    return " + ".join(f"{count} × {name}" for name, count in sorted(counts.items())) or "no release"


def statement(
    uses: Sequence[MechanismUse], delta: float, randomness: str, *, line: Line | None = None, scope: str = ""
) -> PrivacyStatement:
    """The whole honest sentence about ``uses``: ε never travels without what it is relative to.

    Args:
        uses: releases of one line.
        delta: in (0, 1).
        randomness: where the noise came from, in words.
        line: unit, relation and trust to state when there are no uses yet.
        scope: what the composition covers, in words ("one budget period of one device").
    """
    if line is None or uses:
        line = line_of(uses)
    return PrivacyStatement(
        epsilon=epsilon(uses, delta),
        delta=delta,
        unit=line.unit,
        relation=line.relation,
        trust=line.trust,
        composition=f"{describe(uses)}; {scope}" if scope else describe(uses),
        accountant=accountant_of(uses),
        randomness=randomness,
        rho=rho(uses),
        sampling=_sampling(uses),
    )


def accountant_of(uses: Sequence[MechanismUse]) -> str:
    """What computes the ε of these uses, in words."""
    if pure.is_pure(uses):
        return PURE
    if any(_claims_sampling(use) for use in uses):
        return ACCOUNTANT
    return SKELLAM if any(use.mechanism is Mechanism.SKELLAM for use in uses) else CLOSED_FORM


def _sampling(uses: Sequence[MechanismUse]) -> str:
    """What must stay secret about sampling for ε to hold, in words."""
    rates = sorted({use.sampling_rate for use in uses if _claims_sampling(use)})
    if not rates:
        return NO_SAMPLING
    return "secret Poisson samples on the device, rate " + " and ".join(f"{rate:g}" for rate in rates)
