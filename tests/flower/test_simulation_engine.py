"""``flwr run .`` in Flower's own simulation engine (Ray), with the same apps, giving the same model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.flower.lab import ROOT
from tests.flower.nodes import World, make_world
from tests.flower.test_superlink import ROUNDS, SEEDED, in_this_process, registered


def unshare() -> list[str]:
    """The command that gives a process a network namespace of its own; skips the test where there is none."""
    pytest.importorskip("ray", reason="Flower's simulation engine needs ray: pip install reticent[simulation]")
    command = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("Ray listens on every interface, and there is no `unshare` here to confine it")
    if tried.returncode:
        pytest.skip(f"Ray listens on every interface, and this machine cannot confine it: {tried.stderr.strip()}")
    return command


@pytest.mark.simulation
def test_flwr_run_in_the_simulation_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    confine = unshare()
    world = make_world(tmp_path, environment=SEEDED)
    expected = in_this_process(world, monkeypatch)
    with tempfile.TemporaryDirectory(prefix="ray") as scratch:  # short: it holds Unix sockets
        done = run_confined(confine, world, tmp_path / "lab", scratch)
        assert any(Path(scratch).iterdir())
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["status"] == "finished:completed", result
    arrays, _ = registered(world)
    assert all(np.array_equal(arrays[name], expected[name]) for name in expected)


def run_confined(confine: list[str], world: World, home: Path, scratch: str) -> subprocess.CompletedProcess[str]:
    order = {
        "home": str(home),
        "environment": {**world.environment, "RAY_TMPDIR": scratch},
        "nodes": 2,
        "config": f'num-server-rounds={ROUNDS} min-nodes=2 min-contributions=6 simulation-nodes-dir="{world.nodes}"',
    }
    return subprocess.run(
        [*confine, sys.executable, "-m", "tests.flower.confined", json.dumps(order)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
