"""What the placements of one request take and refuse. Pure; the same on the device and in the service.

One decision fills several placements without repetition, so what one of them refuses is refused for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.wire.messages import SlotRequest
from common.wire.surface import Surface
from policies.placement.document import PlacementPolicy


@dataclass(frozen=True, slots=True)
class SurfaceRules:
    """The rules of some placements together; ``floors`` by slot, in currency units."""

    blocked_categories: frozenset[str]
    blocked_advertisers: frozenset[str]
    floors: dict[str, float]


NO_RULES = SurfaceRules(frozenset(), frozenset(), {})


def rules_of(surfaces: Iterable[Surface], slots: Sequence[SlotRequest], policy: PlacementPolicy) -> SurfaceRules:
    """The rules for these slots. A floor of money means something only where the policy orders by money."""
    wanted = {slot.slot_id for slot in slots}
    found = [surface for surface in surfaces if surface.slot_id in wanted]
    if not found:
        return NO_RULES
    priced = policy.score.kind == "value"
    return SurfaceRules(
        frozenset(name for surface in found for name in surface.blocked_categories),
        frozenset(name for surface in found for name in surface.blocked_advertisers),
        {one.slot_id: one.floor_micros / 1e6 for one in found if priced and one.floor_micros},
    )
