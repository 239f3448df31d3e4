"""The checkpoint of a training. Owns what survives a kill: model, optimiser, round and history, in one transaction.

One writer at a time holds a run's lease: a holder's name, an epoch and a heartbeat. A dead run loses it when its
heartbeat stops; a commit under an older epoch is refused, so a writer that was only slow can never overwrite.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from sqlalchemy import CursorResult, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import col, desc, select

from common.errors import CheckpointConflict
from common.model import arrays
from common.taxonomy import Task
from server.rounds.optimiser import OptimiserState
from server.rounds.tables import TrainingRound, TrainingRun
from server.storage import Database

RUNNING, ABORTED, FINISHED = "running", "aborted", "finished"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a training stands.

    Attributes:
        rounds_done: rounds committed.
        model: global arrays after them.
        optimiser: server optimiser state after them.
        clipping_norm: C of the next round's update.
        tasks: paid tasks done after the last round.
        figures: what they found.
    """

    rounds_done: int
    model: arrays.Arrays
    optimiser: OptimiserState
    clipping_norm: float = 0.0
    tasks: tuple[Task, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What one round did, for the history (see ``TrainingRound``)."""

    contributions: int
    nodes: int
    invited: int
    refused: Mapping[str, int]
    declined: Mapping[str, int]
    epsilon: float
    delta: float
    roster: int = 0
    clipping_norm: float = 0.0
    noise_stddev: float = 0.0


@dataclass(slots=True)
class Lease:
    """The right to write one run, until somebody claims a later epoch."""

    run_id: str
    epoch: int
    beaten_at: float


class CheckpointStore:
    """Checkpoints in the server's database.

    Args of the constructor:
        database: the server's.
        holder: a name for this process, unique among live ones.
        lease_s: silence after which a holder counts as dead.
        clock, sleep: for tests.
    """

    def __init__(
        self,
        database: Database,
        *,
        holder: str,
        lease_s: float = 20.0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database, self._holder, self._lease_s, self._clock, self._sleep = database, holder, lease_s, clock, sleep

    def unfinished(self, config_digest: str) -> str | None:
        """The latest run of this configuration that can be continued."""
        query = select(TrainingRun.run_id).where(
            TrainingRun.config_digest == config_digest, TrainingRun.status != FINISHED
        )
        with self._database.read() as session:
            return session.exec(query.order_by(desc(TrainingRun.created_at))).first()

    def claim(self, run_id: str, config_digest: str, fresh: Callable[[], Checkpoint]) -> tuple[Lease, Checkpoint]:
        """Take the lease of a run and read its checkpoint; a new run starts from ``fresh()``.

        Waits at most one lease for the previous holder to be dead.

        Raises:
            CheckpointConflict: another writer is alive, or the run belongs to another configuration, or has finished.
        """
        with self._database.read() as session:
            row = session.get(TrainingRun, run_id)
        if row is None:
            return self._create(run_id, config_digest, fresh())
        if row.config_digest != config_digest:
            raise CheckpointConflict(f"training {run_id} was started under another configuration; choose another name")
        if row.status == FINISHED:
            raise CheckpointConflict(f"training {run_id} has finished already; choose another name")
        self._wait_until_dead(row)
        now = self._clock()
        self._write(
            run_id,
            row.epoch,
            {"epoch": row.epoch + 1, "holder": self._holder, "heartbeat_at": now, "status": RUNNING, "outcome": ""},
            TrainingRun.heartbeat_at == row.heartbeat_at,
        )
        return Lease(run_id, row.epoch + 1, now), _read(row)

    def _create(self, run_id: str, config_digest: str, start: Checkpoint) -> tuple[Lease, Checkpoint]:
        now = self._clock()
        row = TrainingRun(
            run_id=run_id,
            config_digest=config_digest,
            status=RUNNING,
            rounds_done=start.rounds_done,
            arrays=arrays.to_bytes(start.model),
            optimiser=_optimiser_bytes(start.optimiser),
            clipping_norm=start.clipping_norm,
            holder=self._holder,
            epoch=1,
            heartbeat_at=now,
            created_at=now,
        )
        try:
            with self._database.write() as session:
                session.add(row)
        except IntegrityError:
            raise CheckpointConflict(f"another process has just started training {run_id}") from None
        return Lease(run_id, 1, now), start

    def _wait_until_dead(self, row: TrainingRun) -> None:
        """Return once the holder seen in ``row`` cannot be alive; its own clock is trusted for nothing but change."""
        if not row.holder or self._clock() - row.heartbeat_at > self._lease_s:
            return
        until = self._clock() + self._lease_s
        while self._clock() < until:
            self._sleep(min(0.5, self._lease_s / 10))
            with self._database.read() as session:
                now = session.get(TrainingRun, row.run_id)
            if now is None or not now.holder:
                return
            if (now.epoch, now.heartbeat_at) != (row.epoch, row.heartbeat_at):
                raise CheckpointConflict(f"another process is writing training {row.run_id}")

    def beat(self, lease: Lease) -> None:
        """Show that the holder lives; cheap enough to call in a polling loop.

        Raises:
            CheckpointConflict: somebody else has claimed the run.
        """
        now = self._clock()
        if now - lease.beaten_at >= self._lease_s / 4:
            self._write(lease.run_id, lease.epoch, {"heartbeat_at": now})
            lease.beaten_at = now

    def commit(self, lease: Lease, checkpoint: Checkpoint, record: RoundRecord) -> None:
        """Store a round's checkpoint and its history line, both or neither.

        Raises:
            CheckpointConflict: the lease was lost, or this round is committed already.
        """
        now = self._clock()
        body = arrays.to_bytes(checkpoint.model)
        line = TrainingRound(
            run_id=lease.run_id,
            round_number=checkpoint.rounds_done,
            arrays=body,
            arrays_digest=arrays.digest(checkpoint.model),
            contributions=record.contributions,
            roster=record.roster,
            clipping_norm=record.clipping_norm,
            noise_stddev=record.noise_stddev,
            nodes=record.nodes,
            invited=record.invited,
            refused=json.dumps(dict(record.refused), sort_keys=True),
            declined=json.dumps(dict(record.declined), sort_keys=True),
            epsilon=record.epsilon,
            delta=record.delta,
            committed_at=now,
        )
        values = {
            "rounds_done": checkpoint.rounds_done,
            "arrays": body,
            "optimiser": _optimiser_bytes(checkpoint.optimiser),
            "clipping_norm": checkpoint.clipping_norm,
            "heartbeat_at": now,
        }
        self._write(lease.run_id, lease.epoch, values, TrainingRun.rounds_done == checkpoint.rounds_done - 1, also=line)
        lease.beaten_at = now

    def commit_task(self, lease: Lease, checkpoint: Checkpoint) -> None:
        """Store what a paid task after the last round changed and found.

        Raises:
            CheckpointConflict: the lease was lost, or the task is committed already.
        """
        values = {
            "arrays": arrays.to_bytes(checkpoint.model),
            "tasks": _tasks_text(checkpoint.tasks),
            "figures": json.dumps(dict(checkpoint.figures), sort_keys=True),
        }
        self._write(lease.run_id, lease.epoch, values, TrainingRun.tasks == _tasks_text(checkpoint.tasks[:-1]))

    def abort(self, lease: Lease, outcome: str) -> None:
        """Give the lease back after a failed round; the checkpoint stays and can be continued."""
        self._write(lease.run_id, lease.epoch, {"status": ABORTED, "outcome": outcome, "holder": ""})

    def finish(self, lease: Lease, model_version: int | None) -> None:
        """Mark the run as finished and registered (a measurement registers nothing)."""
        self._write(lease.run_id, lease.epoch, {"status": FINISHED, "holder": "", "model_version": model_version})

    def history(self, run_id: str) -> list[TrainingRound]:
        """Committed rounds in order (detached rows)."""
        query = select(TrainingRound).where(TrainingRound.run_id == run_id).order_by(col(TrainingRound.round_number))
        with self._database.read() as session:
            rows = list(session.exec(query))
            session.expunge_all()
            return rows

    def _write(
        self,
        run_id: str,
        epoch: int,
        values: Mapping[str, object],
        *conditions: ColumnElement[bool] | bool,
        also: TrainingRound | None = None,
    ) -> None:
        """One transaction that happens under ``epoch`` and ``conditions``, or not at all."""
        query = update(TrainingRun).where(
            col(TrainingRun.run_id) == run_id, col(TrainingRun.epoch) == epoch, *cast("tuple[Any, ...]", conditions)
        )
        with self._database.write() as session:
            done = session.execute(query.values(**values))
            if cast("CursorResult[Any]", done).rowcount != 1:
                raise CheckpointConflict(f"the checkpoint of training {run_id} is no longer held by this process")
            if also is not None:
                session.add(also)


def _optimiser_bytes(state: OptimiserState) -> bytes:
    return bytes(save_safetensors({"first": state.first, "second": state.second}))


def _read(row: TrainingRun) -> Checkpoint:
    state = load_safetensors(row.optimiser)
    model = cast("arrays.Arrays", arrays.from_bytes(row.arrays))
    return Checkpoint(
        row.rounds_done,
        model,
        OptimiserState(state["first"], state["second"]),
        row.clipping_norm,
        tuple(Task(task) for task in json.loads(row.tasks)),
        json.loads(row.figures),
    )


def _tasks_text(tasks: Sequence[Task]) -> str:
    return json.dumps([task.value for task in tasks])
