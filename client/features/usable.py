"""Which events may be learnt from and scored with. Owns the effect of a switched-off topic on behaviour."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from client.behavior.events import BehaviourEvent
from policies.placement.eligibility import folded


def usable(events: Iterable[BehaviourEvent], refused: Collection[str]) -> list[BehaviourEvent]:
    """The events that are not about a topic which the owner has switched off, by any of their attributes.

    Args:
        events: in time order.
        refused: topics, folded.
    """
    off = frozenset(refused)
    if not off:
        return list(events)
    return [one for one in events if off.isdisjoint(map(folded, getattr(one, "attributes", {}).values()))]
