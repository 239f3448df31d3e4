"""How good is the model, with and without noise, with and without personal history? Several seeds, with intervals.

    python -m bench.quality --seeds 3 --json out.json

Each seed draws its own slates, its own unseen households and its own noise. Held out: weeks 43-53 of households that
trained, and of the 25 % never seen. Central logistic regressions on the same rows are the reference.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from cli.evaluation import Holdouts, Quality, gather, interval, quality
from cli.owners import consent_for_all
from cli.shows import bars, console, round_note, show_table
from cli.training import Plan, copy_nodes, train
from client.population.build import Population, Request, build_population
from client.population.description import load_description
from common.crypto import keyfile
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.taxonomy import ModelFamily, Profile
from server.settings import Settings

Found = dict[str, Quality]
FIGURES = ("auc", "log_loss", "calibration")


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--devices", type=int, default=0, help="0: all 2,450 households")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--family", choices=[f.value for f in ModelFamily], default=ModelFamily.LOGISTIC.value)
    parser.add_argument("--cache", type=Path, default=Path("var/cache"))
    parser.add_argument("--json", type=Path, default=Path("var/bench/quality.json"))
    arguments = parser.parse_args()
    began = time.monotonic()
    results = [_one_seed(seed, arguments) for seed in range(arguments.seeds)]
    rows = _rows(results)
    show_table(f"Held-out quality, {arguments.seeds} seeds: mean ± half width of the 95 % interval", HEADER, rows)
    for privacy in dict.fromkeys(result["privacy"] for result in results):
        console.print(privacy, soft_wrap=True)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    body = {
        "arguments": {k: str(v) for k, v in vars(arguments).items()},
        "seconds": round(time.monotonic() - began, 1),
        "table": [dict(zip(HEADER, row, strict=True)) for row in rows],
        "seeds": [
            {name: asdict(found) for name, found in result["found"].items()} | {"privacy": result["privacy"]}
            for result in results
        ],
    }
    arguments.json.write_text(json.dumps(body, indent=1))
    console.print(f"JSON: {arguments.json}")


HEADER = ("model", "held-out rows", "AUC", "log loss", "calibration")


def _one_seed(seed: int, arguments: argparse.Namespace) -> dict[str, object]:
    description = load_description("completejourney")
    spec = description.feature_spec()
    with bars() as progress, tempfile.TemporaryDirectory(prefix="reticent-bench-") as folder:
        task = progress.add_task(f"seed {seed}: population", total=None, note="")
        request = Request(description, devices=arguments.devices or None, seed=seed)
        population = build_population(
            request, arguments.cache, lambda _w, done, total: progress.update(task, completed=done, total=total)
        )
        holdouts = _holdouts(population, spec)
        task = progress.add_task(f"seed {seed}: central references", total=1, note="")
        found: Found = _central(gather(population.node_directories, spec, "train"), holdouts, spec)
        progress.update(task, completed=1)
        settings = Settings.simulated(Path(folder) / "server")
        key = keyfile.load_or_create(settings.signing_key)
        privacy = ""
        for profile in (Profile.NON_PRIVATE, Profile.RECORD_LOCAL):
            nodes = copy_nodes(population.node_directories, Path(folder) / profile.value)
            consent_for_all(sorted(nodes.iterdir()), key)
            task = progress.add_task(f"seed {seed}: {profile.value}", total=arguments.rounds, note="")
            plan = Plan(
                profile.value,
                profile,
                description.base_rate,
                rounds=arguments.rounds,
                family=ModelFamily(arguments.family),
                seed=seed,
            )
            done = train(
                plan,
                nodes,
                spec=spec,
                holdouts=holdouts,
                settings=settings,
                watch=lambda report, measured, task=task: progress.update(  # type: ignore[misc]
                    task, completed=report.round_number, note=round_note(report, measured)
                ),
            )
            for view, where in (("personal", "later"), ("contextual", "later")):
                found[f"federated {profile.value}, {view} | {where}"] = done.seen[view]
            for view in done.unseen or {}:
                found[f"federated {profile.value}, {view} | unseen"] = (done.unseen or {})[view]
            privacy = done.finished.privacy.sentence()
        return {"found": found, "privacy": privacy}


def _holdouts(population: Population, spec: FeatureSpec) -> Holdouts:
    return Holdouts(
        gather(population.node_directories, spec, "holdout"),
        gather([population.unseen_directory], spec, "holdout"),
    )


def _central(rows: Examples, holdouts: Holdouts, spec: FeatureSpec) -> Found:
    """Logistic regressions that see all devices' rows in one place: what federation and noise are measured against."""
    found: Found = {}
    for view in ("contextual", "personal"):
        model = LogisticRegression(max_iter=200).fit(_matrix(rows, spec, view), rows.labels)
        for where, held in (("later", holdouts.seen), ("unseen", holdouts.unseen)):
            predicted = model.predict_proba(_matrix(held, spec, view))[:, 1]
            found[f"central, {view} | {where}"] = quality(predicted, held.labels)
    return found


def _matrix(rows: Examples, spec: FeatureSpec, view: str) -> sparse.csr_matrix:
    ids, numbers = rows.categorical, rows.numeric
    if view == "contextual":
        ids, numbers = spec.contextual(ids, numbers)
    n, fields = ids.shape
    index = (np.repeat(np.arange(n), fields), ids.reshape(-1))
    hot = sparse.csr_matrix((np.ones(n * fields, np.float32), index), shape=(n, spec.table_rows))
    return sparse.hstack([hot, sparse.csr_matrix(numbers)]).tocsr()


def _rows(results: Sequence[dict[str, object]]) -> list[list[str]]:
    rows = []
    first: Found = results[0]["found"]  # type: ignore[assignment]
    for name in first:
        model, where = name.split(" | ")
        cells = []
        for figure in FIGURES:
            values = [getattr(result["found"][name], figure) for result in results]  # type: ignore[index]
            mean, half = interval(values)
            cells.append(f"{mean:.4f} ± {half:.4f}")
        rows.append([model, where, *cells])
    return rows


if __name__ == "__main__":
    main()
