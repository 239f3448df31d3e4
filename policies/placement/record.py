"""A decision's own log. Owns the form in which one decision of g can be kept, and its replay.

The record holds scores and earlier views: on a device it stays there, as sealed as everything else that says what
somebody did. A service's records hold contextual scores only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.errors import DigestMismatch
from common.wire.messages import Creative, SlotRequest
from policies.placement.assignment import assign
from policies.placement.decide import decision, filtered, order_of
from policies.placement.document import PlacementPolicy
from policies.placement.inputs import Inputs
from policies.placement.protocol import Decision, Placement, ScoreFunction

_AGREE = 1e-9
"""Relative difference of propensities that another processor's exponential function may make."""


class DecisionRecord(BaseModel):
    """Everything that made a decision, and the decision.

    Attributes:
        policy_digest: SHA-256 of the policy document's bytes.
        catalogue_version: of the signed catalogue.
        seed: of every draw.
        slots, inputs: as g was given them.
        predicted: Y of each candidate that was scored, by creative id.
        placements: the answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1
    policy_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    catalogue_version: int = Field(ge=1)
    seed: str
    slots: tuple[SlotRequest, ...]
    inputs: Inputs
    predicted: dict[str, float]
    placements: tuple[Placement, ...]


def recorded(
    policy: PlacementPolicy,
    creatives: Sequence[Creative],
    score: ScoreFunction,
    slots: Sequence[SlotRequest],
    *,
    salt: str,
    inputs: Inputs,
    policy_digest: str,
    catalogue_version: int,
) -> tuple[Decision, DecisionRecord]:
    """Decide, and keep what replays it. Arguments as for ``decide.decide``.

    Raises:
        ShapeMismatch, NonFiniteValue, OutOfRange: ``score`` or ``inputs`` are not what they must be.
    """
    candidates, dropped = filtered(policy, creatives, inputs, salt)
    values = [float(y) for y in score(candidates)]
    order = order_of(policy, candidates, values, inputs, salt)
    made = Decision(assign(policy, order, slots, inputs, salt), dropped)
    predicted = {c.creative_id: y for c, y in zip(candidates, values, strict=True)}
    return made, DecisionRecord(
        policy_digest=policy_digest,
        catalogue_version=catalogue_version,
        seed=salt,
        slots=tuple(slots),
        inputs=inputs,
        predicted=predicted,
        placements=made.placements,
    )


def replay(
    record: DecisionRecord,
    policy: PlacementPolicy,
    creatives: Sequence[Creative],
    *,
    policy_digest: str,
    catalogue_version: int,
) -> Decision:
    """Decide again from the record, and compare.

    Raises:
        DigestMismatch: another policy or catalogue than the record's, or the answer is another one.
    """
    if (policy_digest, catalogue_version) != (record.policy_digest, record.catalogue_version):
        raise DigestMismatch("the record was made under another policy document or catalogue")
    again = decision(policy, creatives, _known(record.predicted), record.slots, salt=record.seed, inputs=record.inputs)
    if len(again.placements) != len(record.placements) or not all(map(_same, again.placements, record.placements)):
        raise DigestMismatch("the record replays to another answer: it was changed, or was never made by this policy")
    return again


def _known(predicted: Mapping[str, float]) -> ScoreFunction:
    def score(candidates: Sequence[Creative]) -> list[float]:
        if {c.creative_id for c in candidates} != predicted.keys():
            raise DigestMismatch("the record scores other candidates than the filters leave")
        return [predicted[c.creative_id] for c in candidates]

    return score


def _same(one: Placement, other: Placement) -> bool:
    facts = (one.slot_id, one.position, one.creative_id, one.reason)
    if facts != (other.slot_id, other.position, other.creative_id, other.reason):
        return False
    if (one.score is None) != (other.score is None):
        return False
    alike = one.score is None or other.score is None or math.isclose(one.score, other.score, rel_tol=_AGREE)
    return alike and math.isclose(one.propensity, other.propensity, rel_tol=_AGREE)
