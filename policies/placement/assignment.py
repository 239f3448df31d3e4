"""Slot assignment. Owns filling positions in turn: each creative once, within floor and caps, drawn by the strategy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import NonFiniteValue
from common.wire.messages import SlotRequest
from policies.placement import caps
from policies.placement.caps import Views
from policies.placement.document import PlacementPolicy
from policies.placement.draw import pick, uniform
from policies.placement.inputs import Inputs
from policies.placement.protocol import Placement, PlacementReason, Scored, Turn, positions
from policies.placement.strategies import floor_of, pool_of, strategy_of


@dataclass(frozen=True, slots=True)
class Table:
    """A decision half made.

    Attributes:
        left: candidates not shown yet, best first.
        views: what counts towards caps so far.
    """

    left: tuple[Scored, ...]
    views: Views


def assign(
    policy: PlacementPolicy, ranked: Sequence[Scored], slots: Sequence[SlotRequest], inputs: Inputs, seed: str
) -> tuple[Turn, ...]:
    """Every position's turn; ``ranked`` are the candidates, best first."""
    table, turns = opened(policy, ranked, inputs), []
    for slot_id, position in positions(slots):
        choices, probabilities = offered(policy, table, slot_id, inputs)
        if not choices:
            turns.append(Turn((), (), _unfilled(slot_id, position, table)))
            continue
        index = pick(probabilities, uniform(seed, "slot", slot_id, position))
        shown = choices[index]
        placement = Placement(
            slot_id,
            position,
            shown.creative.creative_id,
            shown.score,
            probabilities[index],
            PlacementReason.CHOSEN,
        )
        turns.append(Turn(choices, probabilities, placement))
        table = without(policy, table, shown, inputs)
    return tuple(turns)


def opened(policy: PlacementPolicy, ranked: Sequence[Scored], inputs: Inputs) -> Table:
    """The table before the first position."""
    return Table(tuple(ranked[: pool_of(policy)]), caps.counted(policy.caps, inputs))


def offered(
    policy: PlacementPolicy, table: Table, slot_id: str, inputs: Inputs
) -> tuple[tuple[Scored, ...], tuple[float, ...]]:
    """Who may be shown in a slot next, and the probability of each.

    Raises:
        NonFiniteValue: the slot's floor is no number.
    """
    of_slot = inputs.floors.get(slot_id, -math.inf)
    if math.isnan(of_slot):
        raise NonFiniteValue("a slot's floor is not a number")
    floor = max(floor_of(policy), of_slot)
    good = itertools.takewhile(lambda candidate: candidate.score >= floor, table.left)
    choices = tuple(good)
    if policy.caps:
        within = caps.allowed(policy.caps, table.views, [c.creative for c in choices], inputs)
        choices = tuple(itertools.compress(choices, within))
    return choices, tuple(strategy_of(policy)(choices)) if choices else ()


def without(policy: PlacementPolicy, table: Table, shown: Scored, inputs: Inputs) -> Table:
    """The table after one creative was shown."""
    left = tuple(candidate for candidate in table.left if candidate is not shown)
    if not policy.caps:
        return Table(left, table.views)
    return Table(left, caps.with_view(policy.caps, table.views, caps.as_shown(shown.creative, inputs)))


def _unfilled(slot_id: str, position: int, table: Table) -> Placement:
    """A position left to the fallback: somebody was left and not good enough, or nobody was left."""
    reason = PlacementReason.BELOW_THRESHOLD if table.left else PlacementReason.NO_CANDIDATE
    return Placement(slot_id, position, None, None, 1.0, reason)
