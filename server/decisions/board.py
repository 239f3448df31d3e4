"""g made ready. Owns what of g does not depend on one decision, and the rest of it, with the answers of g itself.

Filters, scores and order are the same for every request about the same page at the same time; a decision adds its id
(ties, pacing, exploration) and its slots. What is left to do then grows with the positions, not with the catalogue.
``policies.placement.decide`` stays the definition: a test holds both to the same answers on random catalogues.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from common.wire.messages import Creative, SlotRequest
from policies.placement.assignment import assign
from policies.placement.decide import filtered
from policies.placement.document import GreedyStrategy, PlacementPolicy, ThresholdStrategy, TopKStrategy
from policies.placement.inputs import Inputs
from policies.placement.pacing import coins
from policies.placement.protocol import Placement, PlacementReason, Scored, ScoreFunction, positions
from policies.placement.scoring import scored
from policies.placement.strategies import floor_of, pool_of
from policies.placement.tie_break import stable_hash
from server.decisions.asking import Shown, shown

_CERTAIN: Final = (GreedyStrategy, ThresholdStrategy, TopKStrategy)
_SHAPES_HELD: Final = 100
_NONE: Final[Mapping[str, int]] = {}


@dataclass(slots=True, eq=False)
class Shape:
    """Placements that many decisions share, as those that hang on nothing but the slots do.

    Attributes:
        slots: what was asked for.
        placements: the answer of g.
        shown: the same as it is recorded.
        parts: what an encoder made of them, by what it made it for.
    """

    slots: tuple[SlotRequest, ...]
    placements: tuple[Placement, ...]
    shown: tuple[Shown, ...]
    parts: dict[Hashable, tuple[bytes, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Board:
    """Candidates by score, best first, in groups of equals.

    Attributes:
        policy: the document.
        inputs: all but the pacing, which is tossed per decision.
        groups: equal scores, in the order of the catalogue, each with its candidates' campaigns.
        until: seconds since the epoch from which a creative begins or ends to be shown; the board holds before it.
        certain: no chance in it.
        within_caps: so many positions take no candidate of each other away by frequency caps.
        pool: how many of the best take part; None for all.
        floor: the least score that the document lets be shown.
    """

    policy: PlacementPolicy
    inputs: Inputs
    groups: tuple[tuple[tuple[Scored, ...], tuple[str, ...]], ...]
    until: float
    certain: bool
    within_caps: float
    pool: int | None
    floor: float
    _shapes: dict[tuple[int, ...], Shape] = field(default_factory=dict)

    def shape(self, slots: Sequence[SlotRequest], *, salt: str, pacing: Mapping[str, float]) -> Shape | None:
        """The placements of one decision, shared with all that come out alike; None where chance or caps take part."""
        count = sum([slot.count for slot in slots])
        if not self.certain or count > self.within_caps:
            return None
        ranked = self._ranked(count if self.pool is None else min(count, self.pool), salt, pacing)
        key = tuple([id(one) for one in (*slots, *ranked)])  # a shape keeps its slots, so no id names another
        found = self._shapes.get(key)
        if found is None:
            if len(self._shapes) >= _SHAPES_HELD:
                self._shapes.clear()
            placements = _in_turn(positions(slots), ranked, self.floor)
            found = self._shapes[key] = Shape(tuple(slots), placements, shown(placements))
        return found

    def decide(
        self,
        slots: Sequence[SlotRequest],
        *,
        salt: str,
        pacing: Mapping[str, float],
        floors: Mapping[str, float],
        least_bids: Mapping[str, int] = _NONE,
    ) -> tuple[Placement, ...]:
        """A = g(Y) for one decision.

        Raises:
            NonFiniteValue, OutOfRange: ``floors`` or ``pacing`` are not what they must be.
        """
        wanted = positions(slots)
        certain = self.certain and not floors and not least_bids and len(wanted) <= self.within_caps
        enough, pool = len(wanted) if certain else None, None if least_bids else self.pool
        if pool is not None and (enough is None or pool < enough):
            enough = pool
        ranked = self._ranked(enough, salt, pacing)
        if certain:
            return _in_turn(wanted, ranked, self.floor)
        inputs = replace(self.inputs, floors=floors, least_bids=least_bids) if floors or least_bids else self.inputs
        return tuple(turn.placement for turn in assign(self.policy, ranked, slots, inputs, salt))

    def _ranked(self, enough: int | None, salt: str, pacing: Mapping[str, float]) -> list[Scored]:
        """The best of those whose campaigns take part, ties by stable hash; all of them unless fewer are enough.

        A campaign's coin is tossed where the campaign is met first: most decisions need few.
        """
        found: list[Scored] = []
        tossed: dict[str, bool] = {}
        serves = coins(pacing, salt) if pacing else None
        for tied, campaigns in self.groups:
            left = tied
            if serves is not None:
                for name in campaigns:
                    if name in pacing and name not in tossed:
                        tossed[name] = serves(name)
                if tossed:
                    left = tuple([one for one, name in zip(tied, campaigns, strict=True) if tossed.get(name, True)])
            found += left if len(left) < 2 else sorted(left, key=lambda s: stable_hash(salt, s.creative.creative_id))
            if enough is not None and len(found) >= enough:
                return found[:enough]
        return found


def board(policy: PlacementPolicy, creatives: Sequence[Creative], score: ScoreFunction, inputs: Inputs) -> Board:
    """Make g ready.

    Args:
        policy: the document.
        creatives: the whole catalogue.
        score: gives candidates their scores Y; called once.
        inputs: what g is told beside them; its pacing is not used.

    Raises:
        ShapeMismatch, NonFiniteValue, OutOfRange: ``score`` or ``inputs`` are not what they must be.
    """
    told = replace(inputs, pacing={}, floors={}, least_bids={})
    left, _ = filtered(policy, creatives, told, "")
    best_first = sorted(scored(left, score(left), policy.score, told), key=lambda s: -s.score)
    groups = tuple(tuple(equals) for _, equals in itertools.groupby(best_first, key=lambda s: s.score))
    edges = (edge for c in creatives for edge in (c.starts_at, c.ends_at) if edge is not None and edge > told.now)
    caps = [cap.views_max for cap in policy.caps] + [cap.views_max for one in left for cap in one.caps]
    return Board(
        policy,
        told,
        tuple((tied, tuple(told.campaign_of(one.creative) for one in tied)) for tied in groups),
        until=min(edges, default=math.inf),
        certain=isinstance(policy.strategy, _CERTAIN),
        within_caps=min(caps, default=math.inf),
        pool=pool_of(policy),
        floor=floor_of(policy),
    )


def _in_turn(wanted: Sequence[tuple[str, int]], ranked: Sequence[Scored], floor: float) -> tuple[Placement, ...]:
    """The best left for every position, as long as it reaches the floor: what strategies without chance do."""
    left, turns = iter(ranked), []
    best = next(left, None)
    for slot_id, position in wanted:
        if best is None:
            turns.append(Placement(slot_id, position, None, None, 1.0, PlacementReason.NO_CANDIDATE))
        elif best.score < floor:
            turns.append(Placement(slot_id, position, None, None, 1.0, PlacementReason.BELOW_THRESHOLD))
        else:
            chosen = PlacementReason.CHOSEN
            turns.append(Placement(slot_id, position, best.creative.creative_id, best.score, 1.0, chosen))
            best = next(left, None)
    return tuple(turns)
