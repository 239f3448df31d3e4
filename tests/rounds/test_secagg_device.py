"""The device side of secure aggregation: real nodes, stores, consent and ledgers against the real aggregator."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import client.app
import client.stages
from client.journal import read_journal
from client.releases import vectors
from client.store.keys import DeviceId
from client.store.sessions import Sessions
from common.crypto import keyfile
from common.crypto.signing import SigningKey
from common.errors import StoreError, TooFewSurvivors
from common.model.sizes import CALIBRATION_LENGTH
from common.privacy.distributed import NoisedShare, noise_share
from common.secagg.server import UnmaskedSum
from common.taxonomy import ConsentState, Decline, Profile, Purpose, ReleaseKind, Stage, Task
from common.wire.codec import decode, encode
from common.wire.messages import RoundInvitation
from common.wire.secagg import SecAggAdvert, SecAggDelivery
from common.wire.signed import seal_invitation
from tests.flower.nodes import RELEASE, RELEASES, World, make_world
from tests.rounds.secagg_hub import ARRAYS, Hub, app_of, secure

ADAPTIVE = RELEASE | {
    "clipping_norm": 0.5,
    "noise_multiplier": 30.0,
    "target_quantile": 0.5,
    "learning_rate": 0.2,
    "clipping_norm_min": 0.01,
    "clipping_norm_max": 10.0,
}


class Ear:
    """Hears every device's noised vector before it is masked, and what was in it before the noise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vectors: list[np.ndarray] = []
        self.clipped: list[list[np.ndarray]] = []

        def listen(segments, cohort, roster_size, rng) -> NoisedShare:  # type: ignore[no-untyped-def]
            share = noise_share(segments, cohort, roster_size, rng)
            self.vectors.append(share.vector)
            self.clipped.append([update.vector for update, _ in segments])
            return share

        monkeypatch.setattr(client.stages, "noise_share", listen)

    def check(self, total: UnmaskedSum, *, left_out: int = 0) -> None:
        """The unmasked sum is exactly the sum of what the survivors masked."""
        assert len(self.vectors) == len(total.survivors) + left_out
        if not left_out:
            assert np.array_equal(total.vector, np.sum(self.vectors, axis=0))


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    return Ear(monkeypatch)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Makes a world and puts the ClientApp into it."""
    stack = []

    def make(nodes: int = 3, devices: int = 3, **more: object) -> World:
        world = make_world(tmp_path / "world", nodes=nodes, devices=devices, **(secure() | more))
        stack.append(app_of(world, monkeypatch))
        stack[-1].__enter__()
        return world

    yield make
    for one in stack:
        one.__exit__(None, None, None)


@pytest.fixture
def world(build: Callable[..., World]) -> World:
    return build()


def hub(world: World, task: Task = Task.TRAIN, **more: object) -> Hub:
    between = more.pop("between", {})
    authority = keyfile.load_or_create(world.server.authority_key)
    return Hub(world, world.key, authority, task, more, between=between)  # type: ignore[arg-type]


def journal(world: World, node: int) -> list[tuple[str, str, str]]:
    rows = read_journal(world.directory(node) / "journal.db")
    return [(row.device, row.kind, row.outcome) for row in rows]


def states(world: World, node: int) -> int:
    with sqlite3.connect(world.directory(node) / "sessions.db") as connection:
        return int(connection.execute("SELECT COUNT(*) FROM states").fetchone()[0])


def spent(world: World, node: int) -> dict[DeviceId, int]:
    with world.node(node) as opened:
        return {device: len(opened.ledger.entries(device)) for device in opened.vault.devices()}


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


# ── dropping out ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lost", [Stage.SHARE, Stage.MASK, Stage.CONFIRM, Stage.REVEAL])
def test_a_node_that_falls_silent_leaves_the_exact_sum_of_the_others(
    build: Callable[..., World], ear: Ear, lost: Stage
) -> None:
    world = build(nodes=8, devices=2)
    session = hub(world)
    others = [node for node in session.nodes if node != 5]
    here = {stage: others if list(Stage).index(stage) >= list(Stage).index(lost) else session.nodes for stage in Stage}
    roster = session.advertise(here[Stage.ADVERTISE])
    deliveries = session.share(roster, here[Stage.SHARE])
    survivors = session.mask(deliveries, here[Stage.MASK])
    confirmations = session.confirm(survivors, here[Stage.CONFIRM])
    total = session.reveal(confirmations, here[Stage.REVEAL])
    assert len(total.survivors) == (14 if lost in {Stage.SHARE, Stage.MASK} else 16)
    ear.check(total)


def test_too_few_survivors_end_the_session_and_keep_the_charge(world: World) -> None:
    session = hub(world)
    deliveries = session.share(session.advertise())
    with pytest.raises(TooFewSurvivors):
        session.mask(deliveries, [0, 1])
    assert set(spent(world, 0).values()) == {1}
    assert set(spent(world, 2).values()) == {0}


@pytest.mark.parametrize("stage", [Stage.SHARE, Stage.MASK, Stage.CONFIRM, Stage.REVEAL])
def test_a_consent_withdrawn_between_stages_takes_the_device_out(world: World, ear: Ear, stage: Stage) -> None:
    def withdraw() -> None:
        world.decide(1, "n1-d1", ConsentState.WITHDRAWN, Purpose.TRAIN_CONTRIBUTE)

    session = hub(world, between={stage: withdraw})
    total = session.run()
    early = stage in {Stage.SHARE, Stage.MASK}
    assert len(total.survivors) == (8 if early else 9)
    ear.check(total)
    lines = [(kind, outcome) for device, kind, outcome in journal(world, 1) if device == "n1-d1"]
    assert lines[-1] == (session.plan.kind(stage), "consent-withdrawn")
    assert spent(world, 1)[DeviceId("n1-d1")] == (0 if early else 1)
    assert states(world, 1) == 0  # its keys are gone too


@pytest.mark.parametrize("stage", [Stage.SHARE, Stage.MASK, Stage.CONFIRM, Stage.REVEAL])
def test_a_device_erased_mid_round_is_gone_and_the_others_go_on(world: World, ear: Ear, stage: Stage) -> None:
    def erase() -> None:
        with world.node(2) as node:
            node.erase(DeviceId("n2-d0"))

    session = hub(world, between={stage: erase})
    total = session.run()
    assert len(total.survivors) == (8 if stage in {Stage.SHARE, Stage.MASK} else 9)
    ear.check(total)


@pytest.mark.parametrize("stage", [Stage.ADVERTISE, Stage.MASK])
def test_a_device_whose_budget_is_used_up_is_left_out_silently(
    build: Callable[..., World], ear: Ear, stage: Stage
) -> None:
    """Whoever cannot pay does not even promise; whose budget goes between promise and payment is a dropout."""
    world = build(nodes=2, devices=3, epsilon_cap=3.0, epsilon_declared=3.0, rounds_max=3, releases=TIGHT)

    def spend() -> None:
        with world.node(0) as node:
            for i in range(20):
                node.ledger.reserve([DeviceId("n0-d2")], hub(world).plan.planned, cause=f"earlier-{i}")

    if stage is Stage.ADVERTISE:
        spend()
    session = hub(world, between={stage: spend})
    total = session.run()
    with world.node(0) as node:
        before = len([one for one in node.ledger.entries(DeviceId("n0-d2")) if one.cause.startswith("earlier")])
    assert session.declined == {}
    assert len(total.survivors) == 5
    ear.check(total)
    assert ("n0-d2", session.plan.kind(stage), "budget-exhausted") in journal(world, 0)
    assert spent(world, 0)[DeviceId("n0-d2")] == before


TIGHT = {"training_update": RELEASE | {"noise_multiplier": 6.0, "releases_max": 3}}


def test_a_device_that_cannot_compute_is_left_out_and_stays_charged(
    world: World, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = client.app.load_examples

    def broken(node, device, part="train"):  # type: ignore[no-untyped-def]
        if device == "n0-d0":
            raise StoreError("its disk is damaged")
        return load(node, device, part)

    monkeypatch.setattr(client.app, "load_examples", broken)
    total = hub(world).run()
    assert len(total.survivors) == 8
    ear.check(total)
    assert ("n0-d0", "masked_update", "unavailable") in journal(world, 0)
    assert spent(world, 0)[DeviceId("n0-d0")] == 1


def test_a_device_that_was_not_drawn_is_done_with_the_session(world: World, ear: Ear) -> None:
    session = hub(world)
    for node in session.nodes:
        for body in session.bodies(Stage.ADVERTISE, node)[: 3 if node else 2]:
            advert = decode(body, SecAggAdvert)
            session.aggregator.add_advert(advert)
            session.home[advert.agreement_key] = node  # type: ignore[index]
    roster = session.aggregator.close_adverts()
    session.home = {i: session.home[one.agreement_key] for i, one in enumerate(roster.adverts)}  # type: ignore[index]
    deliveries = session.share(encode(roster))
    assert len(session.home) == 8
    assert states(world, 0) == 2
    assert [row for row in journal(world, 0) if row[2] != "sent"] == []
    ear.check(session.reveal(session.confirm(session.mask(deliveries))))


def test_a_device_without_a_certificate_stays_out(world: World, ear: Ear) -> None:
    with world.node(0) as node:
        node.credentials.forget("n0-d1")
    total = hub(world).run()
    assert len(total.survivors) == 8
    assert ("n0-d1", "secagg_advert", "unavailable") in journal(world, 0)


# ── never twice ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_stage_is_answered_twice(world: World) -> None:
    session = hub(world)
    roster = session.advertise()
    assert session.ask(0, Stage.ADVERTISE).error.reason == Decline.REPLAYED
    deliveries = session.share(roster)
    mine = [body for index, body in deliveries.items() if session.home[index] == 0]
    assert session.ask(0, Stage.SHARE, [roster]).error.reason == Decline.REPLAYED
    survivors = session.mask(deliveries)
    assert session.ask(0, Stage.MASK, mine).error.reason == Decline.REPLAYED
    confirmations = session.confirm(survivors)
    assert session.ask(0, Stage.CONFIRM, [survivors]).error.reason == Decline.REPLAYED
    session.reveal(confirmations)
    for stage, bodies in (
        (Stage.ADVERTISE, []),
        (Stage.SHARE, [roster]),
        (Stage.MASK, mine),
        (Stage.CONFIRM, [survivors]),
        (Stage.REVEAL, [confirmations]),
    ):
        reply = session.ask(0, stage, bodies)
        assert reply.error.reason in {Decline.REPLAYED, Decline.STAGE}, stage
    assert set(spent(world, 0).values()) == {1}


def test_a_crash_after_the_charge_is_never_made_good_by_asking_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = hub(world)
    deliveries = session.share(session.advertise())
    mine = [body for index, body in deliveries.items() if session.home[index] == 0]
    with monkeypatch.context() as patched:
        patched.setattr(Sessions, "advance", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
        assert session.ask(0, Stage.MASK, mine).error.reason == Decline.FAILURE
    assert set(spent(world, 0).values()) == {1}
    assert session.ask(0, Stage.MASK, mine).error.reason == Decline.NOTHING_TO_SEND
    assert {outcome for _, kind, outcome in journal(world, 0) if kind == "masked_update"} == {"too-often"}
    assert set(spent(world, 0).values()) == {1}


def test_stages_cannot_be_skipped_or_begun_in_the_middle(world: World) -> None:
    session = hub(world)
    assert session.ask(0, Stage.SHARE, [b"x"]).error.reason == Decline.STAGE  # never began
    roster = session.advertise()
    delivery = SecAggDelivery(session=session.invitation.session, index=0, senders=b"", ciphertexts=b"")
    for stage in (Stage.MASK, Stage.CONFIRM, Stage.REVEAL):
        assert session.ask(0, stage, [encode(delivery)]).has_error(), stage
    assert set(spent(world, 0).values()) == {0}
    assert session.share(roster)  # and none of it did any harm


def test_one_session_has_one_invitation_and_one_roster(world: World) -> None:
    session = hub(world)
    roster = session.advertise()
    twin = session.invitation.model_copy(update={"deadline_s": 61.0})
    answer = session.ask(0, Stage.SHARE, [roster], jws=seal_invitation(twin, world.key))
    assert answer.error.reason == Decline.PROTOCOL
    assert not session.ask(0, Stage.SHARE, [roster]).has_error()
    other = hub(world)  # its roster is genuine, but of another session
    assert session.ask(1, Stage.SHARE, [other.advertise([0, 1, 2])]).error.reason == Decline.PROTOCOL
    assert not session.ask(1, Stage.SHARE, [roster]).has_error()


def test_an_invitation_expires(world: World) -> None:
    late = hub(world, expires_at=1_000_000)
    assert late.ask(0, Stage.ADVERTISE).error.reason == Decline.POLICY
    for_ever = hub(world, expires_at=2**40)
    assert for_ever.ask(0, Stage.ADVERTISE).error.reason == Decline.POLICY
    assert not (world.directory(0) / "sessions.db").exists()


def test_what_must_be_masked_never_leaves_by_the_one_message_of_other_profiles(world: World) -> None:
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

    session = hub(world)
    content = RecordDict(
        {
            "invitation": ConfigRecord({"jws": session.jws}),
            "arrays": ArrayRecord({name: Array(array) for name, array in ARRAYS.items()}),
        }
    )
    context = Context(1, 100, {"data-path": str(world.directory(0))}, RecordDict(), {})
    reply = client.app.app(Message(content, 100, "train"), context)
    assert reply.error.reason == Decline.POLICY


# ── what arrives ─────────────────────────────────────────────────────────────────────────────────────────────────────


NONSENSE = [b"", b"\x01{}", b"\x02", b"\x01" + b"[" * 5000, b"\xff" * 100]


@pytest.mark.parametrize("body", NONSENSE)
def test_nonsense_at_every_stage_has_a_name_and_does_no_harm(world: World, ear: Ear, body: bytes) -> None:
    session = hub(world)

    def prod(stage: Stage, good: list[bytes]) -> None:
        for bodies in ([body], [], [*good, body]):
            if stage is Stage.MASK and not bodies:
                continue
            assert session.ask(0, stage, bodies).error.reason in set(Decline) - {Decline.FAILURE}, stage

    assert session.ask(0, Stage.ADVERTISE, [body]).error.reason == Decline.MALFORMED
    roster = session.advertise()
    prod(Stage.SHARE, [roster])
    deliveries = session.share(roster)
    mine = [one for index, one in deliveries.items() if session.home[index] == 0]
    prod(Stage.MASK, mine)
    survivors = session.mask(deliveries)
    prod(Stage.CONFIRM, [survivors])
    confirmations = session.confirm(survivors)
    prod(Stage.REVEAL, [confirmations])
    ear.check(session.reveal(confirmations))


def test_arrays_that_were_not_signed_for_stop_before_the_charge(world: World) -> None:
    session = hub(world)
    deliveries = session.share(session.advertise())
    mine = [body for index, body in deliveries.items() if session.home[index] == 0]
    first = min(ARRAYS)
    for change, name in (
        (lambda a: a + 1, Decline.DIGEST),
        (lambda a: a * np.float32("nan"), Decline.NON_FINITE),
        (lambda a: a.reshape(-1)[1:], Decline.SHAPE),
    ):
        named = {**ARRAYS, first: change(ARRAYS[first])}
        assert session.ask(0, Stage.MASK, mine, named=named).error.reason == name
    assert set(spent(world, 0).values()) == {0}


def test_a_spoilt_delivery_costs_only_the_device_it_is_for(world: World, ear: Ear) -> None:
    session = hub(world)
    deliveries = session.share(session.advertise())
    victim = next(index for index, node in session.home.items() if node == 0)
    found = decode(deliveries[victim], SecAggDelivery)
    spoilt = found.model_copy(update={"ciphertexts": found.ciphertexts[:-1]})
    total_of = session.mask(deliveries | {victim: encode(spoilt)})
    total = session.reveal(session.confirm(total_of))
    assert victim not in total.survivors
    assert len(total.survivors) == 8


@pytest.mark.parametrize(
    "change",
    [
        {"clipping_norm": 2.0},
        {"profile": Profile.LAYERED},
        {"profile": Profile.NON_PRIVATE},
        {"rounds_total": 1000},
        {"budget_policy_digest": "0" * 64},
    ],
)
def test_a_server_cannot_choose_another_protection(world: World, change: dict[str, object]) -> None:
    session = hub(world)
    other = RoundInvitation.model_validate(session.invitation.model_dump() | change)
    assert session.ask(0, Stage.ADVERTISE, jws=seal_invitation(other, world.key)).error.reason == Decline.POLICY


def test_a_stranger_cannot_invite_and_an_uncertified_peer_cannot_join(world: World) -> None:
    session = hub(world)
    stranger = SigningKey.generate()
    answer = session.ask(0, Stage.ADVERTISE, jws=seal_invitation(session.invitation, stranger))
    assert answer.error.reason == Decline.UNKNOWN_SIGNER
    with world.node(1) as node:
        node.pin(authorities=[stranger.public])
    roster = session.advertise([0, 2])
    assert session.ask(1, Stage.ADVERTISE).error.reason == Decline.NOTHING_TO_SEND
    with world.node(0) as node:
        node.pin(authorities=[stranger.public])
    assert session.ask(0, Stage.SHARE, [roster]).error.reason == Decline.UNKNOWN_SIGNER


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
