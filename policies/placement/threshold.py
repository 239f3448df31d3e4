"""Strategy ``threshold``: show the best candidate left if it is good enough, else leave it to the fallback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.wire.messages import SlotRequest
from policies.placement.protocol import Placement, PlacementReason, Scored, chosen, positions, unfilled


@dataclass(frozen=True, slots=True)
class Threshold:
    """Fills a position only with a score of at least ``score_min``."""

    score_min: float

    def fill(self, ranked: Sequence[Scored], slots: Sequence[SlotRequest]) -> tuple[Placement, ...]:
        """One placement per position."""
        good = iter([candidate for candidate in ranked if candidate.score >= self.score_min])
        nothing = PlacementReason.BELOW_THRESHOLD if ranked else PlacementReason.NO_CANDIDATE
        filled = []
        for slot_id, position in positions(slots):
            candidate = next(good, None)
            filled.append(
                unfilled(slot_id, position, nothing) if candidate is None else chosen(slot_id, position, candidate)
            )
        return tuple(filled)
