"""What are placements worth? One slot, weeks 43-53 of completejourney, every product of the shelf a candidate.

    python -m bench.placement_value --seeds 5 --json bench/results/placement_value.json

Every candidate's outcome is known, so the value of a policy is exact: no estimator, no simulated reader. ``mode 1`` is
g on the federated model under user-level ε = 8 (``bench.utility``'s training), run on the device's own history;
``mode 0`` is the same model and the same g without it. In mode 2 one index out of a public list of K leaves the
device per store and week, drawn by top-m randomised response at the household's first basket there and kept. Purchases,
not clicks; exposure inferred; nothing causal (docs/data.md).

A run that was cut off goes on where it stopped if the same JSON is named again.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from bench.placement_data import HeldOutShelves, Shelves
from bench.placement_modes import PERCENT, pick_values
from bench.utility import point
from bench.utility_data import Households
from bench.utility_path import Path as TrainingPath
from cli.evaluation import interval
from cli.shows import bars, console, show_table
from client.population.description import load_description
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.model.network import load_network, probabilities
from common.privacy.randomness import SecureNoise
from common.taxonomy import Profile
from common.wire.messages import Creative, SlotRequest
from policies import loader
from policies.placement.decide import decision
from policies.placement.document import (
    AnyStrategy,
    EligibilityRules,
    EpsilonGreedyStrategy,
    GreedyStrategy,
    PlacementPolicy,
    ThompsonStrategy,
)
from policies.placement.protocol import Turn
from policies.schema import PickRules

Floats = npt.NDArray[np.float64]
EPSILON = 8.0
BASKETS = 8000
MODE_1_MIN = 0.10
EPSILONS = (1.0, 2.0, 4.0)
LISTS = (4, 8)
SLOT = (SlotRequest(slot_id="top"),)
STRATEGIES: Mapping[str, AnyStrategy] = {
    "greedy": GreedyStrategy(kind="greedy"),
    "ε-greedy 0.1 of 20": EpsilonGreedyStrategy(kind="epsilon_greedy", exploration=0.1, k=20),
    "Thompson, sd 0.01 of 20": ThompsonStrategy(kind="thompson", stddev=0.01, k=20),
}


class Scores(NamedTuple):
    """Y of every row: personal, contextual and boosted; ``drawn``: of the listed when a pick is drawn."""

    personal: Floats
    contextual: Floats
    drawn: Floats
    boosted: Floats


def main() -> int:
    """Measure, print, write; the exit status says whether the target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--baskets", type=int, default=BASKETS)
    parser.add_argument("--show", action="store_true", help="measure nothing: report what the JSON holds")
    parser.add_argument("--cache", type=Path, default=Path("var/cache"))
    parser.add_argument("--json", type=Path, default=Path("var/bench/placement_value.json"))
    arguments = parser.parse_args()
    body: dict[str, Any] = {"baskets": arguments.baskets, "epsilon": EPSILON, "seeds": {}}
    if arguments.json.is_file():
        body = json.loads(arguments.json.read_text())
    description = load_description("completejourney")
    budget = loader.load().policies.privacy_budget
    training = point(Profile.USER_DISTRIBUTED, EPSILON, budget, description)
    spread = (budget.placement or PickRules.model_construct()).logit_spread
    body |= {"statement": training.statements[0].sentence(), "logit_spread": spread}
    shelves = HeldOutShelves(description, arguments.cache, baskets=arguments.baskets)
    households = Households(description, arguments.cache)
    for seed in range(0 if arguments.show else arguments.seeds):
        if str(seed) in body["seeds"]:
            continue
        began = time.process_time()
        with bars() as progress:
            task = progress.add_task(f"seed {seed}", total=None, note="")
            held = shelves.shelves(seed, lambda d, t, task=task: progress.update(task, completed=d, total=t))  # type: ignore[misc]
            devices = households.rows(seed).train
            scores = scored(training.path, devices, held, arguments.cache, seed=seed)
            found = measure(held, scores, spread=spread)
        body["seeds"][str(seed)] = found | {"cpu_seconds": round(time.process_time() - began, 1)}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(body, indent=1))
    return report(body)


def measure(held: Shelves, scores: Scores, *, spread: float) -> dict[str, Any]:
    """The exact value of every policy, of one seed."""
    personal, contextual, drawn, boosted = scores
    values: dict[str, Floats] = {
        "uniform": np.add.reduceat(held.rows.labels.astype(np.float64), held.starts) / held.sizes,
        "popularity": expected(held, held.sold / held.sold.max(), STRATEGIES["greedy"]),
        "mode 0": expected(held, contextual, STRATEGIES["greedy"]),
    }
    for name, strategy in STRATEGIES.items():
        values["mode 1" if name == "greedy" else f"mode 1, {name}"] = expected(held, personal, strategy)
    values["central GBM"] = expected(held, boosted, STRATEGIES["greedy"])
    values["best possible"] = np.maximum.reduceat(held.rows.labels, held.starts).astype(np.float64)
    found: dict[str, Any] = {
        part: {name: round(float(value[mask].mean()), 6) for name, value in values.items()}
        for part, mask in (("later", held.seen), ("unseen", ~held.seen), ("all", np.ones(len(held.seen), bool)))
    }
    picks = {
        f"{k} {e:g}": pick_values(held, personal, contextual, drawn, size=k, epsilon=e, spread=spread)
        for k in LISTS
        for e in EPSILONS
    }
    return found | {"picks": picks}


