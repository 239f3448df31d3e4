"""The order of candidates. Owns the ranking and its tie-break, which no clock, platform or hash seed can change."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from common.errors import NonFiniteValue, ShapeMismatch
from common.wire.messages import Creative
from policies.placement.protocol import Scored


def stable_hash(salt: str, creative_id: str) -> bytes:
    """The tie-break key: SHA-256 of salt and id, so that equal scores favour nobody's place in the catalogue."""
    return hashlib.sha256(f"{len(salt)}:{salt}{creative_id}".encode()).digest()


def rank(candidates: Sequence[Creative], scores: Sequence[float], salt: str) -> tuple[Scored, ...]:
    """Candidates with their scores, best first; ties by ``stable_hash``.

    Raises:
        ShapeMismatch: not one score per candidate.
        NonFiniteValue: a score is NaN or infinite, so there is no order.
    """
    if len(candidates) != len(scores):
        raise ShapeMismatch(f"{len(candidates)} candidates need as many scores, got {len(scores)}")
    scored = [Scored(creative, float(score)) for creative, score in zip(candidates, scores, strict=True)]
    if not all(math.isfinite(candidate.score) for candidate in scored):
        raise NonFiniteValue("a candidate's score is not finite")
    return tuple(sorted(scored, key=lambda s: (-s.score, stable_hash(salt, s.creative.creative_id))))
