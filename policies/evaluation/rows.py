"""The decision log: one row per turn. Owns its schema and what g itself writes into it; reads no file.

A log with scores belongs where the scores are: on the device, in a simulation, or in a service that scores by context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from policies.placement.inputs import NO_BID, Bid
from policies.placement.protocol import Decision

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
Probability = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class LoggedCandidate(BaseModel):
    """Somebody who could have been shown in a turn.

    Attributes:
        id: the creative.
        propensity: probability with which the logging policy would show it in this turn; None: not logged.
        response: Y before any calibration by a policy.
        bid_micros: what was offered for a response; None: no bids were looked at.
        views, responses: evidence, for Thompson sampling.
        targets: probabilities under other policies that were computed elsewhere, by the policy's name.
    """

    model_config = _STRICT
    id: Name
    propensity: Probability | None = None
    response: float = 0.0
    bid_micros: Annotated[int, Field(ge=0)] | None = None
    views: float = Field(default=0.0, ge=0)
    responses: float = Field(default=0.0, ge=0)
    targets: dict[Name, Probability] = {}


class LogRow(BaseModel):
    """One turn of one decision.

    Attributes:
        decision_id: turns with the same one belong together; also the seed of tie-breaks.
        turn: 0, 1, … over all positions of all slots, in the order in which they were filled.
        slot_id: the slot.
        shown: creative that was shown; None where the position was left to the fallback.
        propensity: probability of exactly that outcome, given candidates and earlier turns.
        reward: what it earned: 1 for a click, or any finite number.
        candidates: who could have been shown in this turn: after the filters, without those shown before.
        least_bid_micros: what had to be offered at least to take part (an exchange's ``bidfloor``); 0: nothing. No
            policy could have shown a candidate that offers less.
    """

    model_config = _STRICT
    schema_version: Literal[1] = 1
    decision_id: Name
    turn: int = Field(default=0, ge=0)
    slot_id: str = ""
    shown: Name | None
    propensity: Annotated[float, Field(gt=0, le=1)]
    reward: float
    least_bid_micros: Annotated[int, Field(ge=0)] = 0
    candidates: Annotated[tuple[LoggedCandidate, ...], Field(max_length=10_000)]

    @model_validator(mode="after")
    def _whole(self) -> LogRow:
        ids = {candidate.id for candidate in self.candidates}
        if len(ids) != len(self.candidates):
            raise ValueError("a candidate occurs twice")
        if self.shown is not None and self.shown not in ids:
            raise ValueError("what was shown is not among the candidates")
        if self.shown is None and self.reward != 0:
            raise ValueError("a position without a creative cannot earn a reward")
        for candidate, may in zip(self.candidates, self.reaching, strict=True):
            if may is False and (candidate.id == self.shown or candidate.propensity):
                raise ValueError("a candidate below the least bid could be shown")
        return self

    @property
    def reaching(self) -> tuple[bool | None, ...]:
        """Whether each candidate offers what had to be offered; None where its bid was not logged."""
        least = self.least_bid_micros
        return tuple(
            True if not least else None if one.bid_micros is None else Bid(one.bid_micros).reaches(least)
            for one in self.candidates
        )


def log_rows(
    decision: Decision,
    decision_id: str,
    rewards: Sequence[float],
    *,
    bids: Mapping[str, Bid] | None = None,
    least_bids: Mapping[str, int] | None = None,
) -> list[LogRow]:
    """The rows of a decision of g and what its turns earned.

    Args:
        decision: made by ``policies.placement.decide.decision``.
        decision_id: the salt that it was made with.
        rewards: one per turn.
        bids: by creative id, where the decision looked at them.
        least_bids: by slot id, as the decision was asked for; without ``bids`` such a decision cannot be judged later.
    """
    asked = least_bids or {}
    return [
        LogRow(
            decision_id=decision_id,
            turn=number,
            slot_id=turn.placement.slot_id,
            shown=turn.placement.creative_id,
            propensity=turn.placement.propensity,
            reward=reward,
            least_bid_micros=asked.get(turn.placement.slot_id, 0),
            candidates=tuple(
                LoggedCandidate(
                    id=choice.creative.creative_id,
                    propensity=probability,
                    response=choice.predicted,
                    bid_micros=None if bids is None else bids.get(choice.creative.creative_id, NO_BID).micros,
                    views=choice.evidence.views,
                    responses=choice.evidence.responses,
                )
                for choice, probability in zip(turn.choices, turn.probabilities, strict=True)
            ),
        )
        for number, (turn, reward) in enumerate(zip(decision.turns, rewards, strict=True))
    ]
