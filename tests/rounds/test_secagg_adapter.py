"""The server's side of secure aggregation over a grid that loses, repeats, delays and garbles.

Vectors are known to the test, so the sum is compared integer by integer: it is exact, or there is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from common.crypto.signing import SigningKey
from common.errors import SumOutOfRange, TooFewSurvivors
from common.privacy.parameters import CohortParameters, UserDpParameters
from common.secagg.server import UnmaskedSum
from common.secagg.terms import SessionTerms
from common.taxonomy import Stage, Task
from common.wire.codec import decode, encode
from common.wire.secagg import MaskedUpdateHeader, SecAggAdvert, SecAggReveal
from server.rounds.secagg import SecureTally, Session, aggregate
from server.rounds.strategy import Patience
from tests.rounds.secagg_nodes import FakeNode, FakeSecAggGrid, Ints, authorities, enrol, reply_of

SESSION, LENGTH, BITS, DEVICES = "5" * 64, 7, 24, 20
COHORT = CohortParameters(
    devices_min=12,
    devices_max=64,
    dropout_fraction_max=0.3,
    corrupt_fraction_max=0.1,
    security_bits=20,
    correctness_bits=10,
)
HEADER = MaskedUpdateHeader(
    session=SESSION,
    index=0,
    run_id="run-1",
    round_number=3,
    task=Task.TRAIN,
    spec_digest="a" * 64,
    base_digest="b" * 64,
    length=LENGTH,
    bits=BITS,
    releases=(UserDpParameters(clipping_norm=1, noise_multiplier=2).release(LENGTH),),
)
MODEL = {"w": np.zeros(LENGTH, np.float32)}
STAGES = list(Stage)


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.beats = 0.0, 0

    def beat(self) -> None:
        self.beats += 1

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-3)

    def patience(self) -> Patience:
        return Patience(10.0, 1.0, beat=self.beat, clock=lambda: self.now, sleep=self.sleep)


class Ledger:
    """Remembers what it was asked, and when: before or after masks were asked for."""

    def __init__(self, grid: FakeSecAggGrid, *, barred: Collection[bytes] = (), late: Collection[bytes] = ()) -> None:
        self.grid, self._barred, self._late = grid, set(barred), set(late)
        self.charged: list[bytes] = []
        self.stages_before: set[str] = set()

    def barred(self, identities: Sequence[bytes]) -> Mapping[bytes, str]:
        return dict.fromkeys(self._barred & set(identities), "ReleasesExhausted")

    def charge(self, identities: Sequence[bytes]) -> Collection[bytes]:
        self.stages_before = {message.metadata.message_type for message in self.grid.sent}
        self.charged = [identity for identity in identities if identity not in self._late]
        return self._late & set(identities)


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    yield
    TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before


class World:
    """Twenty devices on five nodes, each with a vector of its own."""

    def __init__(self, devices: int = DEVICES, per_node: int = 4) -> None:
        rng = np.random.default_rng(5)
        self.vectors = [rng.integers(-1000, 1000, LENGTH) for _ in range(devices)]
        self.authority = SigningKey.generate()
        self.nodes = enrol(self.authority, self.vectors, per_node)
        self.terms = SessionTerms(SESSION, LENGTH, BITS, COHORT, authorities(self.authority), 0.0)
        self.grid = FakeSecAggGrid(self.nodes, self.terms, HEADER)
        self.clock, self.tally, self.ledger = Clock(), SecureTally(), Ledger(self.grid)
        self.withdrawn: dict[Stage, bytes] = {}  # from which stage on somebody has no consent any more

    def refused(self, identities: Sequence[bytes]) -> set[bytes]:
        """Whoever has withdrawn before or in the stage that was asked for last."""
        sent = {Stage(message.metadata.message_type.removeprefix("train.")) for message in self.grid.sent}
        return {identity for stage, identity in self.withdrawn.items() if stage in sent} & set(identities)

    def session(self, limit: int = 1 << 20) -> Session:
        return Session(
            terms=self.terms,
            invitation="signed",
            model=MODEL,
            header=HEADER,
            group="3",
            devices_per_node_max=50,
            limit=lambda _roster: limit,
            draw=lambda offered, wanted: offered[:wanted],
            refused=self.refused,
        )

    def run(self, limit: int = 1 << 20) -> UnmaskedSum:
        return aggregate(
            self.grid,
            list(self.nodes),
            self.session(limit),
            charging=self.ledger,
            patience=self.clock.patience(),
            tally=self.tally,
        )

    def exact(self, total: UnmaskedSum) -> Ints:
        by_name = {one.name: one.vector for node in self.nodes.values() for one in node.devices}
        return np.sum([by_name[identity] for identity in total.identities], axis=0)


@pytest.fixture
def world() -> World:
    return World()


def test_everybody_answers(world: World) -> None:
    total = world.run()
    assert total.vector.tolist() == np.sum(world.vectors, axis=0).tolist()
    assert (world.tally.roster, world.tally.charged, world.tally.survivors, world.tally.nodes) == (20, 20, 20, 5)
    assert not world.tally.refused
    assert world.clock.now == 0  # nobody waited for
    types = [message.metadata.message_type for message in world.grid.sent]
    assert types == [f"train.{stage.value}" for stage in STAGES for _ in world.nodes]
    assert all(
        ("arrays" in message.content) == message.metadata.message_type.endswith("mask") for message in world.grid.sent
    )


def test_the_charge_comes_before_the_masks(world: World) -> None:
    world.run()
    assert world.ledger.stages_before == {"train.advertise", "train.share"}
    assert len(world.ledger.charged) == 20


@pytest.mark.parametrize("stage", STAGES)
def test_a_node_that_dies_in_a_stage_costs_the_others_nothing(world: World, stage: Stage) -> None:
    world.grid.dies[stage] = {11}
    total = world.run()
    assert total.vector.tolist() == world.exact(total).tolist()
    gone = 4 if STAGES.index(stage) <= STAGES.index(Stage.MASK) else 0  # masked before it died: still in the sum
    assert len(total.survivors) == 20 - gone
    assert world.tally.declined[f"{stage.value}/Unavailable"] == 1


@pytest.mark.parametrize("stage", STAGES[1:])
def test_too_many_dead_end_the_session_by_name_and_the_charge_stays(world: World, stage: Stage) -> None:
    # 8 of 20 are more than 30 %; to take the masks off, fewer devices are enough
    world.grid.dies[stage] = {11, 12, 13, 14} if stage is Stage.REVEAL else {11, 12}
    with pytest.raises(TooFewSurvivors):
        world.run()
    assert world.tally.survivors == 0
    asked_for_masks = STAGES.index(stage) > STAGES.index(Stage.SHARE)
    assert bool(world.ledger.charged) == asked_for_masks


def test_too_small_a_cohort_is_never_charged() -> None:
    small = World(devices=8)
    with pytest.raises(TooFewSurvivors, match="8 devices of 12 needed"):
        small.run()
    assert not small.ledger.charged


def test_more_devices_than_the_cohort_may_hold_are_drawn_from() -> None:
    big = World(devices=72)
    total = big.run()
    assert len(total.survivors) == big.tally.roster == 64
    assert total.vector.tolist() == big.exact(total).tolist()


def test_barred_devices_never_get_onto_the_roster(world: World) -> None:
    names = [one.name for one in world.nodes[10].devices[:2]]
    world.ledger = Ledger(world.grid, barred=names)
    total = world.run()
    assert world.tally.roster == 18
    assert not set(names) & set(total.identities)
    assert world.tally.refused["advertise/ReleasesExhausted"] == 2
    assert total.vector.tolist() == world.exact(total).tolist()


def test_a_device_barred_at_the_last_moment_is_a_dropout(world: World) -> None:
    names = [world.nodes[10].devices[0].name]
    world.ledger = Ledger(world.grid, late=names)
    total = world.run()
    assert (world.tally.roster, world.tally.charged, len(total.survivors)) == (20, 19, 19)
    assert total.vector.tolist() == world.exact(total).tolist()


@pytest.mark.parametrize("stage", [Stage.ADVERTISE, Stage.SHARE, Stage.MASK])
def test_whose_consent_ends_in_a_stage_is_not_in_the_sum(world: World, stage: Stage) -> None:
    """Asked at the start, before anybody is charged, and before each update is accepted; the others lose nothing."""
    gone = world.nodes[10].devices[1].name
    world.withdrawn = {stage: gone}
    total = world.run()
    assert gone not in total.identities
    assert len(total.identities) == DEVICES - 1
    assert world.tally.refused == {f"{stage.value}/ConsentRefused": 1}
    assert (gone in world.ledger.charged) is (stage is Stage.MASK)
    np.testing.assert_array_equal(total.vector, world.exact(total))


def test_whose_consent_ends_after_the_update_was_accepted_is_in_the_sum(world: World) -> None:
    """Control: it is the moment of acceptance that counts."""
    world.withdrawn = {Stage.CONFIRM: world.nodes[10].devices[1].name}
    assert len(world.run().identities) == DEVICES


def test_one_identity_on_two_nodes_counts_once(world: World) -> None:
    twin = world.nodes[10].devices[0]
    world.nodes[14].devices[0] = type(twin)(world.vectors[0], twin.identity, twin.certificate)
    total = world.run()
    assert world.tally.refused["advertise/Replayed"] == 1
    assert len(total.survivors) <= 19


def test_a_sum_beyond_its_limit_is_refused(world: World) -> None:
    with pytest.raises(SumOutOfRange):
        world.run(limit=5)


# ── answers that are not what was agreed ─────────────────────────────────────────────────────────────────────────────


def silent(_message: Message, _bodies: list[bytes], _rows: list[np.ndarray]) -> None:
    return None


def failing(message: Message, _bodies: list[bytes], _rows: list[np.ndarray]) -> Message:
    return Message(Error(2, "searched for the-secret"), reply_to=message)


def garbage(message: Message, _bodies: list[bytes], _rows: list[np.ndarray]) -> Message:
    return Message(RecordDict({"secagg": ConfigRecord({"bodies": [b"\x01{"] * 4})}), reply_to=message)


def foreign_records(message: Message, _bodies: list[bytes], _rows: list[np.ndarray]) -> Message:
    return Message(RecordDict({"loss": ConfigRecord({"loss": 0.5})}), reply_to=message)


def floats(message: Message, bodies: list[bytes], _rows: list[np.ndarray]) -> Message:
    payload = ArrayRecord({"masked": Array(np.full((len(bodies), LENGTH * 3), np.nan))})
    return Message(RecordDict({"secagg": ConfigRecord({"bodies": bodies}), "payload": payload}), reply_to=message)


def short_rows(message: Message, bodies: list[bytes], rows: list[np.ndarray]) -> Message:
    return reply_of(message, bodies, [row[:-1] for row in rows])


def one_row_missing(message: Message, bodies: list[bytes], rows: list[np.ndarray]) -> Message:
    return reply_of(message, bodies, rows[:-1])


def boasting(message: Message, bodies: list[bytes], rows: list[np.ndarray]) -> Message:
    use = HEADER.releases[0].model_copy(update={"noise_multiplier": 99.0})
    changed = [encode(decode(body, MaskedUpdateHeader).model_copy(update={"releases": (use,)})) for body in bodies]
    return reply_of(message, changed, rows)


@pytest.mark.parametrize("spoil", [silent, failing, garbage, foreign_records])
@pytest.mark.parametrize("stage", STAGES)
def test_a_node_that_answers_badly_is_counted_and_the_sum_of_the_others_is_exact(
    world: World, stage: Stage, spoil: object
) -> None:
    world.nodes[12].spoil[stage] = spoil  # type: ignore[assignment]
    total = world.run()
    assert total.vector.tolist() == world.exact(total).tolist()
    assert sum(world.tally.refused.values()) + sum(world.tally.declined.values()) >= 1
    assert all("secret" not in name for name in [*world.tally.refused, *world.tally.declined])


@pytest.mark.parametrize("spoil", [floats, short_rows, one_row_missing, boasting])
def test_a_masked_vector_of_another_form_is_refused(world: World, spoil: object) -> None:
    world.nodes[12].spoil[Stage.MASK] = spoil  # type: ignore[assignment]
    total = world.run()
    assert len(total.survivors) == 16
    assert total.vector.tolist() == world.exact(total).tolist()
    assert world.tally.refused


def test_a_node_cannot_answer_for_another_nodes_device(world: World) -> None:
    others: list[bytes] = []

    def remember(message: Message, bodies: list[bytes], _rows: list[np.ndarray]) -> Message:
        others.extend(bodies)
        return reply_of(message, bodies, None)

    def repeat(message: Message, bodies: list[bytes], _rows: list[np.ndarray]) -> Message:
        return reply_of(message, [*bodies, *others], None)

    world.nodes[10].spoil[Stage.REVEAL] = remember
    world.nodes[11].spoil[Stage.REVEAL] = repeat
    total = world.run()
    assert world.tally.refused["reveal/ProtocolViolation"] == 4
    assert total.vector.tolist() == world.exact(total).tolist()


def test_replies_twice_and_unasked(world: World) -> None:
    def twice(message: Message, bodies: list[bytes], _rows: list[np.ndarray]) -> Message:
        stranger = reply_of(message, bodies, None)
        stranger.metadata.__dict__["_reply_to_message_id"] = "nobody asked"
        world.grid.replies += [reply_of(message, bodies, None), stranger]
        return reply_of(message, bodies, None)

    world.nodes[10].spoil[Stage.CONFIRM] = twice
    total = world.run()
    assert world.tally.refused == {"confirm/DuplicateReply": 1, "confirm/ForeignRun": 1}
    assert len(total.survivors) == 20


def test_a_message_of_another_stage_is_no_answer(world: World) -> None:
    adverts: list[bytes] = []

    def remember(message: Message, bodies: list[bytes], _rows: list[np.ndarray]) -> Message:
        adverts.extend(bodies)
        return reply_of(message, bodies, None)

    world.nodes[10].spoil[Stage.ADVERTISE] = remember
    world.nodes[10].spoil[Stage.REVEAL] = lambda message, _bodies, _rows: reply_of(message, adverts, None)
    total = world.run()
    assert world.tally.refused["reveal/MalformedInput"] == 4
    assert total.vector.tolist() == world.exact(total).tolist()


def test_a_node_speaks_for_no_more_devices_than_it_may(world: World) -> None:
    def crowd(message: Message, bodies: list[bytes], _rows: list[np.ndarray]) -> Message:
        return reply_of(message, bodies * 20, None)

    world.nodes[10].spoil[Stage.ADVERTISE] = crowd
    total = world.run()
    assert world.tally.refused["advertise/OutOfRange"] == 1
    assert len(total.survivors) == 16


def test_a_uncertified_device_is_not_on_the_roster(world: World) -> None:
    world.nodes[10] = enrol(SigningKey.generate(), world.vectors[:4], 4)[10]
    world.nodes[10].answer = _answer_without_certificate(world.nodes[10], world)  # type: ignore[method-assign]
    total = world.run()
    assert world.tally.refused["advertise/UnknownSigner"] == 4
    assert len(total.survivors) == 16


def _answer_without_certificate(node: FakeNode, world: World):
    from common.secagg import device
    from common.secagg.certificate import issue_certificate

    def answer(message: Message, terms: SessionTerms, _header: object) -> Message:
        if not message.metadata.message_type.endswith("advertise"):
            return Message(Error(2, "NothingToSend"), reply_to=message)
        adverts = []
        mine = SessionTerms(SESSION, LENGTH, BITS, COHORT, (), 0.0)
        for one in node.devices:
            forged = SessionTerms(SESSION, LENGTH, BITS, COHORT, tuple(authorities(FORGER)), mine.now)
            one.certificate = issue_certificate(FORGER, one.name, 2.0**40)
            _, advert = device.begin(forged, one.identity, one.certificate, bytes_of)
            adverts.append(encode(advert))
        return reply_of(message, adverts, None)

    return answer


FORGER = SigningKey.generate()


def bytes_of(count: int) -> bytes:
    return np.random.default_rng().bytes(count)


def test_the_control_messages_decode_as_what_they_are(world: World) -> None:
    world.run()
    assert decode(encode(HEADER), MaskedUpdateHeader) == HEADER
    for kind in (SecAggAdvert, SecAggReveal):
        with pytest.raises(Exception, match=kind.__name__):
            decode(encode(HEADER), kind)
