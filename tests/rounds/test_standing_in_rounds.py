"""Fresh standing in whole rounds: who says no between the round's start and the update's leaving is not in the sum.

The service is a stand-in that signs standings as the real one does (``tests/device`` asks the real one) and can change
its mind at a chosen question.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import client.app
import client.standing
from client.device import Node
from client.egress import HttpAnswer, Signer
from client.journal import read_journal
from common.crypto.signing import SigningKey
from common.errors import ServiceUnreachable, TooFewSurvivors
from common.taxonomy import ConsentState, Profile, Purpose, RefusalReason
from common.wire.consent import ConsentStanding, PurposeStanding
from common.wire.documents import seal
from policies.consent import Permit, Refusal
from server.app import train
from server.rounds.training import watch_nothing
from tests.flower.inline import InlineGrid
from tests.flower.nodes import World, make_world

# A disclosure card extrapolates to cohorts whose noise is so large that a bound underflows to nothing, which is right.
pytestmark = pytest.mark.filterwarnings("ignore:divide by zero encountered in log1p:RuntimeWarning")

SERVICE = {"RETICENT_SIMULATION": "1", "RETICENT_NOISE_SEED": "7", "RETICENT_SERVICE": "http://service"}


class Word:
    """The service's word: yes for everybody, until the n-th question of a device whose mind was changed."""

    def __init__(self, key: SigningKey) -> None:
        self.key = key
        self.asked: Counter[str] = Counter()
        self.no_from: dict[str, int] = {}
        self.reachable = True

    def connect(self, signer: Signer | None) -> Word:
        assert signer is not None, "a standing is asked for under a signature"
        self.signer = signer
        return self

    def close(self) -> None:
        """Nothing to give back."""

    def send(self, _parcels: object) -> HttpAnswer:
        if not self.reachable:
            raise ServiceUnreachable("the service could not be reached")
        handle = self.signer.handle
        self.asked[handle] += 1
        yes = self.asked[handle] < self.no_from.get(handle, 1 << 30)
        lines = tuple(
            PurposeStanding(
                purpose=purpose,
                state=ConsentState.GIVEN,
                permitted=yes,
                reason=None if yes else RefusalReason.OBJECTED,
                valid_until=int(time.time()) + 600 if yes else None,
            )
            for purpose in Purpose
        )
        now = int(time.time())
        standing = ConsentStanding(
            handle=handle,
            purposes=lines,
            objection=not yes,
            restricted=False,
            stopped=(),
            issued_at=now,
            expires_at=now + 60,
        )
        return HttpAnswer(200, f'{{"standing": "{seal(standing, self.key)}"}}'.encode())


@pytest.fixture(params=[Profile.RECORD_LOCAL, Profile.USER_DISTRIBUTED])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = make_world(tmp_path, environment=SERVICE, profile=request.param.value)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    client.app._WARM.close()


@pytest.fixture
def word(world: World, monkeypatch: pytest.MonkeyPatch) -> Word:
    word = Word(world.key)
    monkeypatch.setattr(client.standing, "_wired", lambda _node: word.connect)
    for index in range(2):
        with world.node(index) as node:
            for device in node.vault.devices():
                if node.credentials.signing_key(device) is None:
                    node.credentials.keep(device, identity=SigningKey.generate())
    return word


def run_round(world: World) -> int:
    """One round; how many devices are in its sum."""
    nodes = [{"data-path": str(path)} for path in sorted(world.nodes.iterdir())]
    with InlineGrid(client.app.app, nodes, {"num-server-rounds": 1, "calibrate": False, "evaluate": False}) as grid:
        train(grid, grid.context(), settings=world.server, observer=watch_nothing)
    with sqlite3.connect(world.server.state_dir / "reticent.db") as connection:
        return int(connection.execute("SELECT contributions FROM training_round").fetchone()[0])


def updates(world: World, device: str) -> list[str]:
    rows = read_journal(world.directory(int(device[1])) / "journal.db", device)
    return [row.outcome for row in rows if row.kind in {"training_contribution", "masked_update"}]


def handle(device: str) -> str:
    return f"handle-of-{device}-xxxxxxxx"


def questions(world: World) -> int:
    """How often one device is asked about in a round: the last time is just before its update leaves."""
    with world.node(0) as node:
        return 2 if node.policies.policies.privacy_budget.profile is Profile.RECORD_LOCAL else 3


def test_every_device_is_asked_about_at_the_start_and_before_its_update_leaves(world: World, word: Word) -> None:
    assert run_round(world) == 6
    assert set(word.asked.values()) == {questions(world)}
    assert updates(world, "n0-d0") == ["sent"]


def test_a_no_at_the_start_keeps_a_device_out(world: World, word: Word) -> None:
    word.no_from[handle("n0-d1")] = 1
    assert run_round(world) == 5
    assert "sent" not in updates(world, "n0-d1")
    with world.node(0) as node:
        assert node.ledger.epsilon(node.vault.devices()[1]) == 0


def test_a_no_just_before_leaving_takes_the_update_out_of_the_sum(world: World, word: Word) -> None:
    """In a round of one message its group goes with it; in a secure aggregation it goes alone."""
    word.no_from[handle("n0-d1")] = questions(world)
    whole_group = questions(world) == 2
    assert run_round(world) == (3 if whole_group else 5)
    assert updates(world, "n0-d1") == ["objected"]
    assert updates(world, "n1-d0") == ["sent"]
    assert answer(world, "n0-d1") is RefusalReason.OBJECTED, "and it is remembered"


def answer(world: World, device: str) -> RefusalReason | None:
    with Node.open(world.directory(int(device[1])), prove=False) as node:
        found = node.gate.permits(next(one for one in node.vault.devices() if one == device), Purpose.TRAIN_CONTRIBUTE)
    assert isinstance(found, Permit | Refusal)
    return found.reason if isinstance(found, Refusal) else None


def test_the_control_a_gate_that_does_not_renew_sends_it(
    world: World, word: Word, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.standing.FreshGate, "renew", lambda self: None)
    word.no_from[handle("n0-d1")] = questions(world)
    assert run_round(world) == 6
    assert updates(world, "n0-d1") == ["sent"]


def test_no_answer_is_no(world: World, word: Word) -> None:
    word.reachable = False
    with pytest.raises(TooFewSurvivors):
        run_round(world)
    assert updates(world, "n0-d0") in (["unavailable"], [])
