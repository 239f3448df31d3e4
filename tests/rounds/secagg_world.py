"""A world for whole trainings through secure aggregation: eight devices with a hold-out, hardly any noise.

Noise is small (z = 0.05), so that what comes back can be compared with what the devices hold.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import client.app
from client.behavior.events import BehaviourEvent, Impression
from client.features.cache import load_examples
from common.model.examples import Examples
from common.taxonomy import ReleaseKind
from server.app import measure, train
from server.rounds.measuring import Measured
from server.rounds.training import FinishedTraining, RoundReport, watch_nothing
from tests.flower.inline import InlineGrid
from tests.flower.nodes import DAY_S, RELEASE, SPEC, World, make_world

SIMULATED = {"RETICENT_SIMULATION": "1", "RETICENT_NOISE_SEED": "7"}
QUIET = RELEASE | {"noise_multiplier": 0.05}
RELEASES = {
    "training_update": QUIET,
    "clip_quantile": QUIET
    | {
        "clipping_norm": 0.5,
        "target_quantile": 0.5,
        "learning_rate": 0.7,
        "clipping_norm_min": 0.001,
        "clipping_norm_max": 100.0,
    },
    "calibration": QUIET | {"releases_max": 2},
    "evaluation": QUIET | {"releases_max": 2, "bins": 12},
    "feature_histogram": QUIET | {"releases_max": 1},
}
START = time.time() - 20 * DAY_S
SPLIT = START + 150 * 60
ROOMY = {"epsilon_declared": 1e6, "epsilon_cap": 1e7}
Observer = Callable[[RoundReport], Mapping[str, float]]


def events(device: str, number: int) -> Iterator[BehaviourEvent]:
    """Three hundred impressions, half of them after the training window; page p0 sells five times as often."""
    draw = random.Random(number)
    for i in range(300):
        page = f"p{draw.randrange(3)}"
        bought = draw.random() < (0.5 if page == "p0" else 0.1)
        context, numbers = {"page": page}, {"price": float(i % 7)}
        yield Impression(START + i * 60, "shop", f"item-{i % 5}", {}, context, numbers, f"e{i}", int(bought))


def make(home: Path, **changes: object) -> World:
    settings = {"profile": "user_distributed", "releases": RELEASES, "nodes": 2, "devices": 4} | ROOMY | changes
    return make_world(home, environment=SIMULATED, window=(None, SPLIT), events=events, **settings)  # type: ignore[arg-type]


def use_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)


def grid_of(world: World, config: Mapping[str, object]) -> InlineGrid:
    nodes = [{"data-path": str(path)} for path in sorted(world.nodes.iterdir())]
    defaults: dict[str, object] = {"round-deadline-s": 30.0, "base-rate": 0.2}
    return InlineGrid(client.app.app, nodes, defaults | {name.replace("_", "-"): v for name, v in config.items()})


def run(world: World, observer: Observer = watch_nothing, **config: object) -> FinishedTraining:
    with grid_of(world, config) as grid:
        return train(grid, grid.context(), settings=world.server, observer=observer)


def run_measurement(world: World, **config: object) -> Measured:
    with grid_of(world, config) as grid:
        return measure(grid, grid.context(), settings=world.server)


def charged(world: World) -> dict[str, list[ReleaseKind]]:
    """Kinds of releases in the devices' own ledgers, in order."""
    found = {}
    for index in range(len(list(world.nodes.iterdir()))):
        with world.node(index) as node:
            found |= {device: [entry.kind for entry in node.ledger.entries(device)] for device in node.ledger.devices()}
    return found


def identities(world: World) -> dict[str, bytes]:
    found = {}
    for index in range(len(list(world.nodes.iterdir()))):
        with world.node(index) as node:
            for device in node.vault.devices():
                key = node.credentials.signing_key(device)
                assert key is not None
                found[str(device)] = key.public.raw
    return found


def examples(world: World, part: str) -> Examples:
    parts = []
    for index in range(len(list(world.nodes.iterdir()))):
        with world.node(index) as node:
            parts += [load_examples(node, device, part) for device in node.vault.devices()]  # type: ignore[arg-type]
    return Examples.concatenate(parts, SPEC)
