"""Whole trainings over real nodes, in this process: what a round does to consent, budget, storage and the registry."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import client.app
import client.egress
import client.rounds
from client.device import Node
from client.features.cache import Part
from client.journal import read_journal
from client.store.keys import DeviceId
from common.crypto.signing import SigningKey, key_ring
from common.errors import CheckpointConflict, TooFewSurvivors
from common.model.examples import Examples
from common.privacy.accountant import epsilon
from common.taxonomy import ConsentState, Purpose
from server.app import train
from server.registry.service import Registry
from server.rounds import release_rounds
from server.rounds.training import FinishedTraining, RoundReport, watch_nothing
from server.storage import open_database
from tests.flower.inline import InlineGrid
from tests.flower.nodes import World, decide, make_world

SIMULATED = {"RETICENT_SIMULATION": "1", "RETICENT_NOISE_SEED": "7"}
Observer = Callable[[RoundReport], Mapping[str, float]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = make_world(tmp_path, environment=SIMULATED)
    use_environment(made, monkeypatch)
    yield made
    client.app._WARM.close()


def use_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)


def run(world: World, observer: Observer = watch_nothing, **config: object) -> tuple[FinishedTraining, InlineGrid]:
    nodes = [{"data-path": str(path)} for path in sorted(world.nodes.iterdir())]
    run_config = {name.replace("_", "-"): value for name, value in config.items()}
    with InlineGrid(client.app.app, nodes, run_config) as grid:
        return train(grid, grid.context(), settings=world.server, observer=observer), grid


def history(world: World) -> list[tuple[int, int, dict[str, int], dict[str, int]]]:
    with sqlite3.connect(world.server.state_dir / "reticent.db") as connection:
        rows = connection.execute(
            "SELECT round_number, contributions, refused, declined FROM training_round ORDER BY round_number"
        ).fetchall()
    return [(number, count, json.loads(refused), json.loads(declined)) for number, count, refused, declined in rows]


def outcomes(world: World, index: int, device: str) -> list[str]:
    return [row.outcome for row in read_journal(world.directory(index) / "journal.db", device)]


def spent(world: World) -> dict[str, float]:
    found = {}
    for index in range(2):
        with world.node(index) as node:
            found |= {device: node.ledger.epsilon(device) for device in node.ledger.devices()}
    return found


def fail_on(monkeypatch: pytest.MonkeyPatch, devices: set[str], error: Callable[[], Exception]) -> None:
    real = client.app.load_examples

    def load(node: Node, device: DeviceId, part: Part) -> Examples:
        if device in devices:
            raise error()
        return real(node, device, part)

    monkeypatch.setattr(client.app._WARM, "_load", load)


def test_a_training_ends_in_a_signed_model_with_its_privacy_line(world: World) -> None:
    reports: list[RoundReport] = []

    def watch(report: RoundReport) -> Mapping[str, float]:
        reports.append(report)
        return {"rounds_seen": float(len(reports))}

    done, grid = run(world, watch, num_server_rounds=2)
    assert [(r.round_number, r.record.contributions, r.record.nodes) for r in reports] == [(1, 6, 2), (2, 6, 2)]
    database = open_database(world.server.database_url)
    manifest, arrays, _ = Registry(database.sessions, key_ring(world.key.public)).verified()
    database.close()
    assert manifest == done.manifest
    assert manifest.metrics == {"rounds": 2.0, "rounds_seen": 2.0}
    assert all(np.array_equal(arrays[name], reports[-1].model[name]) for name in arrays)
    with world.node(0) as node:
        use = node.ledger.entries(DeviceId("n0-d0"))[0].use
        assert manifest.privacy[0].epsilon == pytest.approx(node.ledger.epsilon(DeviceId("n0-d0")))
        assert manifest.privacy[0].epsilon == pytest.approx(epsilon([use] * 2, 1e-5))
        by_round = [statement.epsilon for statement in manifest.privacy[1:]]
        assert by_round == pytest.approx([epsilon([use] * k, 1e-5) for k in (1, 2)])
    assert len(grid.frames) == 8  # two nodes, two rounds, there and back
    assert outcomes(world, 0, "n0-d0") == ["sent", "sent"]
    assert history(world) == [(1, 6, {}, {}), (2, 6, {}, {})]


def test_who_did_not_consent_is_neither_trained_nor_charged(world: World) -> None:
    world.decide(0, "n0-d1", ConsentState.WITHDRAWN, Purpose.TRAIN_CONTRIBUTE)
    world.decide(1, "n1-d0", ConsentState.WITHDRAWN, Purpose.TRAIN_LOCAL)
    run(world, num_server_rounds=1)
    assert history(world) == [(1, 4, {}, {})]
    assert outcomes(world, 0, "n0-d1") == ["consent-withdrawn"]
    assert outcomes(world, 1, "n1-d0") == ["consent-withdrawn"]
    assert set(spent(world)) == {"n0-d0", "n0-d2", "n1-d1", "n1-d2"}


def test_a_withdrawal_while_others_train_keeps_the_update_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = client.app.load_examples

    def load(node: Node, device: DeviceId, part: Part) -> Examples:
        if device == "n0-d2":  # the last one trains; the first one's update is already added
            decide(node, world.key, DeviceId("n0-d0"), ConsentState.WITHDRAWN, [Purpose.TRAIN_CONTRIBUTE], age=0)
        return real(node, device, part)

    monkeypatch.setattr(client.app._WARM, "_load", load)
    run(world, num_server_rounds=1)
    assert history(world) == [(1, 3, {}, {"NothingToSend": 1})]
    assert outcomes(world, 0, "n0-d0") == ["consent-withdrawn"]
    assert spent(world)["n0-d0"] > 0  # the noise was drawn: the charge stands


def test_the_budget_cap_holds_and_the_owner_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two rounds cost ε = 1.36, three 1.70.
    tight = make_world(tmp_path, environment=SIMULATED, epsilon_declared=1.5, epsilon_cap=1.5, rounds_max=2)
    use_environment(tight, monkeypatch)
    run(tight, num_server_rounds=2)
    before = spent(tight)
    assert all(1.3 < value < 1.4 for value in before.values())
    with pytest.raises(TooFewSurvivors):
        run(tight, num_server_rounds=1, model_seed=1)
    assert spent(tight) == before
    assert outcomes(tight, 0, "n0-d0") == ["sent", "sent", "budget-exhausted"]
    with tight.node(0) as node:
        assert [refusal.reason.value for refusal in node.ledger.refusals(DeviceId("n0-d0"))] == ["budget-exhausted"]


def test_the_server_is_charged_before_anybody_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that is lost stays charged; one that ends knows how many answered before their updates are used."""

    def charged() -> list[tuple[int, int]]:
        with sqlite3.connect(world.server.state_dir / "reticent.db") as connection:
            return connection.execute("SELECT devices, unnamed FROM ledger_charge ORDER BY id").fetchall()

    asked: Callable[..., object] = release_rounds.run_round
    used: Callable[..., object] = release_rounds.mean_update
    steps = []

    def ask(*arguments: object, **more: object) -> object:
        steps.append(charged())
        if len(steps) > 1:
            raise TooFewSurvivors("lost")
        return asked(*arguments, **more)

    def use(*arguments: object) -> object:
        steps.append(charged())
        return used(*arguments)

    monkeypatch.setattr(release_rounds, "run_round", ask)
    monkeypatch.setattr(release_rounds, "mean_update", use)
    with pytest.raises(TooFewSurvivors, match="lost"):
        run(world, num_server_rounds=2, round_attempts=1)
    devices = steps[1][0][0]
    assert devices > 0
    assert steps == [[(0, 0)], [(devices, devices)], [(devices, devices), (0, 0)]]
    assert charged() == steps[-1]


