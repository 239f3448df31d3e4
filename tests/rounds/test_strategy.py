"""Rounds over a grid that loses, repeats, delays and garbles: none of it costs the honest nodes their round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from common.errors import TooFewSurvivors
from common.privacy.parameters import RecordDpParameters
from common.taxonomy import Decline, Masking, Profile
from common.wire.codec import encode
from common.wire.messages import TrainingContribution
from server.rounds.aggregation import Expected, ReplyFault, Tally
from server.rounds.strategy import Patience, closed_name, run_round, sample_nodes

PARAMETERS = RecordDpParameters(
    clipping_norm=1, noise_multiplier=2, sampling_rate=1, local_steps=1, expected_batch_size=8, learning_rate=0.1
)
EXPECTED = Expected(
    run_id="run-1",
    round_number=1,
    spec_digest="a" * 64,
    base_digest="b" * 64,
    length=3,
    release=PARAMETERS.release(Profile.RECORD_LOCAL),
    masking=Masking.NONE,
    contributions_max=10,
)
MODEL = {"w": np.zeros(3, np.float32)}
Answer = Callable[[Message], Message | None]


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.beats = 0.0, 0

    def beat(self) -> None:
        self.beats += 1

    def patience(self, deadline_s: float = 10.0, wait_s: float = 10.0) -> Patience:
        return Patience(deadline_s, wait_s, beat=self.beat, clock=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += max(seconds, 1e-6)


class FakeGrid(Grid):
    """Answers by a function per node; ``pull`` hands over whatever has been queued."""

    def __init__(self, answers: dict[int, Answer]) -> None:
        self.answers, self.queue, self.pushed = answers, list[Message](), list[Message]()

    set_run = create_message = send_and_receive = None  # type: ignore[assignment]
    run = None  # type: ignore[assignment]

    def get_node_ids(self) -> Iterable[int]:
        return list(self.answers)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        for number, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = f"m{number}"
            self.pushed.append(message)
            reply = self.answers[message.metadata.dst_node_id](message)
            if reply is not None:
                self.queue.append(reply)
        return [message.metadata.message_id for message in self.pushed]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found, self.queue = self.queue, []
        return found


FakeGrid.__abstractmethods__ = frozenset()  # the rest of Flower's interface is not used by our strategy


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    yield
    TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before


def content(vector: np.ndarray | None = None, **changes: object) -> RecordDict:
    values: dict[str, object] = {
        "run_id": "run-1",
        "round_number": 1,
        "spec_digest": "a" * 64,
        "base_digest": "b" * 64,
        "length": 3,
        "contributions": 1,
        "release": EXPECTED.release,
        "masking": Masking.NONE,
    }
    body = encode(TrainingContribution.model_validate(values | changes))
    update = np.array([1, 2, 3], np.int64) if vector is None else vector
    return RecordDict({"update": ArrayRecord({"update": Array(update)}), "contribution": ConfigRecord({"body": body})})


def good(message: Message) -> Message:
    return Message(content(), reply_to=message)


def silent(_message: Message) -> None:
    return None


def failing(reason: str | None) -> Answer:
    return lambda message: Message(Error(2, reason), reply_to=message)


def run(grid: Grid, clock: Clock | None = None) -> Tally:
    clock = clock or Clock()
    return run_round(
        grid,
        list(grid.get_node_ids()),
        invitation="signed",
        model=MODEL,
        expected=EXPECTED,
        patience=clock.patience(),
    )


def test_everybody_answers() -> None:
    grid, clock = FakeGrid({10: good, 11: good}), Clock()
    tally = run(grid, clock)
    assert (tally.contributions, tally.total.tolist()) == (2, [2, 4, 6])
    assert clock.now == 0  # nobody waited for
    sent = grid.pushed[0]
    assert (sent.metadata.message_type, sent.metadata.ttl, sent.metadata.group_id) == ("train", 10.0, "1")
    assert sent.content["invitation"]["jws"] == "signed"


def test_stragglers_and_errors_do_not_cost_the_others_their_round() -> None:
    clock = Clock()
    grid = FakeGrid({10: good, 11: silent, 12: failing("NothingToSend"), 13: failing("user searched for x")})
    tally = run(grid, clock)
    assert tally.total.tolist() == [1, 2, 3]
    assert tally.declined == {"NothingToSend": 1, "Unavailable": 2}
    assert clock.now == pytest.approx(10.0)  # to the deadline and no further
    assert clock.beats > 5  # the lease was kept meanwhile


def test_error_text_of_a_node_is_dropped_unread() -> None:
    assert closed_name("ValueError: canary") == "Unavailable"
    assert closed_name(None) == "Unavailable"
    assert all(closed_name(name.value) == name.value for name in Decline)


def test_an_error_of_the_link_is_matched_by_the_message_it_answers() -> None:
    def link(message: Message) -> Message:
        reply = Message(Error(5, "Node Unavailable"), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = 1
        return reply

    tally = run(FakeGrid({10: link, 11: good}))
    assert (tally.declined, tally.contributions) == ({"Unavailable": 1}, 1)


def test_duplicates_and_foreigners() -> None:
    grid = FakeGrid({10: good, 11: silent})

    def twice(message: Message) -> Message:
        stranger = Message(content(), reply_to=message)
        stranger.metadata.__dict__["_reply_to_message_id"] = "nobody asked"
        grid.queue += [Message(content(), reply_to=message), stranger]
        return Message(content(), reply_to=message)

    grid.answers[10] = twice
    tally = run(grid)
    assert tally.total.tolist() == [1, 2, 3]
    assert tally.refused == {ReplyFault.DUPLICATE: 1, ReplyFault.FOREIGN_RUN: 1}


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (RecordDict(), ReplyFault.MALFORMED),
        (RecordDict({"update": ArrayRecord(), "contribution": ConfigRecord({"body": "text"})}), ReplyFault.MALFORMED),
        (RecordDict({"update": MetricRecord({"n": 1}), "contribution": ConfigRecord()}), ReplyFault.MALFORMED),
        (
            RecordDict({"update": ArrayRecord(), "contribution": ConfigRecord({"body": b"", "n": 3})}),
            ReplyFault.MALFORMED,
        ),
        (RecordDict({**content(), "metrics": MetricRecord({"loss": 0.5})}), ReplyFault.MALFORMED),
        (content(np.array([1.0, 2.0, np.nan])), ReplyFault.DTYPE),
        (content(np.zeros(4, np.int64)), ReplyFault.SHAPE),
        (content(run_id="another"), ReplyFault.FOREIGN_RUN),
        (content(round_number=2), ReplyFault.WRONG_ROUND),
    ],
)
def test_a_garbled_reply_is_refused_by_name_and_the_others_stand(reply: RecordDict, fault: ReplyFault) -> None:
    tally = run(FakeGrid({10: lambda message: Message(reply, reply_to=message), 11: good}))
    assert (tally.refused, tally.total.tolist()) == ({fault: 1}, [1, 2, 3])


def test_bytes_that_are_no_array_are_refused() -> None:
    record = content()
    record["update"] = ArrayRecord({"update": Array("int64", (3,), "numpy.ndarray", b"\x93NUMPY garbage")})
    tally = run(FakeGrid({10: lambda message: Message(record, reply_to=message), 11: good}))
    assert (tally.refused, tally.contributions) == ({ReplyFault.MALFORMED: 1}, 1)


def test_sampling_never_waits_for_ever() -> None:
    clock = Clock()
    with pytest.raises(TooFewSurvivors, match="1 nodes are connected, at least 2"):
        sample_nodes(FakeGrid({10: good}), nodes_min=2, nodes_wanted=0, seed=(0, 1), patience=clock.patience(wait_s=30))
    assert 30 <= clock.now <= 31
    assert clock.beats > 10


def test_sampling_draws_the_same_nodes_again_after_a_restart() -> None:
    grid = FakeGrid(dict.fromkeys(range(100, 120), good))

    def draw(number: int) -> list[int]:
        return sample_nodes(grid, nodes_min=1, nodes_wanted=5, seed=(0, number), patience=Clock().patience())

    assert draw(1) == draw(1)
    assert len(set(draw(1))) == 5
    assert draw(1) != draw(2)
    everybody = sample_nodes(grid, nodes_min=1, nodes_wanted=0, seed=(0, 1), patience=Clock().patience())
    assert everybody == list(range(100, 120))
