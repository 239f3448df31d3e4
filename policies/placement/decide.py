"""g itself. Pure: the same document, inputs and seed give the same answer anywhere, today and on replay.

Steps, in this order: kill switch and eligibility → category and brand safety → frequency caps → pacing → score → a
slot's least bid → the strategy's pool → floor → exploration by the strategy → assignment without repetition; ties by a
stable hash. The floor limits what exploration may draw from, so that no exploration ever shows what the document would
not; a least bid comes before the pool, so that no cheap candidate takes the place of one that a page would accept.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from common.wire.messages import Creative, SlotRequest
from policies.placement import caps
from policies.placement.assignment import assign
from policies.placement.document import PlacementPolicy
from policies.placement.eligibility import eligible, running
from policies.placement.inputs import NOTHING, Inputs
from policies.placement.pacing import paced
from policies.placement.protocol import Decision, Placement, Scored, ScoreFunction, Step
from policies.placement.safety import safe
from policies.placement.scoring import best_scored
from policies.placement.strategies import pool_of
from policies.placement.tie_break import ranked


def decide(
    policy: PlacementPolicy,
    creatives: Sequence[Creative],
    score: ScoreFunction,
    slots: Sequence[SlotRequest],
    *,
    salt: str,
    inputs: Inputs = NOTHING,
) -> tuple[Placement, ...]:
    """A = g(Y).

    Args:
        policy: the policy document.
        creatives: the whole catalogue.
        score: gives the candidates left by the filters their scores Y; called once.
        slots: what is to be filled.
        salt: seed of tie-break, pacing and exploration; the decision's id.
        inputs: what g is told beside them.

    Raises:
        ShapeMismatch, NonFiniteValue, OutOfRange: ``score`` or ``inputs`` are not what they must be.
    """
    return decision(policy, creatives, score, slots, salt=salt, inputs=inputs).placements


def decision(
    policy: PlacementPolicy,
    creatives: Sequence[Creative],
    score: ScoreFunction,
    slots: Sequence[SlotRequest],
    *,
    salt: str,
    inputs: Inputs = NOTHING,
) -> Decision:
    """``decide`` with everything that explains it: who could be shown where, with which probability."""
    left, dropped = filtered(policy, creatives, inputs, salt)
    order = order_of(policy, left, score(left), inputs, salt)
    return Decision(assign(policy, order, slots, inputs, salt), dropped)


def filtered(
    policy: PlacementPolicy, creatives: Sequence[Creative], inputs: Inputs, salt: str
) -> tuple[tuple[Creative, ...], dict[Step, int]]:
    """The candidates, and how many creatives each filter took out."""
    views = caps.counted(policy.caps, inputs)
    whole = tuple(creatives)
    fit = eligible(whole, policy.eligibility)
    if inputs.stopped:
        fit = running(fit, inputs.stopped)
    clean = safe(fit, policy.eligibility, inputs)
    fresh = tuple(itertools.compress(clean, caps.allowed(policy.caps, views, clean, inputs)))
    serving = paced(fresh, inputs, salt)
    sizes = [len(stage) for stage in (whole, fit, clean, fresh, serving)]
    return serving, {step: sizes[i] - sizes[i + 1] for i, step in enumerate(Step)}


def order_of(
    policy: PlacementPolicy, candidates: Sequence[Creative], predicted: Sequence[float], inputs: Inputs, salt: str
) -> tuple[Scored, ...]:
    """Candidates that can be shown, by score, best first, ties by stable hash."""
    most = None if inputs.least_bids else pool_of(policy)  # which of them a slot's pool is made of depends on the slot
    pool = best_scored(candidates, predicted, policy.score, inputs, most=most)
    return ranked(pool, salt)
