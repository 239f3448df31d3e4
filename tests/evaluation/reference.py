"""Writes reference.json: what the Open Bandit Pipeline's estimators say on logs that tests make again from their seeds.

    python -m tests.evaluation.reference /path/to/sb-obp    # a folder where `import obp` works (sb-obp 0.5.10)

Its code is neither shipped nor copied: only the numbers that it computed are kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from bench.off_policy_world import world
from policies.evaluation.sample import Sample

STORED = Path(__file__).with_name("reference.json")
SEEDS = range(6)
TURNS = 3000


def sample_of(seed: int) -> tuple[Sample, dict[str, np.ndarray]]:
    """A log of ``world(seed)``, and the same in the reference's words."""
    here = world(seed)
    log = here.draw(TURNS, np.random.default_rng((21, seed)))
    sample = here.sample(log)
    x, a = log["x"], log["a"]
    # q̂ as ours, laid out for every action, so that DM and DR are compared with one model.
    from policies.evaluation import reward_model

    folds = reward_model.folds_of(np.arange(TURNS))
    model = reward_model.fit(folds, a, here.responses[x, a], log["r"], actions=8)
    pairs, every = np.repeat(np.arange(TURNS), 8), np.tile(np.arange(8), TURNS)
    predicted = model.predict(folds[pairs], every, here.responses[x].ravel()).reshape(TURNS, 8, 1)
    return sample, {
        "reward": log["r"],
        "action": a,
        "position": np.zeros(TURNS, int),
        "pscore": here.logging[x, a],
        "action_dist": here.target[x][:, :, None],
        "estimated_rewards_by_reg_model": predicted,
    }


def main(library: Path) -> None:
    """Ask the reference implementation."""
    sys.path.insert(0, str(library))
    import obp
    from obp.ope import (
        DirectMethod,
        DoublyRobust,
        InverseProbabilityWeighting,
        SelfNormalizedInverseProbabilityWeighting,
    )

    known = {
        "IPS": (InverseProbabilityWeighting(), ("reward", "action", "position", "pscore", "action_dist")),
        "SNIPS": (
            SelfNormalizedInverseProbabilityWeighting(),
            ("reward", "action", "position", "pscore", "action_dist"),
        ),
        "DM": (DirectMethod(), ("position", "action_dist", "estimated_rewards_by_reg_model")),
        "DR": (DoublyRobust(), None),
    }
    found = {}
    for seed in SEEDS:
        _, theirs = sample_of(seed)
        found[str(seed)] = {
            name: float(estimator.estimate_policy_value(**{key: theirs[key] for key in (names or theirs)}))
            for name, (estimator, names) in known.items()
        }
    text = {"made_by": f"obp {obp.__version__} (sb-obp)", "turns": TURNS, "values": found}
    STORED.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