def scored(path: TrainingPath, devices: Sequence[Examples], held: Shelves, cache: Path, *, seed: int) -> Scores:
    """Train with fresh noise, and score every row. Kept, so that a look at other policies trains nothing again."""
    file = _file(cache, path.spec, held, seed)
    if not file.is_file():
        rng = SecureNoise()
        weights = path.refit(path.weights(devices, rng), devices, rng)
        network = load_network(weights, path.config.model(path.spec), path.spec)
        rows, drawn = held.rows, held.drawn
        temporary = file.with_suffix(".part.npz")
        np.savez(
            temporary,
            probabilities(network, rows.categorical, rows.numeric),
            probabilities(network, *path.spec.contextual(rows.categorical, rows.numeric)),
            probabilities(network, drawn.categorical, drawn.numeric).reshape(len(held.starts), -1),
            central(devices, held.rows, seed),
        )
        temporary.rename(file)
    return kept(cache, path.spec, held, seed=seed)


def kept(cache: Path, spec: FeatureSpec, held: Shelves, *, seed: int) -> Scores:
    """Scores of an earlier run."""
    with np.load(_file(cache, spec, held, seed)) as found:
        return Scores(*(found[name] for name in found.files))


def _file(cache: Path, spec: FeatureSpec, held: Shelves, seed: int) -> Path:
    return cache / f"shelf-scores-{spec.digest[:12]}-{len(held.starts)}-{seed}.npz"


def expected(held: Shelves, values: Floats, strategy: AnyStrategy) -> Floats:
    """Expected outcome of g's first position in each basket, over g's own draw, ``[n]``.

    Args:
        held: the shelves.
        values: Y of every row.
        strategy: of the policy document.
    """
    policy, out = rules_of(strategy), np.zeros(len(held.starts))
    for index, (start, size) in enumerate(zip(held.starts, held.sizes, strict=True)):
        rows = slice(int(start), int(start + size))
        turn = turn_of(held, values, policy, index)
        label = dict(zip(map(str, held.products[rows].tolist()), held.rows.labels[rows], strict=True))
        shown = zip(turn.choices, turn.probabilities, strict=True)
        out[index] = sum(share * label[choice.creative.creative_id] for choice, share in shown)
    return out


def rules_of(strategy: AnyStrategy) -> PlacementPolicy:
    """A document with this strategy that lets every product take part."""
    rules = EligibilityRules(denied_categories=(), require_label=False)
    return PlacementPolicy(version=1, name="bench", eligibility=rules, strategy=strategy)


def turn_of(held: Shelves, values: Floats, policy: PlacementPolicy, index: int) -> Turn:
    """G's first position in one basket."""
    rows = slice(int(held.starts[index]), int(held.starts[index] + held.sizes[index]))
    shelf = [_creative(int(p)) for p in held.products[rows]]
    return decision(policy, shelf, lambda _: values[rows].tolist(), SLOT, salt=str(index)).turns[0]


def central(devices: Sequence[Examples], rows: Examples, seed: int) -> Floats:
    """Gradient boosting that sees every device's rows in one place, the reference without any privacy."""
    train = [one for one in devices if len(one)]
    matrix = np.concatenate([np.hstack([one.categorical, one.numeric]) for one in train])
    labels = np.concatenate([one.labels for one in train])
    model = HistGradientBoostingClassifier(max_iter=200, learning_rate=0.08, max_leaf_nodes=31, random_state=seed)
    model.fit(matrix.astype(np.float32), labels)
    return np.asarray(model.predict_proba(np.hstack([rows.categorical, rows.numeric]).astype(np.float32))[:, 1])


@functools.cache
def _creative(product: int) -> Creative:
    words = {"en": f"product {product}", "zh-CN": f"商品{product}"}
    return Creative(
        creative_id=str(product),
        item_id=str(product),
        attributes={},
        category="grocery",
        advertiser="grocery",
        payer="grocery",
        title=words,
        description=words,
        image_url="/static/product.svg",
        image_alt=words,
        landing_url="https://shop.example/",
        label={"en": "Ad", "zh-CN": "广告"},
    )


def report(body: Mapping[str, Any]) -> int:
    """Tables and the target; 1 if it was missed."""
    seeds = list(body["seeds"].values())
    parts = ("all", "later", "unseen")
    rows = [[name, *(_told([seed[part][name] for seed in seeds]) for part in parts)] for name in seeds[0]["all"]]
    title = f"Value of the top slot, {len(seeds)} seeds of {body['baskets']} baskets: mean ± half width of 95 %"
    show_table(title, ["policy", "all households", "trained", "never seen"], rows)
    first = seeds[0]["picks"]
    columns = [column for column in next(iter(first.values())) if column != "m"]
    picks = [
        [
            *name.split(),
            str(first[name]["m"]),
            *(_told([seed["picks"][name][c] for seed in seeds], 0 if c in PERCENT else 2) for c in columns),
        ]
        for name in first
    ]
    show_table("Mode 2: a private pick out of K public candidates, kept for a week", ["K", "ε", "m", *columns], picks)
    console.print(body["statement"], soft_wrap=True, highlight=False)
    value = interval([seed["all"]["mode 1"] for seed in seeds])[0]
    passed = value >= MODE_1_MIN
    console.print(f"{'pass' if passed else 'MISSED'}  g in mode 1, at least {MODE_1_MIN:.0%}: {value:.2%}")
    return int(not passed)


def _told(values: Sequence[float], digits: int = 2) -> str:
    mean, half = interval(values)
    return f"{mean:.{digits}%} ± {half:.{digits}%}"


if __name__ == "__main__":
    raise SystemExit(main())
