"""From Y to the score that candidates are ordered by. Owns calibration and value; nobody else makes a bid a number."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from common.errors import NonFiniteValue, OutOfRange, ShapeMismatch
from common.wire.messages import Creative
from policies.placement.document import Calibration, ScoreRule
from policies.placement.inputs import NO_BID, NO_EVIDENCE, Inputs
from policies.placement.protocol import Scored

_AS_IT_IS = Calibration()


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
    _check(candidates, predicted)
    return [_scored(creative, float(y), rule, inputs) for creative, y in zip(candidates, predicted, strict=True)]


def best_scored(
    candidates: Sequence[Creative],
    predicted: Sequence[float],
    rule: ScoreRule,
    inputs: Inputs,
    *,
    most: int | None,
) -> list[Scored]:
    """``scored`` without those that cannot be among the ``most`` best; ties with the last of these stay."""
    _check(candidates, predicted)
    if most is None or len(candidates) <= most:
        return scored(candidates, predicted, rule, inputs)
    responses = [float(y) for y in predicted]
    if rule.calibration != _AS_IT_IS:
        responses = [calibrated(y, rule.calibration) for y in responses]
    scores = responses
    if rule.kind == "value":
        bids = inputs.bids
        scores = [bids.get(c.creative_id, NO_BID).value_of(y) for c, y in zip(candidates, responses, strict=True)]
    least = heapq.nlargest(most, scores)[-1]
    kept = [i for i, score in enumerate(scores) if score >= least]
    return [_scored(candidates[i], float(predicted[i]), rule, inputs) for i in kept]


def _check(candidates: Sequence[Creative], predicted: Sequence[float]) -> None:
    if len(candidates) != len(predicted):
        raise ShapeMismatch(f"{len(candidates)} candidates need as many scores, got {len(predicted)}")
    if not all(map(math.isfinite, predicted)):
        raise NonFiniteValue("a candidate's score is not finite")


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


def _score(creative_id: str, response: float, rule: ScoreRule, inputs: Inputs) -> float:
    return inputs.bids.get(creative_id, NO_BID).value_of(response) if rule.kind == "value" else response


def _scored(creative: Creative, y: float, rule: ScoreRule, inputs: Inputs) -> Scored:
    name, response = creative.creative_id, calibrated(y, rule.calibration)
    score, scale = _score(name, response, rule, inputs), _score(name, 1.0, rule, inputs)
    return Scored(creative, score, response, scale, inputs.evidence.get(name, NO_EVIDENCE), y)
