"""The command: tables, files, exit status, and what a node's ledger adds."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.audit import command
from cli.audit.ledgers import node_budget, node_finding
from cli.audit.results import Audit, load
from cli.audit.run import Effort, audit
from cli.main import app
from client.budget import Ledger
from client.device import Node
from client.settings import Settings
from client.store.keys import DeviceId
from common.errors import InputError, MalformedInput
from common.privacy.parameters import MechanismUse
from common.taxonomy import PrivacyUnit, Profile, ReleaseKind, Task
from policies import loader
from policies.budget import PlannedRelease
from policies.releases import line_of_unit, segments_of
from tests.audit import doubles
from tests.audit.worlds import TINY, make_order

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "audit.schema.json"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's own path with runs of a second."""
    monkeypatch.setattr(command, "QUICK", Effort(400, 26, 20, 2))


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", "--quick", "--seed", "1", *arguments])


@pytest.mark.usefixtures("small")
def test_the_policy_in_force_is_audited_and_saved(tmp_path: Path) -> None:
    result = invoke("--json", str(tmp_path / "audit.json"), "--plot", str(tmp_path / "audit.svg"))
    assert result.exit_code == 0, result.output
    for words in ("Claimed, audited, remaining", "nothing falsifies the claims", "no ledger", "f-DP curve"):
        assert words in result.output
    assert (tmp_path / "audit.svg").read_text().lstrip().startswith("<?xml")
    found = load(tmp_path / "audit.json")
    assert found.passed
    assert found.policy_digest == loader.load().digests["privacy_budget"]
    line = found.lines[0]
    assert line.epsilon_audited <= line.epsilon_composed <= line.epsilon_declared <= line.budget.epsilon_cap


@pytest.mark.usefixtures("small")
def test_a_false_claim_is_exit_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    lying = audit(make_order(Profile.USER_DISTRIBUTED, build=doubles.FORGETFUL, effort=Effort(600, 60, 20, 3)))
    monkeypatch.setattr(command, "audit", lambda _order, _progress: lying)
    result = invoke()
    assert result.exit_code == 1
    assert "A CLAIM IS FALSE" in result.output


def test_a_home_without_a_ledger_and_a_profile_without_a_claim_are_refused(tmp_path: Path) -> None:
    for arguments in (["--home", str(tmp_path)], ["--profile", "non_private"]):
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert "Traceback" not in result.output


@pytest.mark.usefixtures("small")
def test_a_node_adds_what_remains(tmp_path: Path) -> None:
    with Node.open(tmp_path, Settings()) as node:
        policy = node.policies.policies.privacy_budget
        planned = [PlannedRelease(s.kind, s.use) for s in segments_of(policy, Task.TRAIN, 100)]
        node.ledger.reserve([DeviceId("a"), DeviceId("b")], planned, cause="round 1")
        node.ledger.reserve([DeviceId("a")], planned, cause="round 2")
        left = node.ledger.remaining(DeviceId("a"), line_of_unit(policy, PrivacyUnit.USER))
    result = invoke("--home", str(tmp_path), "--json", str(tmp_path / "audit.json"))
    assert result.exit_code == 0, result.output
    budget = load(tmp_path / "audit.json").lines[0].budget
    assert budget.devices == 2
    assert budget.epsilon_remaining == pytest.approx(left)
    assert "node ledger" in result.output


class LyingLedger:
    """What an audit reads of a ledger, with entries as a forgetful accountant would leave them."""

    def __init__(self, honest: Ledger, *, factor: float) -> None:
        self.policy, self.honest, self.factor = honest.policy, honest, factor

    def entries(self) -> list[object]:
        return list(self.honest.entries())

    def devices(self) -> list[DeviceId]:
        return self.honest.devices()

    def spent(self, device: DeviceId) -> object:
        return self.honest.spent(device)

    def epsilon(self, device: DeviceId, line: object) -> float:
        return self.factor * self.honest.epsilon(device, line)  # type: ignore[arg-type]


def test_a_node_ledger_that_charges_too_little_is_caught(tmp_path: Path) -> None:
    policy = loader.load().policies.privacy_budget
    line = line_of_unit(policy, PrivacyUnit.RECORD)
    use: MechanismUse = policy.training.release(Profile.RECORD_LOCAL)
    ledger = Ledger.open(tmp_path / "ledger.db", policy, now=lambda: 1e9)
    for number in range(3):
        ledger.reserve([DeviceId("a")], [PlannedRelease(ReleaseKind.TRAINING_UPDATE, use)], cause=str(number))
    assert node_finding(ledger, line).passed
    assert node_budget(ledger, line).epsilon_spent == ledger.epsilon(DeviceId("a"), line)
    caught = node_finding(LyingLedger(ledger, factor=0.95), line)  # type: ignore[arg-type]
    assert not caught.passed
    assert caught.statistic == pytest.approx(0.95, rel=1e-3)
    ledger.close()


def test_the_schema_of_the_results_is_the_checked_in_one() -> None:
    assert json.loads(SCHEMA.read_text()) == Audit.model_json_schema(mode="serialization")


def test_results_survive_a_round_trip_and_nothing_else_is_read(tmp_path: Path) -> None:
    found = audit(make_order(Profile.USER_DISTRIBUTED, effort=TINY))
    assert Audit.model_validate_json(found.model_dump_json()) == found
    (tmp_path / "bad.json").write_text('{"schema_version": "reticent-audit-0"}')
    with pytest.raises(MalformedInput):
        load(tmp_path / "bad.json")
    with pytest.raises(InputError):
        load(tmp_path / "absent.json")
