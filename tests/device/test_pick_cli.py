"""``reticent device pick``: nothing is charged, drawn or sent before its owner agrees; then it is the same pick."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from client import rights_cli
from client.cli import device_app
from client.device import OWNER, Node
from client.egress import HttpTransport, Signer
from common.taxonomy import Purpose
from tests.device.conftest import Household
from tests.device.picking import Picking

Run = Callable[..., Result]


class Counting(httpx.BaseTransport):
    """The wire to the service, and what passed."""

    def __init__(self, home: Household) -> None:
        self.home, self.asked = home, list[tuple[str, str]]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.method, request.url.path))
        return self.home.wire.handle_request(request)


@pytest.fixture
def wire(picking: Picking, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    counting = Counting(picking.home)

    def connect(url: str, *, signer: Signer | None = None) -> HttpTransport:
        return HttpTransport(url, signer=signer, transport=counting)

    monkeypatch.setattr(rights_cli, "HttpTransport", connect)
    monkeypatch.setenv("RETICENT_HOME", str(picking.node.directory))
    monkeypatch.setenv("RETICENT_SERVICE", "http://service")
    monkeypatch.setenv("COLUMNS", "200")
    picking.node.close()
    yield counting
    picking.home.node = Node.open(picking.node.directory, picking.node.settings)


@pytest.fixture
def run(wire: Counting) -> Run:
    runner = CliRunner()
    return lambda *arguments, **options: runner.invoke(device_app, ["pick", *arguments], **options)


def spent(picking: Picking) -> float:
    with Node.open(picking.node.directory, picking.node.settings) as node:
        return node.pick_ledger.epsilon(OWNER)


def test_it_shows_first_asks_and_then_charges_once(run: Run, picking: Picking, wire: Counting) -> None:
    looked = run("top", "--look")
    assert looked.exit_code == 0, looked.output
    for said in (
        "the same for everybody",
        "top-1 randomised response over 4 candidates",
        "ε = 1 at δ = 0; unit: one user; relation: replace_one; trust: local: no trust in the server; composition: ",
        "remembered for this epoch: nothing",
        "would be charged now: ε = 1",
        "left in this period of 28 days: ε = 4 of 4, that is 4 draws",
    ):
        assert said in looked.output
    refused = run("top", input="n\n")
    assert (refused.exit_code, "nothing was charged" in refused.output) == (1, True)
    assert "Charge ε = 1, draw, and send the answer?" in refused.output
    assert spent(picking) == 0.0
    assert {method for method, _ in wire.asked} == {"GET"}, "only what everybody fetches"
    first = run("top", "--yes", "--context", "page=home")
    assert first.exit_code == 0, first.output
    assert ": private_pick" in first.output
    assert spent(picking) == 1.0
    assert ("POST", "/v1/decisions") in wire.asked
    again = run("top", "--look").output
    assert "it is repeated, never drawn anew" in again
    assert "would be charged now: ε = 0" in again
    assert "that is 3 draws" in again
    handed = run("top", "--yes", "--hand-over")
    body = json.loads(handed.output.strip().splitlines()[-1])
    kept = int(again.partition("epoch: place ")[2].partition(";")[0])
    assert (body["pick"]["index"], spent(picking)) == (kept, 1.0)
    standing = picking.home.world.services.picks.standing()
    assert standing is not None
    assert standing.spends == ((1.0, 1),)


def test_what_cannot_be_is_one_named_line(
    run: Run,
    picking: Picking,
    wire: Counting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "MalformedInput: a fact of the page is written NAME=VALUE" in run("top", "--yes", "--context", "x").stderr
    assert spent(picking) == 0.0, "found out before anything is charged"
    caps = picking.home.world.services.caps
    cap = caps.picks_in_force()
    assert cap is not None
    caps.propose(cap.unit, cap.bound, 0.0, reason="a pause", holder="ana")
    assert "MalformedInput: the service refused (404" in run("top", "--yes").stderr, "officers end it before it costs"
    assert spent(picking) == 0.0
    raised = caps.propose(cap.unit, cap.bound, cap.document, reason="it is over", holder="ana")
    caps.approve(raised.id, holder="bo")
    with Node.open(picking.node.directory, picking.node.settings) as node:
        node.gate.stop(OWNER, [Purpose.PLACE_PERSONALISED])
    assert "ConsentRefused" in run("top", "--yes").stderr
    monkeypatch.setenv("RETICENT_SERVICE", "")
    assert "InputError: name the service" in run("top").stderr
    assert spent(picking) == 0.0
    said = run("--help").output
    assert all(word in said for word in ("--look", "--yes", "--hand-over", "--context", "SLOTS"))


def test_stop_and_resume(run: Run, picking: Picking, wire: Counting) -> None:
    assert run("top", "--yes").exit_code == 0
    stopped = run("--stop")
    assert (stopped.exit_code, wire.asked[-1]) == (0, ("POST", "/v1/picks/stop")), stopped.output
    assert "the service uses no pick of this device any more" in stopped.output
    assert "You have" not in run("top", "--yes").output
    assert "EgressRefused" in run("top", "--yes").stderr
    assert spent(picking) == 1.0
    for wrong in (("--stop", "--resume"), ("top", "--stop")):
        assert "InputError" in run(*wrong).stderr
    assert "allowed again" in run("--resume").output
    assert "charged for this epoch, and no answer is kept" in run("top", "--look").output
