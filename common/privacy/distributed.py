"""Noise that many devices add together. Owns the way from clipped vectors to one noised integer vector, and its size.

Each device rounds its clipped vector to a grid without bias, makes sure that the rounding did not lengthen it beyond
the clip, and adds a Skellam share. Shares add up: whichever set of survivors the protocol accepts, its honest members
alone add at least the declared noise to the sum, and everybody else only more.

A ``NoisedShare`` is *not* protected: its own noise is a fraction of what the sum gets. Only masking by secure
aggregation makes it sendable, as a ``MaskedShare``.

**Source:** Agarwal, Kairouz, Liu 2021, "The Skellam mechanism for differentially private federated learning";
Kairouz, Liu, Steinke 2021, "The distributed discrete Gaussian mechanism", §4.1 (conditional rounding).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from common.errors import NonFiniteValue, OutOfRange, PolicyError, ShapeMismatch
from common.privacy.clipping import clip_update
from common.privacy.parameters import CohortParameters, MechanismUse, UserDpParameters
from common.privacy.randomness import NoiseSource
from common.privacy.updates import ClippedUpdate, ModelDelta, Vector

IntVector = npt.NDArray[np.int64]
MODULUS_BITS = (16, 24, 32)
LENGTH_MAX = 1 << 24

# The noise of a sum leaves its limit with probability at most 2^-64 in a vector of LENGTH_MAX coordinates.
_TAIL_LOG = (64 + 24 + 1) * math.log(2)
# A sum takes at most a quarter of the modulus on either side of zero's half: half of all residues are no honest sum.
_GUARD = 4
# Rounding at random is repeated this often, each time with a chance below 2^-20 to be too long, before truncation.
_ROUNDINGS = 3
_TOO_LONG_LOG = 20 * math.log(2)


@final
@dataclass(frozen=True, slots=True)
class NoisedShare:
    """A device's part of a noised sum, int64 ``[d]`` in grid units. Private still: only the sum is protected."""

    vector: IntVector
    releases: tuple[MechanismUse, ...]


@final
@dataclass(frozen=True, slots=True)
class MaskedShare:
    """The wire form of a ``NoisedShare``: uint8 ``[d · bits / 8]``, uniform to whoever does not hold its masks.

    ``releases`` is what the sum of the cohort costs each device in it.
    """

    payload: npt.NDArray[np.uint8]
    releases: tuple[MechanismUse, ...]
    bits: int


def noise_share(
    segments: Sequence[tuple[ClippedUpdate, UserDpParameters]],
    cohort: CohortParameters,
    roster_size: int,
    rng: NoiseSource,
) -> NoisedShare:
    """One device's vector for secure aggregation: every segment rounded, held to its bound and noised; concatenated.

    Args:
        segments: vectors that are released together, each with its own bound, grid and noise.
        cohort: the public bounds that size the share.
        roster_size: devices on the roster that this device has verified itself.
        rng: secret randomness for rounding and noise.

    Raises:
        PolicyError: the roster is smaller or larger than the cohort allows, a vector was clipped to another bound than
            its release declares, or its grid is too coarse for its length.
        NonFiniteValue: a vector holds NaN or infinity.

    **Privacy:** user level, distributed trust. Costs ``releases``, in the sum and once it is masked; by itself this
    vector has next to no protection.
    """
    honest = _honest(cohort, roster_size)
    vectors, releases = [], []
    for update, parameters in segments:
        whole = round_within(update, parameters, rng)
        share = rng.skellam(parameters.share_variance(honest), whole.size)
        vectors.append(whole + share)
        releases.append(parameters.release(whole.size))
    return NoisedShare(np.concatenate(vectors), tuple(releases))


def _honest(cohort: CohortParameters, roster_size: int) -> int:
    if not cohort.devices_min <= roster_size <= cohort.devices_max:
        raise PolicyError(f"a roster has {cohort.devices_min} to {cohort.devices_max} devices, not {roster_size}")
    honest = cohort.honest_min(roster_size)
    if honest < 1:
        raise PolicyError("no honest device is sure to survive, so no share of noise is large enough")
    return honest


# ── rounding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def round_within(update: ClippedUpdate, parameters: UserDpParameters, rng: NoiseSource) -> IntVector:
    """The vector in whole grid units, int64 ``[d]``, of L2 norm at most ``levels``, exactly.

    Every coordinate is rounded up or down at random so that its mean is kept. Where that could lengthen the vector
    beyond its bound, it is first shortened to ``rounding_room``, so little that for our models it is below 1 %; then
    the rounding is too long with probability below 2^-20, in which case it is drawn again, and a vector that is too
    long three times over is rounded towards zero, which no vector survives too long. Conditioning on that event moves
    the mean by less than 2^-20 of the bound.

    Raises:
        PolicyError: clipped to another bound than declared, or a grid too coarse for this length.
        NonFiniteValue: NaN or infinity.

    **Privacy:** the bound on which the accounting of the release rests; it holds for any input.
    """
    if update.clipping_norm > parameters.clipping_norm:
        raise PolicyError("the update was clipped to a larger bound than its release declares")
    if not np.isfinite(update.vector).all():
        raise NonFiniteValue("the update holds NaN or infinity")
    room = rounding_room(parameters.levels, update.vector.size)
    vector = update.vector
    if float(np.abs(vector).max(initial=0.0)) > parameters.clipping_norm:  # not clipped at all, whatever it says
        vector = clip_update(ModelDelta(vector), parameters.clipping_norm).vector
    exact = _shortened(vector / parameters.grid, parameters.levels, room)
    below = np.floor(exact)
    fraction = exact - below
    for _ in range(_ROUNDINGS):
        whole = (below + (rng.uniform(exact.size) < fraction)).astype(np.int64)
        if squared_norm(whole) <= parameters.levels**2:
            return whole
    whole = np.trunc(exact).astype(np.int64)
    if squared_norm(whole) > parameters.levels**2:
        raise OutOfRange("a rounded update is longer than its bound")
    return whole


