"""`reticent device` as its owner uses it, on real files."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from cli.ledger import ledger_app
from client.behavior.events import Click, Search
from client.cli import device_app
from client.device import OWNER, Node, NodeConfig
from client.settings import Settings, home_from_env
from client.store.keys import DeviceId
from common.crypto.signing import SigningKey
from common.errors import MalformedInput, PolicyError, SpecMismatch, StoreError
from common.model.feature_spec import CategoricalField, FeatureSpec
from common.taxonomy import AgeBand, ConsentState, FeatureBlock, Profile, Purpose, ReleaseKind
from common.wire.documents import seal
from common.wire.messages import ConsentReceipt
from policies.budget import PlannedRelease
from policies.consent import Permit, Refusal
from policies.releases import line_for
from policies.schema import BudgetLine

Run = Callable[..., Result]
SPEC = FeatureSpec(
    name="test",
    version=1,
    categorical=(CategoricalField(name="item", block=FeatureBlock.CONTEXT, buckets=8),),
    numeric=(),
)


def release(node: Node) -> PlannedRelease:
    """One round of training with noise on the device."""
    use = node.policies.policies.privacy_budget.training.release(Profile.RECORD_LOCAL)
    return PlannedRelease(ReleaseKind.TRAINING_UPDATE, use)


def release_line(node: Node) -> BudgetLine:
    """The line that it is charged to."""
    return line_for(node.ledger.policy, release(node).use)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RETICENT_KEYS_DIR", "RETICENT_POLICIES", "RETICENT_SIMULATION", "RETICENT_NOISE_SEED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RETICENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


@pytest.fixture
def run(home: Path) -> Run:
    app = typer.Typer()
    app.add_typer(device_app, name="device")
    app.add_typer(ledger_app, name="ledger")
    runner = CliRunner()
    return lambda *arguments, **options: runner.invoke(app, [str(a) for a in arguments], **options)


def test_the_life_of_a_device(run: Run, home: Path, tmp_path: Path) -> None:
    assert "nothing is held" in run("device", "show").output
    assert (
        "recorded, encrypted" in run("device", "record", "view", "--item", "shoe", "--attribute", "brand=Acme").output
    )
    assert run("device", "record", "search", "--query", "red shoes").exit_code == 0
    again = ["device", "record", "--json", json.dumps({"kind": "cart", "time": time.time(), "app": "a", "item": "b"})]
    assert "recorded, encrypted" in run(*again).output
    assert "recorded already" in run(*again).output
    shown = run("device", "show", "--events", "2").output
    assert all(word in shown for word in ("view", "search", "cart", "180 days", "in 90 days", '"query":"red shoes"'))
    target = tmp_path / "mine.jsonl"
    assert "3 events" in run("device", "export", target).output
    assert target.stat().st_mode & 0o777 == 0o600
    assert len(target.read_text(encoding="utf-8").splitlines()) == 3
    assert "already; it was not touched" in run("device", "export", target).stderr

    refused = run("device", "erase", input="n\n")
    assert (refused.exit_code, "nothing was deleted" in refused.output) == (1, True)
    assert "erased: the key is destroyed" in run("device", "erase", "--yes").output
    assert not list((home / "keys").glob("*.key"))
    for command in (["show"], ["record", "view", "--item", "x"], ["export", tmp_path / "x.jsonl"], ["import", target]):
        result = run("device", *command)
        assert result.exit_code == 1
        assert "DeviceErased" in result.stderr
    back = run("device", "import", target, "--start-again")
    assert "stored 3, duplicates 0, rejected 0" in back.output


def test_bad_input_is_one_named_line_and_exit_status_1(run: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("kind,time,colour\n", encoding="utf-8")
    (tmp_path / "cut.jsonl").write_text('{"kind": "click", "ti', encoding="utf-8")
    cases: list[tuple[list[Any], str]] = [
        (["record", "view"], "EventRejected: missing-field (item)"),
        (["record", "view", "--item", "x", "--time", "2001-01-01"], "EventRejected: past-retention (time)"),
        (
            ["record", "view", "--item", "x", "--attribute", "brand"],
            "MalformedInput: an attribute is written NAME=VALUE",
        ),
        (["record", "--json", "{"], "MalformedInput: --json takes one JSON object"),
        (["record", "--json", "[]"], "MalformedInput: --json takes one JSON object"),
        (["import", tmp_path / "bad.csv"], "UnknownColumn: unknown columns: colour"),
        (["import", tmp_path / "cut.jsonl"], "TruncatedFile: the file stops in the middle of line 1"),
        (["import", tmp_path / "no.csv"], "InputError: no.csv: No such file"),
        (["import", tmp_path / "bad.csv", "--format", "xml"], "MalformedInput: x.xml: expected a name that ends"),
        (["show", "--device", "nobody"], "InputError: this node has no device of that name"),
        (["ledger", "--device", "nobody"], "InputError: this node has no device of that name"),
        (["erase", "--yes"], "StoreError: this vault has no such device"),
    ]
    for arguments, said in cases:
        result = run("device", *arguments)
        assert (result.exit_code, result.stderr.strip().split("\n")[-1][: len(said)]) == (1, said)
        assert result.exception is None or isinstance(result.exception, SystemExit)
    assert run("device", "record", "dance").exit_code == 2


def test_damage_is_named_and_salvaged(run: Run, home: Path, tmp_path: Path) -> None:
    import sqlite3

    for item in ("a", "b", "c"):
        run("device", "record", "click", "--item", item)
    with sqlite3.connect(home / "vault.db") as connection:
        connection.execute("UPDATE events SET sealed = x'01' WHERE sequence = 1")
    connection.close()
    assert "VaultCorrupt: record 1 of this device is damaged" in run("device", "show").stderr
    target = tmp_path / "saved.jsonl"
    result = run("device", "export", target, "--salvage")
    assert result.exit_code == 1
    assert "2 events in" in result.output
    assert "VaultCorrupt: 1 damaged records could not be saved (1)" in result.stderr
    assert [json.loads(line)["item"] for line in target.read_text(encoding="utf-8").splitlines()] == ["a", "c"]
    (file,) = (home / "keys").glob("*.key")
    file.rename(tmp_path / file.name)
    assert "WrongKey" in run("device", "show").stderr
    assert "2 events" in run("device", "export", tmp_path / "b.jsonl", "--salvage", "--keys", tmp_path).output
    (home / "vault.db").write_bytes(b"no database" * 1000)
    assert "VaultCorrupt: the vault is damaged or not a database" in run("device", "show").stderr


def test_consent_status_and_ledger(run: Run, home: Path) -> None:
    run("device", "record", "click", "--item", "a")
    status = run("device", "consent-status").output
    assert status.count("refused") == 4
    assert "This subject is not known" in status
    assert "no release" in run("ledger", "show").output
    with Node.open(home) as node:
        line = release_line(node)
        noisy = release(node).use.model_copy(update={"noise_multiplier": 0.4})
        node.ledger.reserve([OWNER], [release(node)], cause="run/1")
        node.ledger.reserve([OWNER], [PlannedRelease(ReleaseKind.TRAINING_UPDATE, noisy)], cause="run/2")
        spent = node.ledger.epsilon(OWNER, line)
    for command in (("ledger", "show"), ("device", "ledger")):
        said = run(*command).output
        honest = (f"ε = {spent:.3g} at δ = 1e-05", "one record", "add_or_remove_one", "no trust in the server")
        for part in (*honest, "train.contribute", "reserved", "refused to release", "budget does not allow"):
            assert part in said
    run("device", "erase", "--yes")
    assert f"ε = {spent:.3g}" in run("ledger", "show").output  # a tombstone


def test_a_node_with_many_devices(run: Run, home: Path) -> None:
    with Node.open(home) as node:
        for number in range(30):
            run("device", "record", "click", "--item", "x", "--device", f"d{number:02}")
        node.ledger.reserve(node.vault.devices(), [release(node)], cause="c")
    shown = run("device", "show").output
    assert all(word in shown for word in ("30 devices", "d00", "and 10 more"))
    assert "kept for" in run("device", "show", "--device", "d05").output
    assert "name one with --device" in run("device", "export", home / "x").stderr
    overview = run("ledger", "show").output
    assert all(word in overview for word in ("30 devices", "d00", "and 10 more", "cap: 10"))
    assert "privacy ledger of d07" in run("ledger", "show", "--device", "d07").output


def test_a_node_opens_with_what_it_was_made_of(home: Path) -> None:
    config = NodeConfig(spec=SPEC, data_set="test", training_window=(5.0, None))
    with Node.create(home, Settings(), config) as node:
        assert node.spec.digest == SPEC.digest
        assert node.training_window == (5.0, float("inf"))
        assert node.server_keys == {}
        assert set(node.policies.digests) >= {"privacy_budget", "egress"}
    with Node.open(home) as node:
        assert node.config == config
        assert (home / "node.json").stat().st_mode & 0o777 == 0o600
    (home / "node.json").write_text('{"format": "reticent-node-9"}', encoding="utf-8")
    with pytest.raises(MalformedInput, match=r"node\.json: format"):
        Node.open(home)
    with Node.open(home / "other") as node, pytest.raises(SpecMismatch, match="no feature specification"):
        _ = node.spec


def test_opening_applies_retention_except_to_recorded_data_sets(home: Path) -> None:
    anna = DeviceId("anna")
    now = time.time()
    for directory, behaviour_now, left in ((home / "own", None, 1), (home / "replay", now - 1e8, 2)):
        config = NodeConfig(behaviour_now=behaviour_now)
        with Node.create(directory, Settings(), config) as node:
            node.vault.append(anna, [Search(now - 100 * 86_400, "a", "old"), Search(now, "a", "new")])
        with Node.open(directory) as node:
            assert node.vault.count(anna) == left


def test_erasing_a_device_erases_what_belongs_to_it(home: Path) -> None:
    key, now = SigningKey.generate(), int(time.time())
    receipt = ConsentReceipt(
        receipt_id="r1", handle="handle-of-owner-01", purpose=Purpose.TRAIN_LOCAL, state=ConsentState.GIVEN,
        age_band=AgeBand.ADULT, notice_digest="a" * 64, event_time=now, valid_until=now + 999, locale="en",
        jurisdiction="DE", controller="Example Ltd",
    )  # fmt: skip
    with Node.open(home) as node:
        with pytest.raises(StoreError, match="no such device"):
            node.erase(OWNER)
        node.pin([key.public], ["a" * 64])
        node.recorder.record(OWNER, Click(now, "shop", "shoe"))
        node.gate.store_receipt(OWNER, seal(receipt, key))
        node.ledger.reserve([OWNER], [release(node)], cause="campaign-of-a-clinic/1")
        spent = node.ledger.epsilon(OWNER, release_line(node))
        assert isinstance(node.gate.permits(OWNER, Purpose.TRAIN_LOCAL), Permit)
        node.erase(OWNER)
        assert isinstance(node.gate.permits(OWNER, Purpose.TRAIN_LOCAL), Refusal)
        assert node.gate.handle(OWNER) is None
        assert node.ledger.epsilon(OWNER, release_line(node)) == spent > 0
        assert "clinic" not in node.ledger.entries(OWNER)[0].cause
        assert set(node.server_keys) == {key.kid}
        node.erase(OWNER)  # an erasure that was interrupted can be repeated


def test_settings_come_from_the_environment_and_are_checked(tmp_path: Path) -> None:
    settings = Settings.from_env({"RETICENT_SIMULATION": "1", "RETICENT_NOISE_SEED": "7", "RETICENT_KEYS_DIR": "/k"})
    assert (settings.simulation, settings.noise_seed, settings.keys_directory) == (True, 7, Path("/k"))
    assert "simulation" in settings.randomness
    assert "simulation" not in Settings.from_env({}).randomness
    assert home_from_env({"RETICENT_HOME": str(tmp_path)}) == tmp_path
    assert home_from_env({}).parts[-2:] == (".reticent", "device")
    for bad in (
        {"RETICENT_SIMULATION": "maybe"},
        {"RETICENT_NOISE_SEED": "7"},
        {"RETICENT_SIMULATION": "1", "RETICENT_NOISE_SEED": "x"},
    ):
        with pytest.raises(MalformedInput):
            Settings.from_env(bad)
    with pytest.raises(PolicyError, match="No such file"):
        Node.open(tmp_path / "n", Settings(policies_directory=tmp_path))
