"""``reticent ledger`` as people use it, on real files: show, project, recompute, verify, reset."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from cli import ledger_plan
from cli.ledger import ledger_app
from cli.ledger_plan import Plan
from client.budget import Reservation
from client.device import Node
from client.settings import Settings
from client.store.keys import DeviceId
from common.privacy import accountant
from common.taxonomy import Purpose, Task
from policies import loader
from server import migrations
from server.ledger.service import ServerLedger
from server.storage import open_database
from tests.ledger.worlds import CALIBRATION, DELTA, HISTOGRAM, POLICY, RECORD_LINE, ROUND, USER_LINE, USER_ROUND

Run = Callable[..., Result]
ANNA, BEN = DeviceId("anna"), DeviceId("ben")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RETICENT_KEYS_DIR", "RETICENT_SIMULATION", "RETICENT_NOISE_SEED"):
        monkeypatch.delenv(name, raising=False)
    documents = tmp_path / "policies"
    documents.mkdir()
    for source in loader.DOCUMENTS.glob("*.yaml"):
        (documents / source.name).write_bytes(source.read_bytes())
    (documents / "privacy_budget.yaml").write_text(
        yaml.safe_dump(json.loads(POLICY.model_dump_json(exclude_none=True)))
    )
    monkeypatch.setenv("RETICENT_POLICIES", str(documents))
    monkeypatch.setenv("RETICENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


@pytest.fixture
def run(home: Path) -> Run:
    return lambda *arguments: CliRunner().invoke(ledger_app, [str(argument) for argument in arguments])


def spend(home: Path, *devices: DeviceId, rounds: int = 3) -> None:
    with Node.open(home, Settings.from_env(), prove=False) as node:
        for number in range(rounds):
            made = node.ledger.reserve(devices, ROUND, cause=f"run/{number}")
            node.ledger.settle([one for one in made.values() if isinstance(one, Reservation)])


@pytest.fixture
def server(tmp_path: Path, home: Path) -> str:
    url = f"sqlite:///{tmp_path}/server.db"
    database = open_database(url)
    migrations.migrate(database)
    book = ServerLedger(database, POLICY)
    book.reserve("run-1", "session-1", ROUND, [b"a" * 32, b"b" * 32])
    book.reserve("run-1", "session-2", [CALIBRATION, HISTOGRAM], [b"a" * 32])
    book.settle("session-1", [b"a" * 32])
    database.close()
    return url


def test_show_one_device(run: Run, home: Path) -> None:
    spend(home, ANNA)
    said = run("show").output
    for part in ("privacy ledger of anna", "training_update", "train.contribute", "skellam", "gaussian", "settled"):
        assert part in said
    for part in ("one user", "one record", "quorum of honest devices", "no trust in the server", "unamplified"):
        assert part in said
    assert "refused" not in said
    found = json.loads(run("show", "--json").output)
    user, record = found["lines"]
    assert user["bounds"][0]["spent"] == pytest.approx(accountant.epsilon([USER_ROUND.use] * 3, DELTA))
    assert {row["bound"] for row in user["bounds"]} == {"cap", "train.contribute", "measure.aggregate"}
    assert record["bounds"][0]["remaining"] == pytest.approx(5 - record["bounds"][0]["spent"])
    assert len(found["entries"]) == 6
    entry = found["entries"][0]
    assert {"epsilon", "delta", "rho", "period", "cause", "kind", "use", "state", "randomness"} <= entry.keys()
    assert {"mechanism", "noise_multiplier", "unit", "relation", "trust", "levels", "dimension"} <= entry["use"].keys()


def test_show_many_devices_and_none(run: Run, home: Path) -> None:
    assert "no release" in run("show").output
    spend(home, ANNA, BEN)
    spend(home, ANNA, rounds=25)
    said = run("show").output
    assert "2 devices" in said
    assert "privacy ledger of ben" in run("show", "--device", "ben").output
    assert "refused to release" in run("show", "--device", "anna").output
    failed = run("show", "--device", "nobody")
    assert failed.exit_code == 1
    assert "InputError: this node has no device of that name" in failed.stderr
    views = json.loads(run("show", "--json").output)["lines"]
    assert views[0]["devices"] == 2
    assert views[0]["bounds"][0]["median"] < views[0]["bounds"][0]["spent"]


def test_show_the_server_s(run: Run, server: str) -> None:
    said = run("show", "--database", server).output
    for part in ("2 charges", "run-1", "session-1", "per user", "per record", "measure.aggregate"):
        assert part in said
    found = json.loads(run("show", "--database", server, "--json").output)
    assert [charge["devices"] for charge in found["charges"]] == [2, 1]
    assert found["lines"][0]["devices"] == 2


def test_project_says_what_it_costs_and_when_a_bound_is_reached(run: Run, home: Path) -> None:
    said = run("project", "--rounds", 30, "--calibrations", 2, "--histograms", 1, "--weights", 400).output
    for part in ("30 rounds, one user", "30 rounds, one record", "█", "refused: the plan passes the train.contribute"):
        assert part in said
    found = json.loads(run("project", "--rounds", 20, "--weights", 400, "--json").output)
    user, record = found["lines"]
    assert record["bounds"][0]["rounds_possible"] == 20
    assert (user["allowed"], record["allowed"]) == (True, True)
    cap, quota = sorted(user["bounds"], key=lambda row: str(row["bound"]))
    assert (cap["bound"], quota["bound"]) == ("cap", "train.contribute")
    for row in (cap, quota):
        uses = [USER_ROUND.use] * row["rounds_possible"]
        assert (
            accountant.epsilon(uses, DELTA) <= row["epsilon_max"] < accountant.epsilon([*uses, USER_ROUND.use], DELTA)
        )
    assert cap["epsilon_of_rounds"] == pytest.approx(accountant.epsilon([USER_ROUND.use] * 20, DELTA))
    assert user["curve"][-1] == {"rounds": 20, "epsilon": cap["epsilon_of_rounds"]}


def test_project_for_another_noise_and_on_top_of_a_spend(run: Run, home: Path) -> None:
    spend(home, ANNA, rounds=7)
    plain, finer, after = (
        json.loads(run("project", "--rounds", 20, "--weights", 400, "--json", *more).output)["lines"]
        for more in ((), ("-z", 2.5, "--record-noise-multiplier", 8), ("--device", "anna"))
    )
    assert finer[0]["bounds"][0]["epsilon_of_rounds"] > plain[0]["bounds"][0]["epsilon_of_rounds"]
    assert finer[1]["bounds"][0]["epsilon_of_rounds"] < plain[1]["bounds"][0]["epsilon_of_rounds"]
    assert after[1]["bounds"][0]["rounds_possible"] == 13
    assert after[0]["bounds"][0]["epsilon_now"] > 0
    assert [row["too_many"] for row in plain] == [None, None]
    assert after[1]["too_many"] == {"kind": "training_update", "field": "rounds_max", "would_be": 27, "most": 20}
    assert not after[1]["allowed"]
    said = run("project", "--calibrations", 3, "--rounds", 1).output
    assert "3 releases of calibration by one device in one budget period; the document's releases_max is 2" in said
    failed = run("project", "--evaluations", 1)
    assert (failed.exit_code, "PolicyError" in failed.stderr) == (1, True)


def test_project_agrees_with_the_ledger(home: Path) -> None:
    """What is forecast is what a ledger then does."""
    (user, record) = ledger_plan.forecast(POLICY, Plan(rounds=40, tasks={Task.CALIBRATE: 1}, weights=400))
    possible = min(bound.rounds_possible or 0 for line in (user, record) for bound in line.bounds)
    with Node.open(home, Settings.from_env(), prove=False) as node:
        made = [node.ledger.reserve([ANNA], ROUND, cause=f"{number}")[ANNA] for number in range(40)]
    assert sum(isinstance(one, Reservation) for one in made) == possible


def test_recompute_agrees_and_a_wrong_figure_is_found(run: Run, home: Path, server: str) -> None:
    spend(home, ANNA)
    for place in ((), ("--database", server)):
        done = run("recompute", *place)
        assert done.exit_code == 0, done.output
        assert "figures recomputed by an independent accountant" in done.output
    with contextlib.closing(sqlite3.connect(home / "ledger.db")) as connection:
        connection.execute("DROP TRIGGER a_release_is_never_changed")
        connection.execute("UPDATE releases SET epsilon = epsilon * 0.98 WHERE position = 1")
        connection.commit()
    done = run("recompute")
    assert done.exit_code == 1
    assert "disagree: release 1 × gaussian(z=4)" in done.output
    found = json.loads(run("recompute", "--json").output)
    assert found["largest_difference"] == pytest.approx(0.02, abs=1e-3)


def test_verify_and_reset(run: Run, home: Path, server: str) -> None:
    spend(home, ANNA, BEN)
    for place in ((), ("--database", server)):
        done = run("verify", *place)
        assert (done.exit_code, "tell one story" in done.output) == (0, True), done.output
        assert json.loads(run("verify", "--json", *place).output)["problems"] == []
    (home / "keys" / "ledger.anchor").unlink()
    done = run("verify")
    assert (done.exit_code, "wrong: anchor: the anchor of the privacy ledger" in done.output) == (1, True)
    refused = run("reset")
    assert refused.exit_code == 1
    assert "--accept-exhausted" in refused.stderr
    done = run("reset", "--accept-exhausted")
    assert done.exit_code == 0
    assert "counts as spent" in done.output
    assert run("verify").exit_code == 0
    assert "accepted as spent" in run("show", "--device", "ben").output
    found = json.loads(run("show", "--json").output)
    assert (found["exhausted"], found["lines"][0]["bounds"][0]["remaining"]) == (True, 0.0)
    (home / "ledger.db").write_bytes(b"x" * 5000)
    for file in home.glob("ledger.db-*"):
        file.unlink()
    assert "VaultCorrupt" in run("show").stderr
    assert "the unreadable ledger is now ledger.db.damaged-" in run("reset", "--accept-exhausted").output


def test_keys_in_a_directory_of_their_own(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETICENT_KEYS_DIR", str(tmp_path / "stick"))
    spend(home, ANNA)
    spend(tmp_path / "another node", ANNA)
    assert len(list((tmp_path / "stick").glob("*-ledger.anchor"))) == 2
    assert run("verify").exit_code == 0
    assert run("verify", "--home", tmp_path / "another node").exit_code == 0
    assert run("verify", "--keys", tmp_path / "empty").exit_code == 1


def test_a_server_s_database_that_is_none(run: Run, tmp_path: Path) -> None:
    failed = run("show", "--database", f"sqlite:///{tmp_path}/nothing.db")
    assert (failed.exit_code, "StorageUnavailable" in failed.stderr) == (1, True)


def test_lines_are_shown_apart(run: Run, home: Path) -> None:
    assert (USER_LINE.epsilon_cap, RECORD_LINE.epsilon_cap) == (5.0, 5.0)
    spend(home, ANNA)
    views = json.loads(run("show", "--json").output)["lines"]
    assert [(view["unit"], view["delta"]) for view in views] == [("user", DELTA), ("record", DELTA)]
    assert Purpose.TRAIN_CONTRIBUTE.value in {row["bound"] for row in views[0]["bounds"]}
