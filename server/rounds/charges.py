"""Sessions that devices were charged for. Owns their rows: written before the release, so a crash over-counts.

A retry of a round is a new session and a new charge. What a model cost is told from here, never from the rounds that
happened to be committed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlmodel import col, select

from common.privacy.parameters import MechanismUse
from common.taxonomy import ReleaseKind, Task
from policies.budget import PlannedRelease
from server.rounds.tables import TrainingRelease
from server.storage import Database

CHARGED, RELEASED = "charged", "released"


@dataclass(frozen=True, slots=True)
class Charge:
    """One session.

    Attributes:
        releases: what each device in it was charged.
        clipping_norm: C of the update in it.
        charged: how many devices were.
        survivors: devices in the sum; 0 if there was none.
        outcome: ``charged`` (running, or lost in a crash), ``released``, or the name of the error that ended it.
    """

    session: str
    task: Task
    round_number: int
    releases: tuple[PlannedRelease, ...]
    clipping_norm: float
    charged: int
    survivors: int
    outcome: str


class ChargeBook:
    """Charged sessions of one training.

    Args of the constructor:
        database: the server's.
        run_id: whose.
        clock: for tests.
    """

    def __init__(self, database: Database, run_id: str, clock: Callable[[], float] = time.time) -> None:
        self._database, self._run_id, self._clock = database, run_id, clock

    def open(self, charge: Charge) -> None:
        """Write a session down before anybody releases anything in it."""
        row = TrainingRelease(
            session=charge.session,
            run_id=self._run_id,
            task=charge.task.value,
            round_number=charge.round_number,
            releases=json.dumps([[r.kind.value, r.use.model_dump(mode="json")] for r in charge.releases]),
            clipping_norm=charge.clipping_norm,
            charged=charge.charged,
            survivors=charge.survivors,
            outcome=charge.outcome,
            charged_at=self._clock(),
        )
        with self._database.write() as session:
            session.add(row)

    def close(self, session_id: str, outcome: str, survivors: int = 0) -> None:
        """Say how a session ended, if it was charged for at all."""
        with self._database.write() as session:
            row = session.get(TrainingRelease, session_id)
            if row is not None:
                row.outcome, row.survivors = outcome, survivors
                session.add(row)

    def all(self, task: Task | None = None) -> list[Charge]:
        """Every charged session of the training, oldest first."""
        query = select(TrainingRelease).where(TrainingRelease.run_id == self._run_id)
        if task is not None:
            query = query.where(TrainingRelease.task == task.value)
        with self._database.read() as session:
            return [_plain(row) for row in session.exec(query.order_by(col(TrainingRelease.charged_at)))]


def planned_of(charges: Sequence[Charge]) -> list[PlannedRelease]:
    """All releases of some sessions."""
    return [release for charge in charges for release in charge.releases]


def _plain(row: TrainingRelease) -> Charge:
    releases = tuple(
        PlannedRelease(ReleaseKind(kind), MechanismUse.model_validate(use)) for kind, use in json.loads(row.releases)
    )
    return Charge(
        session=row.session,
        task=Task(row.task),
        round_number=row.round_number,
        releases=releases,
        clipping_norm=row.clipping_norm,
        charged=row.charged,
        survivors=row.survivors,
        outcome=row.outcome,
    )
