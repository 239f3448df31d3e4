"""The checkpoint is one transaction under one lease: a dead writer loses it, a slow one cannot overwrite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.exc import IntegrityError

from common.errors import CheckpointConflict
from server.rounds import checkpoint as module
from server.rounds.checkpoint import Checkpoint, CheckpointStore, RoundRecord
from server.rounds.optimiser import OptimiserState
from server.storage import Database, load_metadata, open_database

DIGEST = "d" * 64
RECORD = RoundRecord(
    contributions=3, nodes=2, invited=3, refused={"WrongRound": 1}, declined={"Unavailable": 1}, epsilon=0.5, delta=1e-5
)


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = open_database(f"sqlite:///{tmp_path / 'server.db'}")
    load_metadata().create_all(found.engine)
    yield found
    found.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def store(database: Database, clock: Clock, holder: str) -> CheckpointStore:
    return CheckpointStore(database, holder=holder, lease_s=20, clock=clock, sleep=clock.sleep)


def state(rounds: int) -> Checkpoint:
    value = float(rounds)
    model = {"w": np.full(4, value, np.float32), "b": np.array([value], np.float32)}
    return Checkpoint(rounds, model, OptimiserState(np.full(5, value), np.full(5, -value)))


def same(a: Checkpoint, b: Checkpoint) -> bool:
    return (
        a.rounds_done == b.rounds_done
        and all(np.array_equal(a.model[name], b.model[name]) for name in a.model)
        and np.array_equal(a.optimiser.first, b.optimiser.first)
        and np.array_equal(a.optimiser.second, b.optimiser.second)
    )


def test_commit_and_continue(database: Database, clock: Clock) -> None:
    first = store(database, clock, "one")
    lease, start = first.claim("run", DIGEST, lambda: state(0))
    assert same(start, state(0))
    first.commit(lease, state(1), RECORD)
    first.commit(lease, state(2), RECORD)
    clock.now += 21  # it was killed: no more heartbeats
    lease, found = store(database, clock, "two").claim("run", DIGEST, lambda: state(0))
    assert same(found, state(2))
    assert lease.epoch == 2
    rows = first.history("run")
    assert [(row.round_number, row.contributions, row.refused) for row in rows] == [
        (1, 3, '{"WrongRound": 1}'),
        (2, 3, '{"WrongRound": 1}'),
    ]


def test_a_restart_waits_for_a_dead_lease(database: Database, clock: Clock) -> None:
    store(database, clock, "one").claim("run", DIGEST, lambda: state(0))
    clock.now += 5  # the dead writer's heartbeat is young still
    before = clock.now
    lease, _ = store(database, clock, "two").claim("run", DIGEST, lambda: state(0))
    assert lease.epoch == 2
    assert 20 <= clock.now - before <= 23


def test_a_second_live_writer_is_refused(database: Database, clock: Clock) -> None:
    one = store(database, clock, "one")
    lease, _ = one.claim("run", DIGEST, lambda: state(0))

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        one.beat(lease)

    two = CheckpointStore(database, holder="two", lease_s=20, clock=clock, sleep=sleep)
    with pytest.raises(CheckpointConflict, match="another process is writing"):
        two.claim("run", DIGEST, lambda: state(0))
    one.commit(lease, state(1), RECORD)


def test_a_slow_writer_cannot_overwrite(database: Database, clock: Clock) -> None:
    one, two = store(database, clock, "one"), store(database, clock, "two")
    old, _ = one.claim("run", DIGEST, lambda: state(0))
    clock.now += 30  # suspended, then awake again
    new, _ = two.claim("run", DIGEST, lambda: state(0))
    two.commit(new, state(1), RECORD)
    for act in (
        lambda: one.commit(old, state(1), RECORD),
        lambda: one.beat(old),
        lambda: one.abort(old, "X"),
        lambda: one.finish(old, 1),
    ):
        with pytest.raises(CheckpointConflict, match="no longer held"):
            act()
    assert len(one.history("run")) == 1


def test_a_round_is_committed_once_and_in_order(database: Database, clock: Clock) -> None:
    one = store(database, clock, "one")
    lease, _ = one.claim("run", DIGEST, lambda: state(0))
    with pytest.raises(CheckpointConflict):
        one.commit(lease, state(2), RECORD)
    one.commit(lease, state(1), RECORD)
    with pytest.raises(CheckpointConflict):
        one.commit(lease, state(1), RECORD)
    assert [row.round_number for row in one.history("run")] == [1]


def test_model_and_history_are_one_transaction(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = store(database, clock, "one")
    lease, _ = one.claim("run", DIGEST, lambda: state(0))
    one.commit(lease, state(1), RECORD)
    real = module.TrainingRound
    monkeypatch.setattr(module, "TrainingRound", lambda **values: real(**values | {"round_number": 1}))
    with pytest.raises(IntegrityError):
        one.commit(lease, state(2), RECORD)
    clock.now += 30
    monkeypatch.undo()
    _, found = store(database, clock, "two").claim("run", DIGEST, lambda: state(0))
    assert same(found, state(1))


def test_aborted_can_be_continued_and_finished_cannot(database: Database, clock: Clock) -> None:
    one = store(database, clock, "one")
    lease, _ = one.claim("run", DIGEST, lambda: state(0))
    one.commit(lease, state(1), RECORD)
    one.abort(lease, "TooFewSurvivors")
    assert one.unfinished(DIGEST) == "run"
    before = clock.now
    lease, found = one.claim("run", DIGEST, lambda: state(0))
    assert clock.now == before  # given back: nobody to wait for
    assert same(found, state(1))
    one.finish(lease, 4)
    assert one.unfinished(DIGEST) is None
    with pytest.raises(CheckpointConflict, match="has finished"):
        one.claim("run", DIGEST, lambda: state(0))


def test_another_configuration_is_refused(database: Database, clock: Clock) -> None:
    one = store(database, clock, "one")
    one.claim("run", DIGEST, lambda: state(0))
    with pytest.raises(CheckpointConflict, match="another configuration"):
        one.claim("run", "e" * 64, lambda: state(0))
    assert one.unfinished("e" * 64) is None