def _shortened(exact: Vector, levels: int, room: float) -> Vector:
    """``exact`` itself if no rounding of it can be too long, else scaled down to length ``room`` if it is longer."""
    # A last digit above a whole number, from the division by the grid, is no reason to shorten: truncation removes it.
    if float(np.square(np.ceil(np.abs(exact) - 1e-9)).sum()) <= levels**2:
        return exact
    norm = float(np.linalg.norm(exact))
    return exact * (room / norm) if norm > room else exact


def rounding_room(levels: int, length: int) -> float:
    """The length, in grid units, to which vectors are shortened so that rounding seldom passes ``levels``.

    The largest r with r² + d/4 + t(2r + √d) ≤ levels², t = √(ln(1/β)/2): expected squared norm after rounding plus
    Hoeffding's deviation at β = 2^-20. A public function of public figures.

    Raises:
        PolicyError: it is less than half of ``levels``: the grid is too coarse for so long a vector.
    """
    t = math.sqrt(_TOO_LONG_LOG / 2)
    square = t * t - length / 4 - t * math.sqrt(length) + levels**2
    room = math.sqrt(square) - t if square > 0 else 0.0
    if room < levels / 2:
        raise PolicyError(f"{levels} levels are too coarse a grid for {length} weights: take more levels")
    return room


def squared_norm(whole: IntVector) -> int:
    """Exact squared L2 norm of integers; never wraps around, whatever they are."""
    largest = int(np.abs(whole).max(initial=0))
    if largest < 1 << 31 and largest**2 * whole.size < 1 << 63:
        return int(np.dot(whole, whole))
    return sum(value * value for value in whole.tolist())


# ── modulus ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def sum_limit(parameters: Sequence[UserDpParameters], cohort: CohortParameters, roster_size: int) -> int:
    """Bound on |coordinate| of an honest sum, noise included, but for probability 2^-64 of the whole vector.

    Every device may put its whole length into one coordinate, and all on the roster may survive.

    Raises:
        PolicyError: the roster is smaller or larger than the cohort allows.
    """
    spread = roster_size / _honest(cohort, roster_size)
    return max(_limit(one, roster_size, spread) for one in parameters)


def modulus_bits(parameters: Sequence[UserDpParameters], cohort: CohortParameters) -> int:
    """Bits of the modulus for any roster the cohort allows: 16, 24 or 32.

    Honest sums, centred, take at most half of the residues: a sum that wrapped around lies in the other half unless it
    wrapped by more than a whole turn, and is refused.

    Raises:
        PolicyError: 32 bits do not suffice; the text names the levels and the cohort that would do.
    """
    limit = max(_limit(one, cohort.devices_max, _spread_max(cohort)) for one in parameters)
    for bits in MODULUS_BITS:
        if _GUARD * limit <= 1 << bits:
            return bits
    factor = _GUARD * limit / (1 << MODULUS_BITS[-1])
    raise PolicyError(
        f"a sum over {cohort.devices_max} devices needs more than {MODULUS_BITS[-1]} bits; it fits with levels ≤ "
        f"{math.floor(max(one.levels for one in parameters) / factor)} or devices_max ≤ "
        f"{math.floor(cohort.devices_max / factor)}"
    )


def _limit(one: UserDpParameters, devices: int, spread: float) -> int:
    """Largest signal of so many devices, and the tail of ``spread`` times the target's noise variance."""
    return devices * one.levels + math.ceil(skellam_tail(one.noise_variance_levels * spread))


def _spread_max(cohort: CohortParameters) -> float:
    """Bound on roster ÷ honest_min(roster) for any roster: both bounds of the cohort are at least their fraction."""
    honest_fraction = 1 - cohort.dropout_fraction_max - cohort.corrupt_fraction_max
    if honest_fraction <= 0:
        raise PolicyError("no honest device is sure to survive, so no share of noise is large enough")
    return (1 + 1e-6) / honest_fraction


@functools.lru_cache(maxsize=256)
def skellam_tail(variance: float) -> float:
    """A bound that |Skellam noise| of this variance passes with probability at most 2^-88.

    Chernoff: P[X ≥ x] ≤ exp(μ(√(1 + (x/μ)²) - 1) - x·asinh(x/μ)), solved for x by bisection.
    """
    if variance == 0:
        return 0.0

    def exponent(x: float) -> float:
        r = x / variance
        return x * math.asinh(r) - variance * (math.hypot(1, r) - 1)

    low, high = 0.0, 1.0
    while exponent(high) < _TAIL_LOG:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if exponent(middle) < _TAIL_LOG else (low, middle)
    return high


# ── back to units ────────────────────────────────────────────────────────────────────────────────────────────────────


def decode_sum(vector: IntVector, segments: Sequence[tuple[int, UserDpParameters]]) -> list[Vector]:
    """An unmasked sum in the units of its segments.

    Args:
        vector: int64 ``[d]``, centred.
        segments: length and parameters of each, in the order they were concatenated.

    Raises:
        ShapeMismatch: the lengths do not add up to d.
    """
    lengths = [length for length, _ in segments]
    if vector.shape != (sum(lengths),):
        raise ShapeMismatch(f"expected a sum of {sum(lengths)} numbers, got shape {vector.shape}")
    pieces = np.split(vector, np.cumsum(lengths)[:-1])
    return [
        np.asarray(piece * parameters.grid, np.float64) for piece, (_, parameters) in zip(pieces, segments, strict=True)
    ]
