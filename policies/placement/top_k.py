"""Strategy ``top_k``: fill positions from the k best candidates, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.wire.messages import SlotRequest
from policies.placement.protocol import Placement, PlacementReason, Scored, chosen, positions, unfilled


@dataclass(frozen=True, slots=True)
class TopK:
    """Fills positions in order from the ``k`` best."""

    k: int

    def fill(self, ranked: Sequence[Scored], slots: Sequence[SlotRequest]) -> tuple[Placement, ...]:
        """One placement per position."""
        best = iter(ranked[: self.k])
        filled = []
        for slot_id, position in positions(slots):
            candidate = next(best, None)
            filled.append(
                unfilled(slot_id, position, PlacementReason.NO_CANDIDATE)
                if candidate is None
                else chosen(slot_id, position, candidate)
            )
        return tuple(filled)
