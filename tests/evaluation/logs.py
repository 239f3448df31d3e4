"""Decision logs that g itself made, in a world where every policy document has an exact value."""

from __future__ import annotations

import numpy as np

from common.wire.messages import SlotRequest
from policies.evaluation.rows import LogRow, log_rows
from policies.placement.decide import decision, order_of
from policies.placement.document import PlacementPolicy
from policies.placement.inputs import NOTHING
from policies.placement.slates import slates
from tests.placement.made import creative, policy

CREATIVES = [creative(f"c{i}") for i in range(6)]
RESPONSES = np.random.default_rng(31).uniform(0.05, 0.5, (5, 6))
"""Y by context and creative; all differ, so that no tie-break matters."""
FACTORS = np.array([0.5, 1.2, 0.8, 1.0, 1.5, 0.6])
TRUTH = RESPONSES * FACTORS
"""The models' scores are wrong by a factor for each creative."""
TWO = [SlotRequest(slot_id="s", count=2)]
LOGGING = policy({"kind": "epsilon_greedy", "exploration": 0.6, "k": 6}, name="logging")


def made_log(decisions: int, seed: int = 0, logging: PlacementPolicy = LOGGING) -> list[LogRow]:
    rng, rows = np.random.default_rng((41, seed)), []
    for number in range(decisions):
        context = int(rng.integers(5))
        name = f"dec_{seed}_{number}"
        made = decision(logging, CREATIVES, lambda _, y=RESPONSES[context]: y.tolist(), TWO, salt=name)
        shown = [p.creative_id for p in made.placements]
        clicks = [float(rng.random() < TRUTH[context, int(one[1:])]) if one is not None else 0.0 for one in shown]
        rows += log_rows(made, name, clicks)
    return rows


def exact(rules: PlacementPolicy) -> float:
    """Expected reward per turn: over contexts and every slate that can come up."""
    total = 0.0
    for responses, truth in zip(RESPONSES, TRUTH, strict=True):
        order = order_of(rules, CREATIVES, responses.tolist(), NOTHING, "x")
        for slate, probability in slates(rules, order, TWO, NOTHING).items():
            total += probability * sum(truth[int(one[1:])] for one in slate if one is not None)
    return total / (2 * len(TRUTH))
