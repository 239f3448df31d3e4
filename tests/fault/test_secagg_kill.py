"""SIGKILL to real device processes in the middle of a secure aggregation: the sum is exact, or there is none.

Fifty devices, one process and one node each: real storage, consent, ledger, door and protocol; only the vectors are
known. What each device put into the sum, its noise included, is compared integer by integer with what the server got.
"""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

import server.rounds.release_rounds as rounds_module
from common.errors import TooFewSurvivors
from common.privacy.parameters import UserDpParameters
from common.secagg.server import UnmaskedSum
from common.taxonomy import Stage
from policies import loader
from server.app import train
from server.ledger.service import ServerLedger
from server.storage import open_database
from tests.fault.devices import DeviceProcesses, Plan
from tests.fault.known import SENT, known_vector
from tests.flower.nodes import RELEASE, World, make_world

pytestmark = pytest.mark.fault
DEVICES, KILLED = 50, 15
COHORT = {"devices_min": 40, "devices_max": 64, "dropout_fraction_max": 0.3, "corrupt_fraction_max": 0.05}
CONFIG = {"num-server-rounds": 1, "round-deadline-s": 600.0, "calibrate": False, "evaluate": False}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(
        tmp_path_factory.mktemp("devices"),
        nodes=DEVICES,
        devices=1,
        events=lambda _device, _number: [],
        environment={"RETICENT_SIMULATION": "1"},
        profile="user_distributed",
        releases={"training_update": RELEASE | {"noise_multiplier": 4.0, "releases_max": 40}},
        rounds_max=40,
        cohort=COHORT,
        epsilon_declared=1e6,
        epsilon_cap=1e7,
    )


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[UnmaskedSum]:
    """What the server's aggregator gave away."""
    found: list[UnmaskedSum] = []
    real = rounds_module.aggregate

    def aggregate(*args: object, **values: object) -> UnmaskedSum:
        total = real(*args, **values)  # type: ignore[arg-type]
        found.append(total)
        return total

    monkeypatch.setattr(rounds_module, "aggregate", aggregate)
    return found


def names(world: World) -> dict[bytes, int]:
    found = {}
    for index in range(DEVICES):
        with world.node(index) as node:
            (device,) = node.vault.devices()
            key = node.credentials.signing_key(device)
            assert key is not None
            found[key.public.raw] = index
    return found


def run(world: World, plan: Plan, run_name: str) -> DeviceProcesses:
    directories = [world.directory(index) for index in range(DEVICES)]
    with DeviceProcesses(directories, world.environment, plan) as grid:
        assert grid.alive() == DEVICES
        train(
            grid,
            grid.context(CONFIG | {"run-name": run_name}),
            settings=world.server,
            observer=lambda _report: {},
        )
        return grid


def book(world: World, run_name: str) -> list[tuple[str, int, int]]:
    with sqlite3.connect(world.server.state_dir / "reticent.db") as connection:
        query = "SELECT outcome, charged, survivors FROM training_release WHERE run_id = ?"
        return connection.execute(query, [run_name]).fetchall()


def server_charges(world: World, run_name: str) -> set[bytes]:
    """Identities that the server's ledger has charged for this training."""
    database = open_database(world.server.database_url)
    try:
        ledger = ServerLedger(database, loader.load(world.server.policies).policies.privacy_budget)
        return {name for name in names(world) if any(e.run_id == run_name for e in ledger.entries(name))}
    finally:
        database.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fifteen_of_fifty_are_killed_at_random_stages_and_the_sum_is_exact(
    world: World, sums: list[UnmaskedSum], seed: int
) -> None:
    plan, name = Plan.draw(range(100, 100 + DEVICES), KILLED, seed), f"killed-{seed}"
    for index in range(DEVICES):
        (world.directory(index) / SENT).unlink(missing_ok=True)
    grid = run(world, plan, name)
    (total,) = sums
    places = names(world)
    sent = [np.load(world.directory(places[identity]) / SENT) for identity in total.identities]
    assert len(grid.killed) == KILLED
    assert 35 <= len(sent) <= DEVICES
    assert total.vector.tolist() == np.sum(sent, axis=0).tolist()  # exact, integer by integer
    assert _near_the_clipped_vectors(world, total, [places[identity] for identity in total.identities])
    assert book(world, name) == [("released", len(server_charges(world, name)), len(sent))]
    assert set(total.identities) <= server_charges(world, name)


def _near_the_clipped_vectors(world: World, total: UnmaskedSum, survivors: list[int]) -> bool:
    """Without its noise and rounding the sum is that of the clipped vectors: 6 standard deviations, 26 coordinates."""
    parameters = UserDpParameters(clipping_norm=1.0, noise_multiplier=4.0, levels=1024)
    length = len(total.vector)
    exact = np.zeros(length)
    for index in survivors:
        vector = known_vector(world.directory(index).name, length)
        exact += vector * min(1.0, 1.0 / float(np.linalg.norm(vector)))
    spread = parameters.noise_stddev * np.sqrt(len(survivors) / (35 - 2)) + parameters.grid * np.sqrt(len(survivors))
    return bool(np.abs(total.vector * parameters.grid - exact).max() < 6 * spread)


@pytest.mark.parametrize("stage", [Stage.SHARE, Stage.MASK, Stage.CONFIRM])
def test_one_more_than_the_policy_allows_aborts_and_what_was_charged_stays(
    world: World, sums: list[UnmaskedSum], stage: Stage
) -> None:
    name = f"aborted-{stage.value}"
    plan = Plan(dict.fromkeys(range(100, 100 + KILLED + 1), (stage, 0.0)))
    with pytest.raises(TooFewSurvivors):
        run(world, plan, name)
    assert not sums
    if stage is Stage.SHARE:
        assert book(world, name) == []
        assert server_charges(world, name) == set()
        return
    assert book(world, name) == [("TooFewSurvivors", DEVICES, 0)]
    assert len(server_charges(world, name)) == DEVICES
    again = run(world, Plan(), name)  # a retry is a new session, and a new charge
    assert again.alive() == 0
    assert [row[0] for row in book(world, name)] == ["TooFewSurvivors", "released"]
    assert len(sums) == 1
