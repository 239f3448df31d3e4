"""From Y to the score that candidates are ordered by. Owns calibration and value; the only reader of a bid."""

from __future__ import annotations

import math
from collections.abc import Sequence

from common.errors import NonFiniteValue, OutOfRange, ShapeMismatch
from common.wire.messages import Creative
from policies.placement.document import Calibration, ScoreRule
from policies.placement.inputs import NO_BID, NO_EVIDENCE, Inputs
from policies.placement.protocol import Scored


def scored(candidates: Sequence[Creative], predicted: Sequence[float], rule: ScoreRule, inputs: Inputs) -> list[Scored]:
    """Candidates with their scores, in their order.

    Args:
        candidates: ``n`` creatives.
        predicted: Y, one per candidate.
        rule: ``response`` keeps calibrated Y; ``value`` multiplies it with the bid.
        inputs: bids and evidence by creative id.

    Raises:
        ShapeMismatch: not one number per candidate.
        NonFiniteValue: a number is NaN or infinite, so there is no order.
        OutOfRange: Y is no probability where the rule needs one.
    """
    if len(candidates) != len(predicted):
        raise ShapeMismatch(f"{len(candidates)} candidates need as many scores, got {len(predicted)}")
    if not all(map(math.isfinite, predicted)):
        raise NonFiniteValue("a candidate's score is not finite")
    return [_scored(creative, float(y), rule, inputs) for creative, y in zip(candidates, predicted, strict=True)]


def calibrated(y: float, by: Calibration) -> float:
    """Y through the calibration; 0 and 1 stay what they are.

    Raises:
        OutOfRange: Y is no probability.
    """
    if by.slope == 1 and by.intercept == 0:
        return y
    if not 0 <= y <= 1:
        raise OutOfRange("only a probability can be calibrated")
    if y in {0.0, 1.0}:
        return y
    return 1 / (1 + math.exp(-min(max(by.slope * math.log(y / (1 - y)) + by.intercept, -700.0), 700.0)))


def _scored(creative: Creative, y: float, rule: ScoreRule, inputs: Inputs) -> Scored:
    response = calibrated(y, rule.calibration)
    score, scale = response, 1.0
    if rule.kind == "value":
        bid = inputs.bids.get(creative.creative_id, NO_BID)
        score, scale = bid.value_of(response), bid.value_of(1.0)
    return Scored(creative, score, response, scale, inputs.evidence.get(creative.creative_id, NO_EVIDENCE), y)
