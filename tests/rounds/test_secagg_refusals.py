"""A device answers no stage twice, and refuses what is out of order, altered or nonsense."""

from __future__ import annotations

import numpy as np
import pytest

import client.app
import client.stages
from client.store.sessions import Sessions
from common.crypto.signing import SigningKey
from common.taxonomy import Decline, Profile, Stage
from common.wire.codec import decode, encode
from common.wire.messages import RoundInvitation
from common.wire.secagg import SecAggDelivery
from common.wire.signed import seal_invitation
from tests.flower.nodes import World
from tests.rounds.secagg_ears import Ear, hub, journal, spent
from tests.rounds.secagg_hub import ARRAYS

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
