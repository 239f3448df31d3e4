"""One device is counted once about one day: its ledger remembers it over crashes of the device and of the server."""

from __future__ import annotations

import pytest

import client.app
from client.releases.plan import Plan
from common.errors import TooFewSurvivors
from common.taxonomy import RefusalReason, ReleaseKind
from server.rounds import release_rounds
from tests.flower.nodes import World
from tests.rounds.secagg_world import charged, run_measurement
from tests.rounds.test_measured_days import DAY, crowded, world  # noqa: F401 - fixtures

ONE = [ReleaseKind.PLACEMENT_COUNTS]


class Crash(Exception):
    """The server ends here."""


def crash(world: World, monkeypatch: pytest.MonkeyPatch, **config: object) -> None:  # noqa: F811
    """A measurement whose server dies with the devices' vectors in hand; the devices' processes end too."""
    with monkeypatch.context() as patch:

        def dies(*_: object, **__: object) -> None:
            raise Crash

        patch.setattr(release_rounds, "decode_sum", dies)
        with pytest.raises(Crash):
            run_measurement(world, task="measure", **config)
    client.app._WARM.close()
    client.app._ROSTERS.clear()


def test_who_was_counted_is_not_counted_again_after_a_crash(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    crash(world, monkeypatch)
    assert set(map(tuple, charged(world).values())) == {tuple(ONE)}
    with pytest.raises(TooFewSurvivors):
        run_measurement(world, task="measure", node_wait_s=0.5)
    with pytest.raises(TooFewSurvivors):
        run_measurement(world, task="measure", node_wait_s=0.5, run_name="another-name")
    assert all(kinds == ONE for kinds in charged(world).values()), "nobody has paid, or answered, twice"
    with world.node(0) as node:
        assert len(node.ledger.charged(f"measured-day/{DAY}")) == 4
        journal = (node.directory / "journal.db").read_bytes()
        assert RefusalReason.TOO_OFTEN.value.encode() in journal, "its owner can read why"


def test_a_charge_that_is_named_after_the_session_would_be_paid_twice(
    world: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control."""
    monkeypatch.setattr(Plan, "cause", property(lambda plan: plan.invitation.session))
    crash(world, monkeypatch)
    run_measurement(world, task="measure")
    assert all(kinds == ONE * 2 for kinds in charged(world).values())


def test_those_who_were_left_over_are_counted_after_the_crash(
    crowded: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crash(crowded, monkeypatch)
    assert sum(map(len, charged(crowded).values())) == 4, "as many as one session holds"
    found = run_measurement(crowded, task="measure")
    assert found.devices == 4
    assert all(kinds == ONE for kinds in charged(crowded).values())
    assert len(charged(crowded)) == 8


def test_a_ledger_that_was_put_back_counts_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Fail closed: a copy of the ledger from before does not open the day again."""
    kept = {path: path.read_bytes() for path in sorted(world.nodes.glob("*/ledger.db*"))}
    crash(world, monkeypatch)
    for path in world.nodes.glob("*/ledger.db*"):
        path.unlink()
    for path, body in kept.items():
        path.write_bytes(body)
    with pytest.raises(TooFewSurvivors):
        run_measurement(world, task="measure", node_wait_s=0.5)
