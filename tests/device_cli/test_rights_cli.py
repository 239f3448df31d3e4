"""The commands by which an owner says no and asks: what they print, and what they do when there is no service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from client.device import OWNER, Node
from client.settings import Settings
from common.errors import MalformedInput
from common.taxonomy import Purpose
from policies.consent import Permit, Refusal
from tests.owner.furnished import furnish

Run = Callable[..., Result]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RETICENT_KEYS_DIR", "RETICENT_POLICIES", "RETICENT_SIMULATION", "RETICENT_SERVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RETICENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    furnish(tmp_path / "home").close()
    return tmp_path / "home"


@pytest.fixture
def run(directory: Path) -> Run:
    runner = CliRunner()
    return lambda *arguments, **options: runner.invoke(app, ["device", *map(str, arguments)], **options)


def test_a_withdrawal_holds_without_a_service_and_says_who_has_not_heard(run: Run, directory: Path) -> None:
    result = run("withdraw", "place.personalised")
    assert result.exit_code == 1
    assert "withdrawn on this device; the service has not been told" in result.output
    assert "InputError: name the service" in result.stderr
    with Node.open(directory, prove=False) as node:
        assert isinstance(node.gate.permits(OWNER, Purpose.PLACE_PERSONALISED), Refusal)
        assert isinstance(node.gate.permits(OWNER, Purpose.TRAIN_LOCAL), Permit)
    run("withdraw")
    with Node.open(directory, prove=False) as node:
        assert isinstance(node.gate.permits(OWNER, Purpose.TRAIN_LOCAL), Refusal)


def test_a_service_that_is_not_there_is_one_named_line(run: Run) -> None:
    result = run("request", "access", "--service", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "ServiceUnreachable" in result.stderr
    assert "MalformedInput: RETICENT_SERVICE" in run("withdraw", env={"RETICENT_SERVICE": "ftp://x"}).stderr


def test_requests_are_listed(run: Run) -> None:
    shown = run("requests").output
    assert all(word in shown for word in ("dsr_0123456789ab", "access", "completed"))
    assert (
        "InputError: this device made no request of that id"
        in run("cancel", "dsr_unknown_id", "--service", "http://127.0.0.1:9").stderr
    )


def test_an_erasure_asks_first(run: Run, directory: Path) -> None:
    result = run("request", "erasure", "--service", "http://127.0.0.1:9", input="n\n")
    assert (result.exit_code, "nothing was deleted" in result.output) == (1, True)
    result = run("request", "erasure", "--yes", "--service", "http://127.0.0.1:9")
    assert result.exit_code == 1
    with Node.open(directory, prove=False) as node:
        assert node.vault.read(OWNER), "what the service did not acknowledge erases nothing here"


def test_the_page_is_printed_for_its_owner_alone(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert "keep it safe" in run("page", "--out", out, "--lang", "zh-CN").output
    assert out.stat().st_mode & 0o777 == 0o600
    assert "这台设备与您" in out.read_text(encoding="utf-8")
    assert "InputError: the page speaks en and zh-CN" in run("page", "--lang", "fr").stderr


def test_the_service_is_a_url() -> None:
    assert Settings.from_env({"RETICENT_SERVICE": "https://ads.example"}).service_url == "https://ads.example"
    assert Settings.from_env({}).service_url == ""
    with pytest.raises(MalformedInput, match="RETICENT_SERVICE is a URL"):
        Settings.from_env({"RETICENT_SERVICE": "ads.example"})
