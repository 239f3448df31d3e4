"""The deployment, for real: a SuperLink and three SuperNode processes on loopback, submitted to by ``flwr run``."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import client.app
from client.journal import read_journal
from client.store.keys import DeviceId
from common.crypto.signing import key_ring
from server.app import train
from server.registry.service import Registry
from server.rounds.training import watch_nothing
from server.storage import open_database
from tests.flower.inline import InlineGrid
from tests.flower.lab import Lab
from tests.flower.nodes import ROOM, World, make_world

SEEDED = {"RETICENT_SIMULATION": "1", "RETICENT_NOISE_SEED": "7"}
NODES = 3
ROUNDS = 2


def registered(world: World) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    database = open_database(world.server.database_url)
    manifest, arrays, _ = Registry(database.sessions, key_ring(world.key.public)).verified()
    database.close()
    return arrays, manifest.metrics


def in_this_process(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The same training on a copy of the same nodes, without Flower's runtime."""
    nodes, state = world.home / "nodes-again", world.home / "server-again"
    shutil.copytree(world.nodes, nodes)
    state.mkdir()
    shutil.copy(world.server.signing_key, state)
    for name, value in (world.environment | {"RETICENT_STATE_DIR": str(state)}).items():
        monkeypatch.setenv(name, value)
    settings = type(world.server).from_env()
    configs = [{"data-path": str(path)} for path in sorted(nodes.iterdir())]
    with InlineGrid(client.app.app, configs, {"num-server-rounds": ROUNDS}) as grid:
        done = train(grid, grid.context(), settings=settings, observer=watch_nothing)
    client.app._WARM.close()
    return done.model


@pytest.mark.flower
def test_a_superlink_and_three_supernodes_train_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path, nodes=NODES, environment=SEEDED)
    expected = in_this_process(world, monkeypatch)
    nodes = [(world.directory(index), world.environment) for index in range(NODES)]
    with Lab(tmp_path / "lab", server=world.environment, nodes=nodes) as lab:
        wanted = f"num-server-rounds={ROUNDS} min-nodes={NODES} min-contributions={3 * NODES}"
        done = lab.run(wanted)
        assert done.status == "finished:completed", done.details + done.log + lab.logs()[-4000:]
        assert f"round {ROUNDS}/{ROUNDS}" in done.log
        failed = lab.run("num-server-rounds=1 min-contributions=1000 model-seed=1")
        assert failed.status == "finished:failed", failed.log
        assert "TooFewSurvivors" in failed.details + failed.log + lab.logs()
        still_there = lab.survivors()
        assert len(still_there) >= 1 + NODES
    assert lab.survivors() == []  # no orphans
    arrays, metrics = registered(world)
    assert metrics["rounds"] == ROUNDS
    assert arrays.keys() == expected.keys()
    assert all(np.array_equal(arrays[name], expected[name]) for name in arrays)
    for index in range(NODES):
        sent = [row for row in read_journal(world.directory(index) / "journal.db") if row.outcome == "sent"]
        assert len(sent) == 3 * (ROUNDS + 1)
        with world.node(index) as node:
            assert len(node.ledger.entries(DeviceId(f"n{index}-d0"))) == ROUNDS + 1


@pytest.mark.flower
def test_secure_aggregation_over_a_superlink(tmp_path: Path) -> None:
    """Every message gets a process of its own there: what a session remembers is on the devices' disks."""
    world = make_world(
        tmp_path, nodes=NODES, profile="user_distributed", environment={"RETICENT_SIMULATION": "1"}, **ROOM
    )
    nodes = [(world.directory(index), world.environment) for index in range(NODES)]
    with Lab(tmp_path / "lab", server=world.environment, nodes=nodes) as lab:
        done = lab.run(f"num-server-rounds=1 min-nodes={NODES} evaluate=false round-deadline-s=400", timeout_s=500)
        assert done.status == "finished:completed", done.details + done.log + lab.logs()[-4000:]
        assert "round 1/1" in done.log
        assert f"9 of 9 devices from {NODES} of {NODES} nodes" in done.log
    assert lab.survivors() == []
    _, metrics = registered(world)
    assert metrics["paid_calibration_devices"] == 3 * NODES
    for index in range(NODES):
        with world.node(index) as node:
            kinds = [entry.kind.value for entry in node.ledger.entries(DeviceId(f"n{index}-d0"))]
            assert kinds == ["training_update", "calibration"]
