"""Words of the placement policy. Owns what g answers; decides nothing.

A = g(Y): candidates with their scores Y and the slots go in, one placement per position comes out. A bid may order
candidates; price is no output: nobody pays more because of what a device knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.wire.messages import Creative, SlotRequest
from policies.placement.inputs import NO_EVIDENCE, Evidence

ScoreFunction = Callable[[Sequence[Creative]], Sequence[float]]
"""Scores Y of creatives: one finite number each, in their order."""


class PlacementReason(StrEnum):
    """Why a position holds what it holds."""

    CHOSEN = "chosen"
    BELOW_THRESHOLD = "below-threshold"
    NO_CANDIDATE = "no-candidate"


class Step(StrEnum):
    """Filters of g, in their order; each drops candidates."""

    ELIGIBILITY = "eligibility"
    SAFETY = "safety"
    CAPS = "caps"
    PACING = "pacing"


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate and its score.

    Attributes:
        creative: the candidate.
        score: what it is ordered by.
        response: calibrated Y.
        scale: score of a certain response: 1, or the bid where the score is a value.
        evidence: what is known beside the model.
        predicted: Y before calibration.
    """

    creative: Creative
    score: float
    response: float = 0.0
    scale: float = 1.0
    evidence: Evidence = NO_EVIDENCE
    predicted: float = 0.0


Probabilities = Sequence[float]
"""Of each candidate left, best first; they add up to 1."""

Strategy = Callable[[Sequence[Scored]], Probabilities]
"""Who is shown next: from the candidates left (best first, at least one) to their probabilities. Pure."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What one position of one slot shows.

    Attributes:
        slot_id: the slot.
        position: 0, 1, … within the slot.
        creative_id: what is shown; None leaves the position to the fallback.
        score: its score; stays where it was computed.
        propensity: probability with which this rule would show it again here, given the candidates after the filters
            and what the positions before it show; 1 for rules without chance.
        reason: why.
    """

    slot_id: str
    position: int
    creative_id: str | None
    score: float | None
    propensity: float
    reason: PlacementReason


@dataclass(frozen=True, slots=True)
class Turn:
    """One position's draw: who could be shown, with which probability each, and what was.

    Attributes:
        choices: the candidates left that pass floor and caps, best first; empty if there are none.
        probabilities: of each; they add up to 1 unless there are none.
        placement: the outcome.
    """

    choices: tuple[Scored, ...]
    probabilities: tuple[float, ...]
    placement: Placement


@dataclass(frozen=True, slots=True)
class Decision:
    """A whole decision of g.

    Attributes:
        turns: one per position, in the order of the slots.
        dropped: how many creatives each filter took out.
    """

    turns: tuple[Turn, ...]
    dropped: Mapping[Step, int]

    @property
    def placements(self) -> tuple[Placement, ...]:
        """What is shown where."""
        return tuple(turn.placement for turn in self.turns)

    @property
    def slate_propensity(self) -> float:
        """Probability of the whole slate given the candidates: the product over positions, each given those before."""
        return math.prod(turn.placement.propensity for turn in self.turns)


def positions(slots: Sequence[SlotRequest]) -> list[tuple[str, int]]:
    """Every position of every slot, in order."""
    return [(slot.slot_id, position) for slot in slots for position in range(slot.count)]
