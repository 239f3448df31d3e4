"""The simulation's worker processes: same result as in one process, and a dying worker costs its nodes one round."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import client.app
from cli.simulation import InProcessGrid, node_directories, simulate
from server.app import train
from server.rounds.training import RoundReport
from tests.flower.inline import InlineGrid
from tests.flower.nodes import make_world

SIMULATED = {"RETICENT_SIMULATION": "1", "RETICENT_NOISE_SEED": "7"}


class Watched(InProcessGrid):
    """Remembers the last one made."""

    last: InProcessGrid

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        Watched.last = self


def test_worker_processes_give_the_same_model_bit_for_bit_and_survive_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (make_world(tmp_path / name, environment=SIMULATED) for name in ("one", "two"))
    reports: list[RoundReport] = []

    def watch(report: RoundReport) -> Mapping[str, float]:
        reports.append(report)
        if report.round_number == 2:
            worker = Watched.last._workers[0].process
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
        return {}

    done = simulate(
        {"num-server-rounds": 4},
        one.nodes,
        settings=one.server,
        environment=one.environment,
        observer=watch,
        grid_type=Watched,
    )
    assert done.manifest.version == 1
    assert [report.record.nodes for report in reports] in ([2, 2, 2, 2], [2, 2, 1, 2])
    for name, value in two.environment.items():
        monkeypatch.setenv(name, value)
    nodes = [{"data-path": str(path)} for path in node_directories(two.nodes)]
    inline: list[RoundReport] = []
    with InlineGrid(client.app.app, nodes, {"num-server-rounds": 2}) as grid:
        train(grid, grid.context(), settings=two.server, observer=lambda report: inline.append(report) or {})
    client.app._WARM.close()
    for ours, theirs in zip(inline, reports[:2], strict=True):
        assert all(np.array_equal(ours.model[name], theirs.model[name]) for name in ours.model)


def test_node_directories_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("node-10", "node-2", "node-0", "node-x", "other"):
        (tmp_path / name).mkdir()
    assert [path.name for path in node_directories(tmp_path)] == ["node-0", "node-2", "node-10"]