def test_a_device_whose_storage_fails_is_left_out_and_the_others_go_on(world: World) -> None:
    with sqlite3.connect(world.directory(0) / "vault.db") as connection:
        connection.execute(
            "UPDATE events SET sealed = zeroblob(40) WHERE device = (SELECT id FROM devices WHERE name = 'n0-d1')"
        )
    run(world, num_server_rounds=1)
    assert history(world) == [(1, 5, {}, {})]
    assert outcomes(world, 0, "n0-d1") == ["unavailable"]
    assert spent(world)["n0-d1"] > 0


def test_an_unforeseen_exception_leaves_as_a_closed_name(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_on(monkeypatch, {"n0-d1"}, lambda: ValueError("searched for the-secret-of-n0-d1"))
    _, grid = run(world, num_server_rounds=1)
    assert history(world) == [(1, 3, {}, {"DeviceFailure": 1})]
    assert not any(b"secret" in frame for frame in grid.frames)
    assert "secret" not in caplog.text
    assert any(b"DeviceFailure" in frame for frame in grid.frames)


def test_a_server_that_is_not_pinned_gets_nothing(world: World) -> None:
    with world.node(0) as node:
        node.pin([SigningKey.generate().public])
    run(world, num_server_rounds=1)
    assert history(world) == [(1, 3, {}, {"UnknownSigner": 1})]
    assert outcomes(world, 0, "n0-d0") == []
    assert spent(world).keys() == {"n1-d0", "n1-d1", "n1-d2"}


def test_too_few_survivors_abort_by_name_and_keep_the_checkpoint(world: World) -> None:
    def stop_two(report: RoundReport) -> Mapping[str, float]:
        for index in range(2):
            world.decide(index, f"n{index}-d0", ConsentState.WITHDRAWN, Purpose.TRAIN_LOCAL)
        return {}

    with pytest.raises(TooFewSurvivors, match="4 contributions arrived, at least 5"):
        run(world, stop_two, num_server_rounds=3, min_contributions=5)
    with sqlite3.connect(world.server.state_dir / "reticent.db") as connection:
        found = connection.execute("SELECT status, outcome, rounds_done, holder FROM training_run").fetchall()
    assert found == [("aborted", "TooFewSurvivors", 1, "")]


def test_a_continued_training_equals_an_uninterrupted_one(world: World) -> None:
    straight, _ = run(world, num_server_rounds=4, run_name="straight", server_optimiser="fedadam")

    class Killed(BaseException):
        """Not an Exception: nothing gets the chance to tidy up."""

    def die(report: RoundReport) -> Mapping[str, float]:
        if report.round_number == 2:
            raise Killed
        return {}

    with pytest.raises(Killed):
        run(world, die, num_server_rounds=4, run_name="broken", server_optimiser="fedadam")
    before = spent(world)
    with sqlite3.connect(world.server.state_dir / "reticent.db") as connection:
        connection.execute("UPDATE training_run SET heartbeat_at = 0 WHERE run_id = 'broken'")  # long ago
    continued, _ = run(world, num_server_rounds=4, run_name="broken", server_optimiser="fedadam")
    assert continued.rounds_resumed == 2
    assert all(np.array_equal(straight.model[name], continued.model[name]) for name in straight.model)
    assert all(after > before[device] for device, after in spent(world).items())
    with pytest.raises(CheckpointConflict, match="has finished"):
        run(world, num_server_rounds=4, run_name="broken", server_optimiser="fedadam")


def test_an_empty_device_takes_part(world: World) -> None:
    with world.node(0) as node:
        node.vault.append(DeviceId("n0-empty"), [])
        if DeviceId("n0-empty") not in node.vault.devices():
            pytest.skip("a vault knows a device from its first event on")
        decide(node, world.key, DeviceId("n0-empty"), ConsentState.GIVEN, Purpose, age=60)
    run(world, num_server_rounds=1)
    assert history(world) == [(1, 7, {}, {})]


def test_a_reply_that_declares_another_mechanism_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = client.rounds.TrainingContribution

    def boast(**values: object) -> object:
        release = values["release"].model_copy(update={"noise_multiplier": 99.0})  # type: ignore[attr-defined]
        return real(**values | {"release": release})

    monkeypatch.setattr(client.rounds, "TrainingContribution", boast)
    monkeypatch.setattr(client.egress, "TrainingContribution", real)
    with pytest.raises(TooFewSurvivors, match="0 contributions"):
        run(world, num_server_rounds=1)


def test_seeded_trainings_repeat_and_secure_ones_do_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = run(world, num_server_rounds=1, run_name="one")
    two, _ = run(world, num_server_rounds=1, run_name="two")
    assert all(np.array_equal(one.model[name], two.model[name]) for name in one.model)
    monkeypatch.delenv("RETICENT_NOISE_SEED")
    three, _ = run(world, num_server_rounds=1, run_name="three")
    assert not all(np.array_equal(one.model[name], three.model[name]) for name in one.model)
