"""``reticent policy`` against a service: one person proposes, another approves, anybody of them takes it back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from common.taxonomy import Role
from policies.loader import DOCUMENTS
from tests.service.campaigning import Agency
from tests.service.test_changes import OTHER, decided_by, digest, in_force
from tests.service.world import World


class InProcess(httpx.BaseTransport):
    """Requests to an application in this process."""

    def __init__(self, world: World) -> None:
        self._inner = httpx.ASGITransport(world.app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def call() -> httpx.Response:
            answer = await self._inner.handle_async_request(request)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return asyncio.run(call())


class Person:
    """Somebody at a terminal with their own key."""

    def __init__(self, world: World, name: str, role: Role = Role.ADMIN) -> None:
        self._key, self._transport = world.key(role, holder=name)["authorization"].split()[1], InProcess(world)

    def says(self, *words: object, typed: str = "") -> tuple[int, str]:
        done = CliRunner().invoke(
            app,
            ["policy", *map(str, words)],
            obj=self._transport,
            env={"RETICENT_API_KEY": self._key, "RETICENT_SERVICE": "http://service"},
            input=typed,
        )
        return done.exit_code, done.output + (done.stderr or "")


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "narrower.yaml"
    path.write_text(OTHER, encoding="utf-8")
    return path


def test_a_promotion_from_evidence_to_rollback(furnished: World, document: Path, tmp_path: Path) -> None:
    ada, wei = Person(furnished, "ada"), Person(furnished, "wei", Role.PRIVACY_OFFICER)
    verdict = tmp_path / "verdict.json"
    verdict.write_text(json.dumps({"policies": ["narrower"]}))
    own = in_force(furnished)
    code, said = ada.says("promote", document, "--reason", "it earned more", "--evidence", verdict)
    assert (code, "proposal 1 (placement_policy): proposed" in said) == (0, True), said
    assert "SecondOfficerNeeded" in ada.says("approve", 1, "--yes")[1]
    code, said = wei.says("approve", 1, typed="n\n")
    assert code == 1
    assert "name: narrower" in said  # it is shown before it is agreed to
    assert in_force(furnished) == own
    code, said = wei.says("approve", 1, typed="y\n")
    assert (code, "approved by wei" in said) == (0, True), said
    assert (in_force(furnished), decided_by(furnished)) == (OTHER, digest(OTHER))
    assert "approved" in ada.says("changes")[1]
    code, said = ada.says("rollback", "--reason", "complaints")
    assert (code, "version 2 is in force" in said) == (0, True), said
    assert (in_force(furnished), decided_by(furnished)) == (own, digest(own))


def test_an_experiment_from_proposal_to_its_end(furnished: World, document: Path, tmp_path: Path) -> None:
    ada, wei = Person(furnished, "ada"), Person(furnished, "wei")
    own = DOCUMENTS / "placement.yaml"
    arms = ("--arm", f"control={own}:90", "--arm", f"narrow={document}:10")
    assert ada.says("experiment", "narrow-1", *arms, "--days", 14, "--reason", "is it better?")[0] == 0
    assert wei.says("reject", 1)[0] == 0
    assert ada.says("experiment", "narrow-1", *arms, "--days", 14, "--reason", "is it better?")[0] == 0
    assert wei.says("approve", 2, "--yes")[0] == 0
    code, said = ada.says("report", "narrow-1", "--json", tmp_path / "report.json")
    assert (code, "running" in said, "every look" in said) == (0, True, True), said
    assert json.loads((tmp_path / "report.json").read_text())["method"] == "sequential"
    assert "is stopped" in wei.says("stop", "narrow-1", "--reason", "done")[1]


def test_refusals_are_one_line_with_a_name(world: World, document: Path, tmp_path: Path) -> None:
    ada = Person(world, "ada")
    bad = tmp_path / "bad.yaml"
    bad.write_text(OTHER.replace("    - religion\n", ""))
    for words, named in (
        (("promote", bad, "--reason", "x"), "InvariantViolated"),
        (("promote", tmp_path / "none.yaml", "--reason", "x"), "PolicyError"),
        (("approve", 9, "--yes"), "NotFound"),
        (("rollback", "--reason", "x"), "NotFound"),
        (("report", "nothing"), "NotFound"),
        (("experiment", "a", "--arm", "x", "--days", 1, "--reason", "x"), "InputError"),
        (("promote", document, "--reason", "x", "--evidence", document), "InputError"),
    ):
        code, said = ada.says(*words)
        assert code == 1
        assert named in said
        assert "Traceback" not in said
    assert "NotAllowed" in Person(world, "eve", Role.ADVERTISER).says("promote", document, "--reason", "x")[1]
    assert "RETICENT_API_KEY" in CliRunner().invoke(app, ["policy", "changes"], env={"RETICENT_API_KEY": ""}).output


def test_creatives_and_budgets_are_adjusted_by_two_people(furnished: World) -> None:
    agency = Agency(furnished)
    campaign, creative = agency.running()

    def now(kind: str, name: str) -> dict[str, Any]:
        return agency.done("GET", f"/v1/{kind}/{name}")

    ada, wei = Person(furnished, "ada"), Person(furnished, "wei")
    assert ada.says("adjust", "budget", campaign, "--budget-micros", 40_000_000, "--reason", "it lags")[0] == 0
    assert ada.says("adjust", "pause", creative, "--reason", "fewest clicks")[0] == 0
    assert now("campaigns", campaign)["terms"]["budget_micros"] == 500_000_000  # nothing yet
    assert "SecondOfficerNeeded" in ada.says("approve", 1, "--yes")[1]
    assert now("campaigns", campaign)["terms"]["budget_micros"] == 500_000_000
    for number in (1, 2):
        code, said = wei.says("approve", number, "--yes")
        assert code == 0, said
    terms = now("campaigns", campaign)["terms"]
    assert (terms["budget_micros"], terms["daily_budget_micros"]) == (40_000_000, 40_000_000)
    assert now("creatives", creative)["state"] == "paused"
    assert ada.says("adjust", "resume", creative, "--reason", "again")[0] == 0
    assert wei.says("approve", 3, "--yes")[0] == 0
    assert now("creatives", creative)["state"] == "approved"
    assert "NotFound" in _approved(ada, wei, "adjust", "pause", "cr_none", "--reason", "x")
    assert "InputError" in ada.says("adjust", "budget", campaign, "--reason", "x")[1]


def _approved(one: Person, other: Person, *words: object) -> str:
    number = one.says(*words)[1].split()[1]
    return other.says("approve", number, "--yes")[1]
