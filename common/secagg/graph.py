"""Who is whose neighbour, and with which threshold. Owns the figures k, t, m and the proof that they suffice.

A neighbour holds one Shamir share of each of a device's two secrets and shares one pairwise mask with it. Let ``n`` be
the roster, ``c`` its corrupt devices at most, ``h`` its honest survivors at least. Two things must hold whatever the
server does, and one must hold when devices drop out by chance:

1. *Secrets*: no honest device has t corrupt neighbours. The roster's order is a permutation drawn from the digest of
   all adverts, so a device's neighbours are a uniform k-subset of the others and their corrupt part is hypergeometric;
   the exact tail, times n, is at most 2^-(security_bits + GRINDING_BITS). The server can grind that digest by swapping
   the adverts of corrupt devices; GRINDING_BITS pays for 2^32 tries.
2. *Only the sum*: the honest survivors are connected by pairwise masks, for every set of drop-outs that the server may
   pick after it has seen the graph. Devices refuse a survivor set in which anybody has fewer than m surviving
   neighbours; by 1, each honest survivor has then more than m - t honest ones, so a component has at least m - t + 2
   members. Were the honest survivors split into S (the smaller part) and T, no edge would join them, and the expander
   mixing lemma says ``|S||T| <= (λ/k)² (n-|S|)(n-|T|)``, with λ the graph's second eigenvalue, computed for the very
   graph in use. m is chosen so that this bounds |S| below m - t + 2: a contradiction.
3. *Success*: if no more than the declared share drops out, whoever they are, everybody keeps m >= t neighbours, but
   for a probability of 2^-correctness_bits (exact hypergeometric tail, times n).

The graph is circulant: i's neighbours are i ± a for k/2 offsets a, a public function of n and k, chosen among
candidates for the smallest λ (consecutive offsets, as in Bell et al., would let the server cut an arc out of the ring
by dropping its two ends). Small rosters use the complete graph, where all three hold by counting.

Source: Bell et al., CCS 2020, §3; expander mixing lemma: Alon and Chung 1988, in the form with (n-|S|)(n-|T|).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from common.errors import PolicyError
from common.privacy.parameters import CohortParameters

IndexArray = npt.NDArray[np.intp]
GRINDING_BITS: Final = 32
COMPLETE_MAX: Final = 64
_CANDIDATES: Final = 128
_NEARBY: Final = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """Figures of one roster size.

    Attributes:
        size: devices n in the roster.
        degree: neighbours k of each.
        threshold: shares t that reconstruct a secret.
        neighbours_min: surviving neighbours m without which nobody reveals anything.
        survivors_min: survivors, and confirmations of them, without which nobody reveals anything.
        corrupt_neighbours_max: neighbours of one device that may be corrupt; below ``threshold``.
        offsets: k/2 offsets of the circulant graph; empty for the complete graph.
    """

    size: int
    degree: int
    threshold: int
    neighbours_min: int
    survivors_min: int
    corrupt_neighbours_max: int
    offsets: tuple[int, ...]


@lru_cache(maxsize=256)
def plan(size: int, cohort: CohortParameters) -> Plan:
    """The figures for a roster of ``size`` devices.

    Raises:
        PolicyError: no graph keeps the promise; the text names the figure to change.
    """
    check_quorum(size, cohort)
    complete = _complete(size, cohort)
    if size <= COMPLETE_MAX:
        return complete
    low, high = 1, (size - 1) // 2  # half degrees: the search keeps ``high`` good or untried
    found = _regular(size, 2 * high, cohort)
    if found is None:
        return complete
    while high - low > 1:
        middle = (low + high) // 2
        candidate = _regular(size, 2 * middle, cohort)
        if candidate is None:
            low = middle
        else:
            high, found = middle, candidate
    for half in range(high - 1, max(high - _NEARBY, 0), -1):  # eigenvalues jump: a little below may be good again
        found = _regular(size, 2 * half, cohort) or found
    return found if found.degree < size - 1 else complete


def check_cohort(cohort: CohortParameters) -> None:
    """Prove, at the load of a policy, that every roster it allows has a plan.

    The quorum's inequality holds at every size if it holds for the fractions; the complete graph then always exists.

    Raises:
        PolicyError: naming the figure.
    """
    if cohort.devices_min > cohort.devices_max:
        raise PolicyError(f"cohort: devices_min {cohort.devices_min} is above devices_max {cohort.devices_max}")
    dropout, corrupt = cohort.dropout_fraction_max, cohort.corrupt_fraction_max
    if 2 * (1 - dropout) <= 1 + corrupt:
        raise PolicyError(
            f"cohort: with dropout_fraction_max {dropout:g}, corrupt_fraction_max must be below {1 - 2 * dropout:g} "
            f"(it is {corrupt:g}): two different quorums would need no honest device in common"
        )
    for size in {cohort.devices_min, cohort.devices_max}:
        plan(size, cohort)


def check_quorum(size: int, cohort: CohortParameters) -> None:
    """Check what the counting argument of ``common.secagg.roster`` needs, for one size.

    Raises:
        PolicyError: naming the figure.
    """
    survivors, corrupt = cohort.survivors_min(size), cohort.corrupt_max(size)
    if 2 * survivors <= size + corrupt:
        raise PolicyError(
            f"cohort: {size} devices with at least {survivors} survivors tolerate {2 * survivors - size - 1} corrupt "
            f"ones, not {corrupt}: lower dropout_fraction_max or corrupt_fraction_max"
        )
    if survivors - 1 <= max(corrupt, 1):
        raise PolicyError(
            f"cohort: {size} devices of which {survivors} survive leave no threshold of two shares or more above "
            f"{corrupt} corrupt devices: raise devices_min"
        )


def neighbours(planned: Plan, seed: bytes) -> IndexArray:
    """Neighbours of every device, ``[size, degree]``, each row ascending.

    Args:
        planned: figures.
        seed: digest of all adverts.
    """
    size = planned.size
    if not planned.offsets:
        others = np.arange(size - 1)[None, :]
        return (others + (others >= np.arange(size)[:, None])).astype(np.intp)
    place = np.empty(size, np.intp)
    at_place = _shuffled(size, b"reticent/secagg/order/v1|" + seed)
    place[at_place] = np.arange(size)
    offsets = np.asarray([*planned.offsets, *(size - a for a in planned.offsets)])
    return np.sort(at_place[(place[:, None] + offsets[None, :]) % size], axis=1)


def _complete(size: int, cohort: CohortParameters) -> Plan:
    """Everybody is everybody's neighbour; a majority as threshold leaves room on both sides where there is any."""
    survivors, corrupt = cohort.survivors_min(size), cohort.corrupt_max(size)
    return Plan(
        size=size,
        degree=size - 1,
        threshold=min(survivors - 1, max(corrupt, size // 2) + 1),
        neighbours_min=survivors - 1,
        survivors_min=survivors,
        corrupt_neighbours_max=corrupt,
        offsets=(),
    )


def _regular(size: int, degree: int, cohort: CohortParameters) -> Plan | None:
    """A circulant graph of this degree with its figures; None if it does not keep the promise."""
    survivors, corrupt = cohort.survivors_min(size), cohort.corrupt_max(size)
    offsets, eigenvalue = _offsets(size, degree)
    separable = _separable(size, survivors - corrupt, eigenvalue / degree)
    if separable is None:
        return None
    threshold = _threshold(size, corrupt, degree, cohort.security_bits + GRINDING_BITS)
    needed = threshold - 1 + max(separable, 1)
    if needed > _kept(size, survivors - 1, degree, cohort.correctness_bits):
        return None
    return Plan(
        size=size,
        degree=degree,
        threshold=threshold,
        neighbours_min=needed,
        survivors_min=survivors,
        corrupt_neighbours_max=threshold - 1,
        offsets=offsets,
    )


def _separable(size: int, honest: int, ratio: float) -> int | None:
    """Largest part, at most half, of ``honest`` survivors that the mixing lemma allows to be cut off; None: half."""
    part = np.arange(1, honest // 2 + 1, dtype=np.float64)
    allowed = part * (honest - part) <= ratio * ratio * (size - part) * (size - honest + part)
    if not len(part) or allowed[-1]:
        return None
    return int(allowed.nonzero()[0].max() + 1) if allowed.any() else 0


def _threshold(size: int, corrupt: int, degree: int, bits: int) -> int:
    """Smallest t from 2 with ``size * P[corrupt neighbours >= t] <= 2^-bits``, in exact integers."""
    limit, at_least = math.comb(size - 1, degree) // (size << bits), 0
    most = min(corrupt, degree)
    ways = math.comb(corrupt, most) * math.comb(size - 1 - corrupt, degree - most)
    for count in range(most, 1, -1):
        at_least += ways
        if at_least > limit:
            return count + 1
        ways = ways * count * (size - 1 - corrupt - degree + count) // ((corrupt - count + 1) * (degree - count + 1))
    return 2


def _kept(size: int, surviving: int, degree: int, bits: int) -> int:
    """Largest m with ``size * P[surviving neighbours < m] <= 2^-bits``, in exact integers."""
    limit, below, gone = math.comb(size - 1, degree) // (size << bits), 0, size - 1 - surviving
    least = max(0, degree - gone)
    ways = math.comb(surviving, least) * math.comb(gone, degree - least)
    for count in range(least, min(surviving, degree)):
        below += ways
        if below > limit:
            return count
        ways = ways * (surviving - count) * (degree - count) // ((count + 1) * (gone - degree + count + 1))
    return min(surviving, degree)


def _offsets(size: int, degree: int) -> tuple[tuple[int, ...], float]:
    """Offsets of the best of some circulant graphs, and a bound on its second eigenvalue.

    The eigenvalues of a circulant graph are the discrete Fourier transform of its first row; rounding up to a
    thousandth is far above the transform's error, so every machine chooses alike.
    """
    chosen = _candidates(size)[:, : degree // 2]
    rows = np.zeros((_CANDIDATES, size))
    np.put_along_axis(rows, chosen, 1, axis=1)
    np.put_along_axis(rows, size - chosen, 1, axis=1)
    eigenvalues = np.ceil(np.abs(np.fft.rfft(rows)[:, 1:]).max(axis=1) * 1000 + 1e-3)
    best = int(eigenvalues.argmin())
    return tuple(sorted(chosen[best].tolist())), float(eigenvalues[best]) / 1000


@lru_cache(maxsize=4)
def _candidates(size: int) -> IndexArray:
    """Orders in which offsets are taken, ``[candidates, (size - 1) // 2]``; public, the same for everybody."""
    half = (size - 1) // 2
    labels = (f"reticent/secagg/offsets/v1|{size}|{candidate}".encode() for candidate in range(_CANDIDATES))
    return np.stack([_shuffled(half, label) + 1 for label in labels])


def _shuffled(size: int, label: bytes) -> IndexArray:
    """A permutation of ``range(size)`` that everybody draws alike: ranks of 128-bit keys from SHAKE-256."""
    keys = np.frombuffer(hashlib.shake_256(label).digest(16 * size), "<u8").reshape(2, size)
    return np.lexsort((keys[1], keys[0]))
