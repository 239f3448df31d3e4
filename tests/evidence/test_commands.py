"""The commands as people type them: init, push, rotate, bundle, verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from common.transparency.checkpoint import read_checkpoint


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETICENT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RETICENT_LOG_ORIGIN", "example.org/log")
    assert run("server", "init").exit_code == 0
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def test_a_round_of_all_of_them(installation: Path) -> None:
    witness, archive = installation / "witness.jsonl", installation / "evidence.zip"
    first = json.loads(run("server", "public-key").output)
    checkpoint = read_checkpoint(run("log", "checkpoint").output)
    assert checkpoint.origin == "example.org/log"
    assert run("log", "key").output.startswith("example.org/log+")
    assert f"{checkpoint.size} new entries" in run("log", "push", "--to", str(witness)).output
    assert "number 2" in run("server", "rotate-key").output
    assert "1 new entries" in run("log", "push", "--to", str(witness)).output
    second = json.loads(run("server", "public-key").output)
    made = run("bundle", str(archive))
    assert second["x"] in made.output
    assert archive.stat().st_mode & 0o777 == 0o600
    for key in (first, second):
        told = run("verify", str(archive), "--key", json.dumps(key), "--checkpoint", str(witness), "--json")
        found = json.loads(told.output)
        assert (told.exit_code, found["genuine"], found["complete"], found["kept"]) == (0, True, True, 2), told.output
    assert list(installation.glob(".evidence*")) == []


def test_what_is_wrong_is_said_in_a_line(installation: Path) -> None:
    archive = installation / "evidence.zip"
    run("bundle", str(archive))
    stranger = "A" * 42 + "E"
    assert run("verify", str(archive), "--key", stranger).exit_code == 1
    assert run("verify", str(installation / "none.zip"), "--key", stranger).exit_code == 1
    assert run("verify", str(archive), "--key", "no key").exit_code == 1
    assert run("bundle", str(installation / "no" / "folder.zip")).exit_code == 1
    assert run("log", "push", "--to", str(installation / "no" / "folder.jsonl")).exit_code == 1
    assert run("log", "push", "--to", "http://127.0.0.1:9/").exit_code == 1
