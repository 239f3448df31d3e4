"""Draws of g. Owns how a seed becomes uniforms: a hash, so that any decision replays anywhere from its seed.

This is no privacy mechanism: whoever knows the seed knows the draw. A device that must hide its choice uses the
private pick, whose coins come from ``common.privacy.randomness``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence


def uniform(seed: str, *path: str | int) -> float:
    """A uniform on (0, 1): an odd multiple of 2^-54 from SHA-256 of seed and path, each with its length before it."""
    name = f"{len(seed)}:{seed}"
    for step in path:  # written out: it is asked for every candidate of a decision
        part = step if isinstance(step, str) else str(step)
        name += f"{len(part)}:{part}"
    bits = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 11
    return (bits + 0.5) * 2.0**-53


def uniforms(seed: str, *path: str) -> Callable[[str], float]:
    """``uniform(seed, *path, last)`` for one ``last`` after another: what they share is hashed once."""
    begun = hashlib.sha256("".join([f"{len(part)}:{part}" for part in (seed, *path)]).encode())

    def of(last: str) -> float:
        named = begun.copy()
        named.update(f"{len(last)}:{last}".encode())
        return ((int.from_bytes(named.digest()[:8]) >> 11) + 0.5) * 2.0**-53

    return of


def pick(probabilities: Sequence[float], u: float) -> int:
    """The index that ``u`` falls on when the probabilities lie end to end; never one whose probability is 0."""
    reached, last = 0.0, 0
    for index, probability in enumerate(probabilities):
        if probability > 0:
            reached, last = reached + probability, index
            if u < reached:
                return index
    return last  # rounding left a gap at the very end
