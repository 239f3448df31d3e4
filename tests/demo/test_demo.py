"""The demonstration, small: every part of the story is there, on real data, through the real service."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app

pytestmark = pytest.mark.slow  # the whole story: three trainings and a service of its own


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    result = CliRunner().invoke(
        app,
        ["demo", "--devices", "90", "--rounds", "3", "--out", str(folder / "out"), "--cache", str(folder / "cache")],
    )
    assert result.exit_code == 0, result.output
    return folder / "out", result.output


def test_consented_and_refused_placements_are_told_apart(story: tuple[Path, str]) -> None:
    output = story[1]
    for words in ("consent given", "consent-refused", "unknown-subject", "malformed", "consent-required"):
        assert words in output


def test_the_withdrawal_holds_at_once(story: tuple[Path, str]) -> None:
    assert "contextual (consent-withdrawn)" in story[1]
    assert re.search(r"refuses a permit issued before +yes", story[1])


def test_every_epsilon_is_whole(story: tuple[Path, str]) -> None:
    for line in (line for line in story[1].splitlines() if "ε = " in line):
        for word in ("δ = ", "unit: ", "relation: ", "trust: ", "composition: ", "accountant: "):
            assert word in line


def test_the_report_needs_nothing_else(story: tuple[Path, str]) -> None:
    page = (story[0] / "report.html").read_text()
    assert page.count("<svg") == 6
    assert not re.findall(r'(?:src|href)="(?!#)[^"]+"', re.sub(r'xlink:href="#[^"]*"', "", page))


def test_what_is_said_of_the_private_models_was_paid_for(story: tuple[Path, str]) -> None:
    out, output = story
    with sqlite3.connect(out / "server" / "reticent.db") as database:
        (metrics,) = database.execute("SELECT metrics FROM model_version").fetchone()
        tasks = database.execute("SELECT task FROM training_release ORDER BY charged_at").fetchall()
    assert all(name == "rounds" or name.startswith("paid_") for name in json.loads(metrics))
    assert [task for (task,) in tasks] == ["train", "train", "train", "calibrate", "evaluate"]
    assert "record DP, its paid evaluation: ε = " in output
    rows = re.findall(r"(?m)^ (?:record|user) DP .*$", output)
    assert not any("later" in row or "unseen" in row for row in rows)


def test_tensorboard_has_all_trainings(story: tuple[Path, str]) -> None:
    runs = {path.parent.name for path in (story[0] / "tensorboard").rglob("events.*")}
    assert runs == {"non-private", "record-DP", "user-DP"}


def test_only_the_private_model_is_served(story: tuple[Path, str]) -> None:
    with sqlite3.connect(story[0] / "server" / "reticent.db") as database:
        rows = database.execute("SELECT privacy FROM model_version").fetchall()
    assert len(rows) == 1
    statement = json.loads(rows[0][0])[0]
    assert statement["epsilon"] not in ("Infinity", float("inf"))
    assert statement["unit"] == "user"


def test_the_ledger_shows_what_was_spent(story: tuple[Path, str]) -> None:
    result = CliRunner().invoke(app, ["ledger", "show", "--home", str(story[0] / "nodes" / "node-0")])
    assert result.exit_code == 0, result.output
    assert "trust: distributed" in result.output
    assert re.search(r"│ +5 +│", result.output)  # three updates, a calibration, an evaluation


def test_the_journal_shows_what_left(story: tuple[Path, str]) -> None:
    result = CliRunner().invoke(app, ["device", "journal", "--home", str(story[0] / "nodes" / "node-0")])
    assert result.exit_code == 0, result.output
    assert "masked_update" in result.output
    assert "consent_change" in result.output
