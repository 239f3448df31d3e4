"""The order of candidates. Owns the ranking and its tie-break, which no clock, platform or hash seed can change."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

from common.wire.messages import Creative
from policies.placement.document import ScoreRule
from policies.placement.inputs import NOTHING
from policies.placement.protocol import Scored
from policies.placement.scoring import scored


def stable_hash(salt: str, creative_id: str) -> bytes:
    """The tie-break key: SHA-256 of salt and id, so that equal scores favour nobody's place in the catalogue."""
    return hashlib.sha256(f"{len(salt)}:{salt}{creative_id}".encode()).digest()


def ranked(candidates: Sequence[Scored], salt: str) -> tuple[Scored, ...]:
    """Candidates best first; ties by ``stable_hash``, which is only computed where there are some."""
    order: list[Scored] = []
    best_first = sorted(candidates, key=lambda s: -s.score)
    for _, equals in itertools.groupby(best_first, key=lambda s: s.score):
        tied = list(equals)
        order += tied if len(tied) == 1 else sorted(tied, key=lambda s: stable_hash(salt, s.creative.creative_id))
    return tuple(order)


def rank(candidates: Sequence[Creative], scores: Sequence[float], salt: str) -> tuple[Scored, ...]:
    """Candidates with plain scores, best first.

    Raises:
        ShapeMismatch: not one score per candidate.
        NonFiniteValue: a score is NaN or infinite, so there is no order.
    """
    return ranked(scored(candidates, scores, ScoreRule(), NOTHING), salt)
