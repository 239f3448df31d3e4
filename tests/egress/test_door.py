"""The egress door: each numbered step says no for its own reason, and nothing is transmitted after a no."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from client.egress import DAY_S, Door
from common.errors import EgressRefused, OutOfRange, ShapeMismatch
from common.privacy.parameters import RecordDpParameters
from common.privacy.summation import GROUP_DEVICES, IntVector, Outgoing
from common.privacy.updates import MaskedUpdate, NoisedUpdate
from common.taxonomy import Masking, Profile, Purpose, RefusalReason
from common.wire.journal import JournalRow
from common.wire.messages import DocumentRequest, Message, RoundInvitation, TrainingContribution
from policies import loader
from policies.consent import Permit, Refusal
from policies.schema import EgressPolicy

POLICY = loader.load().policies.egress
RELEASE = RecordDpParameters(
    clipping_norm=1, noise_multiplier=2, sampling_rate=1, local_steps=1, expected_batch_size=8, learning_rate=0.1
).release(Profile.RECORD_LOCAL)
KIND = "training_contribution"
NOW = 1_000_000.0


@dataclass(frozen=True)
class FakeCharge:
    epsilon: float = 0.5


@dataclass
class World:
    """Gate, ledger, journal and transport that write down, in order, what the door asks of them."""

    refusals: dict[str, RefusalReason] = field(default_factory=dict)
    sent_today: dict[str, int] = field(default_factory=dict)
    unpaid: bool = False
    journal_broken: bool = False
    log: list[str] = field(default_factory=list)
    rows: list[JournalRow] = field(default_factory=list)
    transmitted: list[tuple[Message, bytes, Any]] = field(default_factory=list)

    def permits(self, device: str, purpose: Purpose) -> Permit | Refusal:
        self.log.append(f"permits {device}")
        reason = self.refusals.get(device)
        return Permit(purpose, NOW + 1, "n" * 64) if reason is None else Refusal(purpose, reason)

    def settle(self, reservations: Sequence[FakeCharge]) -> None:
        self.log.append("settle")
        if self.unpaid:
            raise RuntimeError("no such charge")

    def write(self, rows: Sequence[JournalRow]) -> None:
        if self.journal_broken:
            raise OSError("disk full")
        self.rows += rows
        if rows:
            self.log.append("journal")

    def sent_since(self, kind: str, since: float) -> Mapping[str, int]:
        assert since == NOW - DAY_S
        return self.sent_today

    def send(self, message: Message, body: bytes, payload: IntVector | None) -> str:
        self.log.append("send")
        self.transmitted.append((message, body, payload))
        return "reply"

    def door(self, policy: EgressPolicy = POLICY) -> Door[str, FakeCharge]:
        return Door(policy=policy, gate=self, ledger=self, journal=self, clock=lambda: NOW)


def header(contributions: int, **changes: object) -> TrainingContribution:
    values: dict[str, object] = {
        "run_id": "run-1",
        "round_number": 1,
        "spec_digest": "a" * 64,
        "base_digest": "b" * 64,
        "length": 3,
        "contributions": contributions,
        "release": RELEASE,
        "masking": Masking.NONE,
    }
    return TrainingContribution.model_validate(values | changes)


def update(*values: int) -> MaskedUpdate:
    return MaskedUpdate(np.array(values, np.int64), RELEASE, Masking.NONE)


def outgoing(*devices: str) -> Outgoing[str, FakeCharge]:
    waiting: Outgoing[str, FakeCharge] = Outgoing(3)
    for device in devices:
        waiting.add(device, update(1, 2, 3), FakeCharge())
    return waiting


def rule(**changes: object) -> EgressPolicy:
    rules = tuple(r.model_copy(update=changes) if r.message == KIND else r for r in POLICY.messages)
    return POLICY.model_copy(update={"messages": rules})


def test_the_steps_happen_in_order() -> None:
    world = World()
    assert world.door().release_contribution(outgoing("d1", "d2"), header, world) == "reply"
    assert world.log == ["permits d1", "permits d2", "settle", "journal", "send"]
    message, _, payload = world.transmitted[0]
    assert (message.contributions, payload.tolist()) == (2, [2, 4, 6])
    assert [(r.device, r.outcome, r.epsilon, r.purpose) for r in world.rows] == [
        ("d1", "sent", 0.5, "train.contribute"),
        ("d2", "sent", 0.5, "train.contribute"),
    ]
    assert world.rows[0].size_bytes > payload.nbytes
    assert len(world.rows[0].digest) == 64


def test_step_1_only_members_of_the_union_leave() -> None:
    world = World()

    class Smuggled(DocumentRequest):
        note: str = "what the person did"

    for message in (RoundInvitation.model_construct(kind="round_invitation"), Smuggled(document="keys")):
        with pytest.raises(EgressRefused) as caught:
            world.door().release(message, "d1", world)
        assert caught.value.reason is RefusalReason.NOT_DECLARED
    assert not world.transmitted


def test_step_2_only_declared_messages_leave() -> None:
    world = World()
    policy = POLICY.model_copy(update={"messages": tuple(r for r in POLICY.messages if r.message != KIND)})
    with pytest.raises(EgressRefused) as caught:
        world.door(policy).release_contribution(outgoing("d1"), header, world)
    assert caught.value.reason is RefusalReason.NOT_DECLARED
    twice = POLICY.model_copy(update={"messages": POLICY.messages * 2})
    with pytest.raises(EgressRefused):
        world.door(twice).release_contribution(outgoing("d1"), header, world)
    assert not world.transmitted


def test_step_3_a_withdrawal_just_before_takes_the_update_out_of_the_sum() -> None:
    devices = [f"d{i}" for i in range(3 * GROUP_DEVICES)]
    world = World(refusals={"d40": RefusalReason.WITHDRAWN})
    world.door().release_contribution(outgoing(*devices), header, world)
    message, _, payload = world.transmitted[0]
    assert message.contributions == 2 * GROUP_DEVICES  # its group is out, the two others stand
    assert payload.tolist() == [2 * GROUP_DEVICES * i for i in (1, 2, 3)]
    kept = {r.device: r.outcome for r in world.rows if r.outcome != "sent"}
    assert kept["d40"] == "consent-withdrawn"
    assert set(kept) == set(devices[GROUP_DEVICES : 2 * GROUP_DEVICES])
    assert all(r.size_bytes == 0 and r.epsilon == 0 for r in world.rows if r.outcome != "sent")


def test_step_3_nobody_permits() -> None:
    world = World(refusals={"d1": RefusalReason.EXPIRED})
    with pytest.raises(EgressRefused) as caught:
        world.door().release_contribution(outgoing("d1"), header, world)
    assert caught.value.reason is RefusalReason.EXPIRED
    assert not world.transmitted
    assert world.rows[0].outcome == "consent-expired"


@pytest.mark.parametrize(
    "make",
    [
        lambda n: header(n + 1),  # says more devices than there are
        lambda n: header(n, length=4),
        lambda n: DocumentRequest(document="keys"),  # a payload beside a message that declares none
    ],
)
def test_step_4_form(make: Callable[[int], TrainingContribution]) -> None:
    world = World()
    with pytest.raises(EgressRefused) as caught:
        world.door().release_contribution(outgoing("d1"), make, world)
    assert caught.value.reason is RefusalReason.BAD_FORM
    assert not world.transmitted
    assert "settle" not in world.log


def test_step_4_size_and_cadence() -> None:
    world = World()
    with pytest.raises(EgressRefused) as caught:
        world.door(rule(size_bytes_max=10)).release_contribution(outgoing("d1"), header, world)
    assert caught.value.reason is RefusalReason.BAD_FORM
    world = World(sent_today={"d1": 2})
    with pytest.raises(EgressRefused) as caught:
        world.door(rule(per_day_max=2)).release_contribution(outgoing("d1"), header, world)
    assert caught.value.reason is RefusalReason.TOO_OFTEN
    world.door(rule(per_day_max=3)).release_contribution(outgoing("d1"), header, world)
    assert len(world.transmitted) == 1


def test_step_4_a_contribution_without_its_array_does_not_leave() -> None:
    world = World()
    with pytest.raises(EgressRefused) as caught:
        world.door().release(header(1), "d1", world)
    assert caught.value.reason is RefusalReason.BAD_FORM


def test_step_5_an_unpaid_update_does_not_leave() -> None:
    world = World(unpaid=True)
    with pytest.raises(RuntimeError):
        world.door().release_contribution(outgoing("d1"), header, world)
    assert not world.transmitted
    assert not [r for r in world.rows if r.outcome == "sent"]


def test_step_5_a_charge_where_none_is_declared_does_not_leave() -> None:
    world = World()
    with pytest.raises(EgressRefused) as caught:
        world.door(rule(charged=False)).release_contribution(outgoing("d1"), header, world)
    assert caught.value.reason is RefusalReason.BUDGET_EXHAUSTED
    assert not world.transmitted


def test_step_6_what_cannot_be_journalled_does_not_leave() -> None:
    world = World(journal_broken=True)
    with pytest.raises(OSError, match="disk full"):
        world.door().release_contribution(outgoing("d1"), header, world)
    assert not world.transmitted


def test_a_document_request_needs_no_consent_and_no_budget() -> None:
    world = World(refusals={"d1": RefusalReason.NO_CONSENT})
    assert world.door().release(DocumentRequest(document="catalogue"), "d1", world) == "reply"
    assert world.log == ["journal", "send"]
    assert (world.rows[0].purpose, world.rows[0].epsilon) == (None, 0.0)


def test_only_masked_updates_can_wait_at_the_door() -> None:
    waiting: Outgoing[str, FakeCharge] = Outgoing(3)
    noised = NoisedUpdate(np.zeros(3), RELEASE)
    with pytest.raises(TypeError, match="only masked updates"):
        waiting.add("d1", noised, FakeCharge())  # type: ignore[arg-type]
    with pytest.raises(ShapeMismatch):
        waiting.add("d1", update(1, 2), FakeCharge())
    waiting.add("d1", update(2**62, 0, 0), FakeCharge())
    with pytest.raises(OutOfRange):
        waiting.add("d2", update(2**62, 0, 0), FakeCharge())
