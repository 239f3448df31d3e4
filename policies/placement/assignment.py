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
from policies.placement.inputs import NO_BID, Inputs
from policies.placement.protocol import Placement, PlacementReason, Scored, Turn, positions
from policies.placement.strategies import floor_of, pool_of, strategy_of


@dataclass(frozen=True, slots=True)
class Table:
    """A decision half made.

    Attributes:
        left: candidates not shown yet and within every cap, best first.
        views: what counts towards caps so far.
        waiting: how many are not shown yet, within caps or not.
        order: every candidate, shown or not, best first, where slots ask for a least bid; else empty.
    """

    left: tuple[Scored, ...]
    views: Views
    waiting: int
    order: tuple[Scored, ...] = ()


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
    pool = tuple(ranked if inputs.least_bids else ranked[: pool_of(policy)])
    views = caps.counted(policy.caps, inputs)
    within = caps.allowed(policy.caps, views, [one.creative for one in pool], inputs)
    return Table(tuple(itertools.compress(pool, within)), views, len(pool), pool if inputs.least_bids else ())


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
    choices = _reaching(policy, table, slot_id, inputs) if inputs.least_bids else table.left
    if choices and choices[-1].score < floor:
        choices = tuple(itertools.takewhile(lambda candidate: candidate.score >= floor, choices))
    return choices, tuple(strategy_of(policy)(choices)) if choices else ()


def without(policy: PlacementPolicy, table: Table, shown: Scored, inputs: Inputs) -> Table:
    """The table after one creative was shown."""
    left = tuple(candidate for candidate in table.left if candidate is not shown)
    if not policy.caps and not shown.creative.caps:
        return Table(left, table.views, table.waiting - 1, table.order)
    view = caps.as_shown(shown.creative, inputs)
    views = caps.with_view(policy.caps, table.views, view)
    changed = caps.filled_by(policy.caps, views, view)  # whatever else is left is within caps as it was
    if shown.creative.caps or caps.is_full(changed):
        within = caps.allowed(policy.caps, changed, [one.creative for one in left], inputs)
        left = tuple(itertools.compress(left, within))
    return Table(left, views, table.waiting - 1, table.order)


def _reaching(policy: PlacementPolicy, table: Table, slot_id: str, inputs: Inputs) -> tuple[Scored, ...]:
    """Of those left, the ones in the slot's own pool: the best of all that offer at least what the slot asks for."""
    least = inputs.least_bids.get(slot_id, 0)
    reach = (one for one in table.order if inputs.bids.get(one.creative.creative_id, NO_BID).reaches(least))
    pool = {one.creative.creative_id for one in itertools.islice(reach, pool_of(policy))}
    return tuple(one for one in table.left if one.creative.creative_id in pool)


def _unfilled(slot_id: str, position: int, table: Table) -> Placement:
    """A position left to the fallback: somebody was left and not good enough, or nobody was left."""
    reason = PlacementReason.BELOW_THRESHOLD if table.waiting else PlacementReason.NO_CANDIDATE
    return Placement(slot_id, position, None, None, 1.0, reason)
