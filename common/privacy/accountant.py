"""The cost of releases. Sole owner of the accounting library: description (``MechanismUse``) in, ε out.

Composition is by privacy loss distributions (PLD), pessimistically discretised, so the ε returned is an upper bound up
to numerical precision. Gaussian releases without sampling compose exactly to one Gaussian with 1/z² = Σ nᵢ/zᵢ², which
saves the convolution and the discretisation error.

**Source:** Doroshenko et al., "Connect the Dots" (PETS 2022), as in dp_accounting; Dong, Roth, Su, "Gaussian
Differential Privacy", Corollary 2 (composition of Gaussians); Balle and Wang 2018, Theorem 8 (single Gaussian).
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from common.errors import ContractError
from common.privacy.parameters import MechanismUse, PrivacyStatement
from common.taxonomy import Mechanism, NeighbouringRelation, PrivacyUnit, TrustModel

ACCOUNTANT = "dp_accounting PLD"
_INTERVAL = 1e-3
_FINE_INTERVAL = 1e-4
_FINE_BELOW_EPSILON = 0.5
_FINE_ABOVE_COUNT = 10_000
# Below these, ε is in the hundreds and convolving it takes minutes: the cheaper bounds used instead are still valid.
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
    lines = {Line(use.unit, use.relation, use.trust) for use in uses}
    if len(lines) != 1:
        raise ContractError("only releases of one unit, neighbouring relation and trust model compose to one epsilon")
    return lines.pop()


def epsilon(uses: Sequence[MechanismUse], delta: float) -> float:
    """ε of all uses together at ``delta``; computed once per multiset of uses.

    Args:
        uses: releases of one unit, relation and trust model; order does not matter.
        delta: in (0, 1).

    Returns:
        ε ≥ 0; 0 for no release, infinity when any release had no noise.

    Raises:
        ContractError: unlike releases, or a neighbouring relation that this accountant does not cover.

    **Privacy:** participants are charged the cost without amplification by their own absence: every use counts in full.
    """
    if not 0 < delta < 1:
        raise ContractError("delta lies between 0 and 1")
    if not uses:
        return 0.0
    if line_of(uses).relation is not NeighbouringRelation.ADD_REMOVE:
        raise ContractError("this accountant covers add_or_remove_one only")
    if any(use.mechanism is Mechanism.NONE or use.noise_multiplier == 0 for use in uses):
        return math.inf
    return _epsilon_of_parts(_parts(uses), delta)


def _parts(uses: Sequence[MechanismUse]) -> tuple[_Part, ...]:
    """The uses as a sorted multiset; unsampled Gaussians are merged to one."""
    sampled: Counter[tuple[float, float]] = Counter()
    inverse_squares = []
    for use in uses:
        claims_sampling = use.mechanism is Mechanism.POISSON_SUBSAMPLED_GAUSSIAN and use.sampling_rate < 1
        if claims_sampling and use.noise_multiplier >= _PLD_MULTIPLIER_MIN:
            sampled[use.noise_multiplier, use.sampling_rate] += use.count
        else:
            inverse_squares.append(use.count / use.noise_multiplier**2)
    parts = [_Part(z, q, count) for (z, q), count in sampled.items()]
    if inverse_squares:
        parts.append(_Part(1 / math.sqrt(math.fsum(sorted(inverse_squares))), 1.0, 1))
    return tuple(sorted(parts))


@functools.lru_cache(maxsize=4096)
def _epsilon_of_parts(parts: tuple[_Part, ...], delta: float) -> float:
    import dp_accounting

    if len(parts) == 1 and parts[0].sampling_rate == 1 and parts[0].noise_multiplier < _PLD_MULTIPLIER_MIN:
        return float(dp_accounting.get_epsilon_gaussian(parts[0].noise_multiplier, delta))
    quick = parts[0].noise_multiplier >= _PLD_MULTIPLIER_MIN
    many = quick and sum(part.uses for part in parts) > _FINE_ABOVE_COUNT
    value = _pld_epsilon(parts, delta, _FINE_INTERVAL if many else _INTERVAL)
    return value if many or value >= _FINE_BELOW_EPSILON else _pld_epsilon(parts, delta, _FINE_INTERVAL)


def _pld_epsilon(parts: tuple[_Part, ...], delta: float, interval: float) -> float:
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
    return float(accountant.get_epsilon(delta))


def describe(uses: Sequence[MechanismUse]) -> str:
    """The composition in words: how many releases of which mechanism."""
    counts: Counter[str] = Counter()
    for use in uses:
        sampling = f", q={use.sampling_rate:g}" if use.sampling_rate < 1 else ""
        noise = "" if use.mechanism is Mechanism.NONE else f"(z={use.noise_multiplier:g}{sampling})"
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
        accountant=ACCOUNTANT,
        randomness=randomness,
    )
