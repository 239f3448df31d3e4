"""Words of the placement policy. Owns what g takes and what it answers; decides nothing.

A = g(Y): candidates with their scores Y and the slots go in, one placement per position comes out. Price is no input
and no output: nobody pays more because of what a device knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from common.wire.messages import Creative, SlotRequest

ScoreFunction = Callable[[Sequence[Creative]], Sequence[float]]
"""Scores Y of creatives: one finite number each, in their order."""


class PlacementReason(StrEnum):
    """Why a position holds what it holds."""

    CHOSEN = "chosen"
    BELOW_THRESHOLD = "below-threshold"
    NO_CANDIDATE = "no-candidate"


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate and its score."""

    creative: Creative
    score: float


@dataclass(frozen=True, slots=True)
class Placement:
    """What one position of one slot shows.

    Attributes:
        slot_id: the slot.
        position: 0, 1, … within the slot.
        creative_id: what is shown; None leaves the position to the fallback.
        score: its score; stays where it was computed.
        propensity: probability with which this rule would show it again; 1 for rules without chance.
        reason: why.
    """

    slot_id: str
    position: int
    creative_id: str | None
    score: float | None
    propensity: float
    reason: PlacementReason


class Strategy(Protocol):
    """Fills slots from candidates that are ranked best first."""

    def fill(self, ranked: Sequence[Scored], slots: Sequence[SlotRequest]) -> tuple[Placement, ...]:
        """One placement per position, in the order of the slots; no creative twice."""
        ...


def positions(slots: Sequence[SlotRequest]) -> list[tuple[str, int]]:
    """Every position of every slot, in order."""
    return [(slot.slot_id, position) for slot in slots for position in range(slot.count)]


def chosen(slot_id: str, position: int, candidate: Scored) -> Placement:
    """The placement of a candidate by a rule without chance."""
    return Placement(slot_id, position, candidate.creative.creative_id, candidate.score, 1.0, PlacementReason.CHOSEN)


def unfilled(slot_id: str, position: int, reason: PlacementReason) -> Placement:
    """A position left to the fallback."""
    return Placement(slot_id, position, None, None, 1.0, reason)
