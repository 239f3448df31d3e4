"""The egress door: each numbered step says no for its own reason, and nothing is transmitted after a no."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from client.egress import DAY_S, Door
from common.errors import EgressRefused, OutOfRange, ShapeMismatch
from common.privacy.distributed import MaskedShare
from common.privacy.parameters import MechanismUse, RecordDpParameters, UserDpParameters
from common.privacy.summation import GROUP_DEVICES, Outgoing
from common.privacy.updates import MaskedUpdate, NoisedUpdate
from common.taxonomy import Masking, Profile, Purpose, RefusalReason, Task
from common.wire.journal import JournalRow
from common.wire.messages import DocumentRequest, RoundInvitation, TrainingContribution
from common.wire.secagg import MaskedMeasurement, MaskedUpdateHeader, SecAggConfirmation
from policies import loader
from policies.consent import Permit, Refusal
from policies.door import Letter, Payload, Sealed
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
    transmitted: list[Sealed] = field(default_factory=list)
    asked: list[Purpose] = field(default_factory=list)

    def permits(self, device: str, purpose: Purpose) -> Permit | Refusal:
        self.log.append(f"permits {device}")
        self.asked.append(purpose)
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

    def send(self, parcels: Sequence[Sealed]) -> str:
        self.log.append("send")
        self.transmitted += parcels
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


# ── one message per device: secure aggregation ───────────────────────────────────────────────────────────────────────

USER = UserDpParameters(clipping_norm=1.0, noise_multiplier=5.0).release(4)
SECAGG = {"secagg_confirmation", "masked_update", "masked_measurement"}


def masked_header(
    index: int, form: type[MaskedUpdateHeader | MaskedMeasurement] = MaskedUpdateHeader, **changes: object
):  # type: ignore[no-untyped-def]
    values: dict[str, object] = {
        "session": "c" * 64,
        "index": index,
        "run_id": "run-1",
        "round_number": 1,
        "task": Task.TRAIN,
        "spec_digest": "a" * 64,
        "base_digest": "b" * 64,
        "length": 4,
        "bits": 16,
        "releases": (USER,),
    }
    return form.model_validate(values | changes)


def masked_bytes(size: int = 8, releases: tuple[MechanismUse, ...] = (USER,), bits: int = 16) -> MaskedShare:
    return MaskedShare(np.arange(size, dtype=np.uint8), releases, bits)


def letter(index: int, **changes: object) -> Letter[FakeCharge]:
    return Letter(masked_header(index, **changes), FakeCharge(), masked_bytes())


def confirmation(index: int = 0) -> Letter[FakeCharge]:
    message = SecAggConfirmation(session="c" * 64, index=index, survivors_digest="d" * 64, signature=b"s" * 64)
    return Letter(message)


def contribute(world: World, letters: Mapping[str, Letter[FakeCharge]], policy: EgressPolicy = POLICY) -> str:
    return world.door(policy).release_letters(letters, Purpose.TRAIN_CONTRIBUTE, world)


def reason_of(world: World, letters: Mapping[str, Letter[FakeCharge]], policy: EgressPolicy = POLICY) -> RefusalReason:
    with pytest.raises(EgressRefused) as caught:
        contribute(world, letters, policy)
    assert not world.transmitted
    assert not [row for row in world.rows if row.outcome == "sent"]
    return caught.value.reason


def test_letters_pass_the_steps_in_order_and_leave_together() -> None:
    world = World()
    assert contribute(world, {"d1": letter(3), "d2": letter(5)}) == "reply"
    assert world.log == ["permits d1", "permits d2", "settle", "journal", "send"]
    assert [parcel.message.index for parcel in world.transmitted] == [3, 5]  # type: ignore[attr-defined]
    assert [parcel.payload.tolist() for parcel in world.transmitted] == [list(range(8))] * 2  # type: ignore[union-attr]
    assert [(r.device, r.outcome, r.epsilon, r.purpose) for r in world.rows] == [
        ("d1", "sent", 0.5, "train.contribute"),
        ("d2", "sent", 0.5, "train.contribute"),
    ]


def test_a_device_that_is_barred_takes_its_own_letter_out_and_no_other() -> None:
    world = World(refusals={"d1": RefusalReason.WITHDRAWN}, sent_today={"d3": 10_000})
    contribute(world, {"d1": letter(0), "d2": letter(1), "d3": letter(2)})
    assert [parcel.message.index for parcel in world.transmitted] == [1]  # type: ignore[attr-defined]
    assert {r.device: r.outcome for r in world.rows} == {"d1": "consent-withdrawn", "d2": "sent", "d3": "too-often"}


def test_protocol_messages_leave_only_for_a_purpose_that_is_permitted() -> None:
    """They carry nothing about behaviour, but nobody takes part in what was not agreed to."""
    world = World(refusals={"d1": RefusalReason.NO_CONSENT})
    world.door().release_letters({"d1": confirmation(), "d2": confirmation(1)}, Purpose.MEASURE_AGGREGATE, world)
    assert world.asked == [Purpose.MEASURE_AGGREGATE] * 2
    assert [(r.device, r.purpose, r.outcome) for r in world.rows] == [
        ("d1", "measure.aggregate", "consent-required"),
        ("d2", "measure.aggregate", "sent"),
    ]


def test_a_letter_for_another_purpose_than_declared_does_not_leave() -> None:
    world = World()
    measurement = Letter(masked_header(0, MaskedMeasurement), FakeCharge(), masked_bytes())
    assert reason_of(world, {"d1": measurement}) is RefusalReason.NOT_DECLARED


@pytest.mark.parametrize(
    "wrong",
    [
        Letter(masked_header(0), FakeCharge(), None),
        Letter(masked_header(0, length=3), FakeCharge(), masked_bytes()),
        Letter(masked_header(0, bits=24), FakeCharge(), masked_bytes()),
        Letter(masked_header(0, bits=24), FakeCharge(), masked_bytes(12)),
        Letter(masked_header(0), FakeCharge(), masked_bytes(7)),
        Letter(masked_header(0, releases=(RELEASE,)), FakeCharge(), masked_bytes()),
        Letter(confirmation().message, None, masked_bytes()),
        Letter(DocumentRequest(document="keys"), None, masked_bytes()),
    ],
)
def test_a_masked_vector_leaves_only_beside_the_header_that_tells_it_all(wrong: Letter[FakeCharge]) -> None:
    assert reason_of(World(), {"d1": letter(1), "d2": wrong}) is RefusalReason.BAD_FORM


def test_letters_of_two_kinds_and_no_letters_at_all_do_not_leave() -> None:
    assert reason_of(World(), {"d1": letter(0), "d2": confirmation()}) is RefusalReason.BAD_FORM
    assert reason_of(World(), {}) is RefusalReason.UNAVAILABLE


def test_a_masked_vector_is_paid_for_and_a_protocol_message_costs_nothing() -> None:
    unpaid = Letter(masked_header(0), None, masked_bytes())
    assert reason_of(World(), {"d1": letter(1), "d2": unpaid}) is RefusalReason.BUDGET_EXHAUSTED
    charged = Letter(confirmation().message, FakeCharge())
    assert reason_of(World(), {"d1": charged}) is RefusalReason.BUDGET_EXHAUSTED
    with pytest.raises(RuntimeError):
        contribute(broke := World(unpaid=True), {"d1": letter(1)})
    assert not broke.transmitted


def test_one_letter_too_large_keeps_all_of_them_back() -> None:
    small = tuple(r.model_copy(update={"size_bytes_max": 100}) if r.message in SECAGG else r for r in POLICY.messages)
    policy = POLICY.model_copy(update={"messages": small})
    assert reason_of(World(), {"d1": letter(1)}, policy) is RefusalReason.BAD_FORM


def test_only_the_masked_forms_may_have_bytes_beside_them() -> None:
    """What the transport gets beside a message is one of two arrays, by type."""
    assert Payload.__args__[0] is not Payload.__args__[1]
