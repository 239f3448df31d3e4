"""SIGKILL in the middle of a round, to real processes: the training goes on, and no spent budget ever shrinks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault.watch import charges, history, lines, rounds_done, spent, until
from tests.flower.lab import ROOT, Lab
from tests.flower.nodes import World, make_world

pytestmark = pytest.mark.fault
ROUNDS = 8

SIMULATE = """
import json, sys
from pathlib import Path
from cli.simulation import simulate
from server.settings import Settings
if __name__ == "__main__":
    nodes, config = Path(sys.argv[1]), json.loads(sys.argv[2])
    import os
    environment = {k: v for k, v in os.environ.items() if k.startswith("RETICENT_")}
    done = simulate(config, nodes, settings=Settings.from_env(), environment=environment)
    print("resumed", done.rounds_resumed, "version", done.manifest.version)
"""


def start_simulation(world: World, script: Path) -> subprocess.Popen[bytes]:
    script.write_text(SIMULATE)
    with script.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, str(script), str(world.nodes), f'{{"num-server-rounds": {ROUNDS}}}'],
            env={**os.environ, **world.environment, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def paid_and_not_committed(world: World, devices: int, *, after: int) -> bool:
    """A node has charged its devices for a round past ``after`` that the server has not committed."""
    done = rounds_done(world)
    charged = max(lines(directory) for directory in world.nodes.iterdir()) // devices
    return bool(done) and done[0][2] >= after and charged > done[0][2]


def test_the_simulation_is_killed_in_mid_round(tmp_path: Path) -> None:
    slow = {"local_steps": 30, "noise_multiplier": 20.0}
    world = make_world(tmp_path / "world", devices=20, training=slow)
    first = start_simulation(world, tmp_path / "first.py")
    try:
        until(lambda: paid_and_not_committed(world, 20, after=2), patience_s=120, what="a round that is paid for")
    finally:
        first.kill()
        first.wait(timeout=60)
    ((run_id, status, done),) = rounds_done(world)
    assert status == "running"
    before, money = charges(world), spent(world)
    assert max(before.values()) == done + 1  # the round was paid for, and lost
    second = start_simulation(world, tmp_path / "second.py")
    assert second.wait(timeout=240) == 0, (tmp_path / "second.log").read_text()
    assert f"resumed {done} version 1" in (tmp_path / "second.log").read_text()
    assert rounds_done(world) == [(run_id, "finished", ROUNDS)]
    assert history(world) == [(number, 40) for number in range(1, ROUNDS + 1)]
    assert all(after >= money[device] for device, after in spent(world).items())
    assert all(after == before[device] + ROUNDS - done for device, after in charges(world).items())


def test_the_server_app_is_killed_in_mid_round(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", nodes=3)
    nodes = [(world.directory(index), world.environment) for index in range(3)]
    config = "num-server-rounds=4 min-nodes=3 round-deadline-s=60"
    with Lab(tmp_path / "lab", server=world.environment, nodes=nodes) as lab:
        lab.submit(config, stream=False)
        until(lambda: paid_and_not_committed(world, 3, after=1), patience_s=150, what="a round that is paid for")
        assert lab.kill("flwr-serverapp")
        done = rounds_done(world)
        before, money = charges(world), spent(world)
        again = lab.run(config, timeout_s=300)
        assert again.status == "finished:completed", again.details + lab.logs()[-4000:]
    assert lab.survivors() == []
    ((name, status, rounds),) = rounds_done(world)
    assert (name, status, rounds) == (done[0][0], "finished", 4)  # the same training, continued
    assert done[0][2] >= 1
    assert [number for number, _ in history(world)] == [1, 2, 3, 4]
    assert all(after >= money[device] for device, after in spent(world).items())
    assert all(charges(world)[device] >= count for device, count in before.items())


def test_a_node_is_killed_in_mid_round_and_comes_back(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", nodes=3)
    nodes = [(world.directory(index), world.environment) for index in range(3)]
    config = "num-server-rounds=4 min-nodes=2 min-contributions=6 round-deadline-s=60"
    with Lab(tmp_path / "lab", server=world.environment, nodes=nodes) as lab:
        run_id, _ = lab.submit(config, stream=False)
        until(lambda: lines(world.directory(0)) >= 6, patience_s=150, what="round 2 on node 0")
        assert lab.kill_node(0)
        before, money = charges(world), spent(world)
        lab.revive_node(0)
        done = lab.finished(run_id, patience_s=300)
        assert done.status == "finished:completed", done.details + lab.logs()[-4000:]
    assert lab.survivors() == []
    counts = dict(history(world))
    assert set(counts) == {1, 2, 3, 4}
    assert counts[1] == 9
    assert min(counts.values()) >= 6  # the other two went on without it
    assert all(after >= money[device] for device, after in spent(world).items())
    assert charges(world)["n0-d0"] >= before["n0-d0"] >= 2
