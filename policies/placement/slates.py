"""Propensities of whole slates, exactly. Owns the enumeration of everything that a decision could have shown.

Definitions. A *slate* is what all positions show, in order. Given the candidates after the filters:

* the propensity of a position is conditional: P(a_t | a_1 … a_{t-1}); this is what ``Placement.propensity`` holds;
* the propensity of a slate is their product, P(a_1) · P(a_2 | a_1) · …;
* the marginal propensity of a creative at a position sums the propensities of all slates that show it there.

The product needs no enumeration; marginals do, and cost n!/(n-T)! slates of T positions: small ones only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from common.errors import OutOfRange
from common.wire.messages import SlotRequest
from policies.placement.assignment import Table, offered, opened, without
from policies.placement.document import PlacementPolicy
from policies.placement.inputs import Inputs
from policies.placement.protocol import Scored, positions

Slate = tuple[str | None, ...]
SLATES_MAX = 200_000


def slates(
    policy: PlacementPolicy, ranked: Sequence[Scored], slots: Sequence[SlotRequest], inputs: Inputs
) -> dict[Slate, float]:
    """Every slate that can come up, with its propensity; they add up to 1.

    Raises:
        OutOfRange: there are more than ``SLATES_MAX``.
    """
    found: dict[Slate, float] = {}
    todo = [slot_id for slot_id, _ in positions(slots)]
    for slate, probability in _from(policy, opened(policy, ranked, inputs), todo, inputs):
        found[slate] = found.get(slate, 0.0) + probability
        if len(found) > SLATES_MAX:
            raise OutOfRange(f"more than {SLATES_MAX} slates can come up: too many to enumerate")
    return found


def marginals(all_slates: dict[Slate, float]) -> list[dict[str | None, float]]:
    """Per position, the probability of each creative (None: the fallback) to be shown there."""
    width = len(next(iter(all_slates), ()))
    shares: list[dict[str | None, float]] = [defaultdict(float) for _ in range(width)]
    for slate, probability in all_slates.items():
        for position, shown in enumerate(slate):
            shares[position][shown] += probability
    return [dict(share) for share in shares]


def _from(policy: PlacementPolicy, table: Table, todo: Sequence[str], inputs: Inputs) -> Iterator[tuple[Slate, float]]:
    if not todo:
        yield (), 1.0
        return
    choices, probabilities = offered(policy, table, todo[0], inputs)
    if not choices:
        for rest, probability in _from(policy, table, todo[1:], inputs):
            yield (None, *rest), probability
    for choice, here in zip(choices, probabilities, strict=True):
        if here > 0:
            for rest, later in _from(policy, without(policy, table, choice, inputs), todo[1:], inputs):
                yield (choice.creative.creative_id, *rest), here * later
