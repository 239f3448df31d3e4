"""The device side of secure aggregation: real nodes, stores, consent and ledgers against the real aggregator."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import client.app
import client.stages
from client.journal import read_journal
from client.releases import vectors
from client.store.keys import DeviceId
from client.store.sessions import Sessions
from common.errors import TooFewSurvivors
from common.model.sizes import CALIBRATION_LENGTH
from common.taxonomy import ConsentState, Decline, Profile, Purpose, ReleaseKind, Stage, Task
from common.wire.signed import seal_invitation
from tests.flower.nodes import RELEASE, RELEASES, World, make_world
from tests.rounds.secagg_ears import ADAPTIVE, Ear, hub, journal, spent, states
from tests.rounds.secagg_hub import ARRAYS, app_of, secure

# ── the whole way ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_sum_is_exactly_what_the_devices_masked(world: World, ear: Ear) -> None:
    session = hub(world)
    total = session.run()
    assert session.declined == {}
    assert len(total.survivors) == 9
    ear.check(total)
    kinds = ["secagg_advert", "secagg_shares", "masked_update", "secagg_confirmation", "secagg_reveal"]
    for node in session.nodes:
        mine = [(kind, outcome) for device, kind, outcome in journal(world, node) if device == f"n{node}-d0"]
        assert mine == [(kind, "sent") for kind in kinds]
        assert states(world, node) == 0
        assert set(spent(world, node).values()) == {1}


def test_the_owner_reads_what_each_message_cost(world: World) -> None:
    hub(world).run()
    rows = [row for row in read_journal(world.directory(0) / "journal.db") if row.device == "n0-d1"]
    assert [row.epsilon > 0 for row in rows] == [False, False, True, False, False]
    assert {row.purpose for row in rows} == {"train.contribute"}
    assert all(row.size_bytes > 0 and len(row.digest) == 64 for row in rows)
    with world.node(0) as node:
        (entry,) = node.ledger.entries(DeviceId("n0-d1"))
        assert rows[2].epsilon == pytest.approx(entry.epsilon)
        assert entry.state == "settled"


def test_a_node_with_one_device_takes_part_like_any_other(build: Callable[..., World], ear: Ear) -> None:
    world = build(nodes=5, devices=1)
    ear.check(hub(world).run())


def test_layered_devices_are_charged_on_both_lines(build: Callable[..., World], ear: Ear) -> None:
    world = build(profile=Profile.LAYERED.value)
    session = hub(world)
    total = session.run()
    ear.check(total)
    assert [use.unit.value for use in session.plan.header(0).releases] == ["user", "record"]
    with world.node(1) as node:
        units = [entry.use.unit.value for entry in node.ledger.entries(DeviceId("n1-d2"))]
    assert sorted(units) == ["record", "user"]
    assert min(np.linalg.norm(parts[0]) for parts in ear.clipped) > 0.06  # without local noise: 0.02


def test_an_adaptive_clip_adds_one_number(build: Callable[..., World], ear: Ear) -> None:
    world = build(releases=RELEASES | {"clip_quantile": ADAPTIVE})
    session = hub(world, clipping_norm=5.0)
    total = session.run()
    ear.check(total)
    assert [part.tolist() for _, part in ear.clipped] == [[0.5]] * 9  # nobody's update is longer than 5
    assert total.vector.shape == (arrays_length() + 1,)
    short = hub(world, clipping_norm=0.011)
    short.run()
    assert [parts[1].tolist() for parts in ear.clipped[9:]] == [[-0.5]] * 9
    assert max(np.linalg.norm(parts[0]) for parts in ear.clipped[9:]) <= 0.011


def arrays_length() -> int:
    return sum(array.size for array in ARRAYS.values())


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("task", "kind", "length"),
    [(Task.CALIBRATE, ReleaseKind.CALIBRATION, CALIBRATION_LENGTH), (Task.EVALUATE, ReleaseKind.EVALUATION, 20)],
)
def test_measuring_the_model_is_a_charged_release(
    world: World, ear: Ear, task: Task, kind: ReleaseKind, length: int
) -> None:
    session = hub(world, task)
    total = session.run()
    ear.check(total)
    assert total.vector.shape == (length,)
    with world.node(0) as node:
        (entry,) = node.ledger.entries(DeviceId("n0-d0"))
    assert (entry.kind, entry.use.dimension) == (kind, length)
    assert ("n0-d0", "masked_update", "sent") in journal(world, 0)


def test_a_histogram_needs_its_own_consent_and_no_other(build: Callable[..., World], ear: Ear) -> None:
    world = build(releases=RELEASES | {"feature_histogram": RELEASE})
    world.decide(0, "n0-d0", ConsentState.WITHDRAWN, Purpose.MEASURE_AGGREGATE)
    world.decide(1, "n1-d0", ConsentState.WITHDRAWN, Purpose.TRAIN_LOCAL, Purpose.TRAIN_CONTRIBUTE)
    session = hub(world, Task.HISTOGRAM)
    total = session.run()
    ear.check(total)
    assert len(total.survivors) == 8
    assert ("n0-d0", "secagg_advert", "consent-withdrawn") in journal(world, 0)
    assert ("n1-d0", "masked_measurement", "sent") in journal(world, 1)
    for (shares,) in ear.clipped:
        assert shares.sum() == pytest.approx(np.sqrt(2))  # two categorical fields
    with world.node(1) as node:
        assert {entry.purpose for entry in node.ledger.entries(DeviceId("n1-d0"))} == {Purpose.MEASURE_AGGREGATE}


def test_a_task_the_policy_does_not_declare_is_declined(world: World) -> None:
    session = hub(world)
    other = session.invitation.model_copy(update={"task": Task.HISTOGRAM})
    session.ask(0, Stage.ADVERTISE, jws=seal_invitation(other, world.key))
    assert session.declined == {(Stage.ADVERTISE, 0): Decline.POLICY}


# ── at rest ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_round_secrets_lie_encrypted_and_do_not_outlive_the_session(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    put, advance = Sessions.put, Sessions.advance

    def heard_put(self, session, states):  # type: ignore[no-untyped-def]
        seen.extend(states.values())
        return put(self, session, states)

    def heard_advance(self, session, after, states):  # type: ignore[no-untyped-def]
        seen.extend(states.values())
        return advance(self, session, after, states)

    monkeypatch.setattr(Sessions, "put", heard_put)
    monkeypatch.setattr(Sessions, "advance", heard_advance)
    session = hub(world)
    deliveries = session.share(session.advertise())
    windows = {state[i : i + 24] for state in seen for i in range(40, len(state) - 24, 24)}
    on_disk = b"".join(path.read_bytes() for path in world.directory(0).glob("sessions.db*"))
    assert len(windows) > 50
    assert states(world, 0) == 3
    assert not [window for window in windows if window in on_disk]
    with pytest.raises(TooFewSurvivors):
        session.mask(deliveries, [0])  # the session dies here
    with world.node(0) as node:
        monkeypatch.setattr(node.sessions, "_now", lambda: 2.0**40)
        node.sessions.begin("f" * 64, "another", 2**41)
    assert states(world, 0) == 0


def test_a_state_is_bound_to_its_device_and_its_stage(world: World) -> None:
    session = hub(world)
    session.advertise()
    with sqlite3.connect(world.directory(0) / "sessions.db") as connection:
        sealed = dict(connection.execute("SELECT device, sealed FROM states").fetchall())
        connection.execute("UPDATE states SET sealed = ? WHERE device = 'n0-d0'", (sealed["n0-d1"],))
        connection.execute("UPDATE states SET stage = 'share' WHERE device = 'n0-d2'")
    with world.node(0) as node:
        assert set(node.sessions.load(session.invitation.session, Stage.ADVERTISE)) == {"n0-d1"}
        assert node.sessions.load(session.invitation.session, Stage.SHARE) == {}


def test_every_stage_goes_on_from_the_disk_alone(world: World, ear: Ear) -> None:
    def forget() -> None:
        client.app._ROSTERS.clear()  # all else is opened afresh for every message anyway

    ear.check(hub(world, between=dict.fromkeys(Stage, forget)).run())


def test_in_a_simulation_nodes_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ear: Ear) -> None:
    environment = {"RETICENT_SIMULATION": "1", "RETICENT_NOISE_SEED": "7"}
    world = make_world(tmp_path / "w", nodes=2, devices=4, environment=environment, **secure())
    with app_of(world, monkeypatch):
        ear.check(hub(world).run())
        ear.vectors.clear()
        ear.check(hub(world).run())
        assert len(client.app._WARM._nodes) == 2


def test_vectors_come_one_by_one_and_only_when_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behaviour is read inside the sealed region, after the charge."""
    order: list[str] = []
    prepare = vectors.prepare

    def watched(work, devices):  # type: ignore[no-untyped-def]
        order.append(f"prepare after {len(work.node.ledger.entries())} charges")
        return prepare(work, devices)

    monkeypatch.setattr(client.stages, "prepare", watched)
    hub(world).run()
    assert order == ["prepare after 3 charges"] * 3
