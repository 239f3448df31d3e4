"""Reads and writes of changes, placement versions and experiments. Owns their queries; hands out plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlmodel import Session, col, desc, func, select

from common.taxonomy import ChangeKind, ChangeState
from server.approvals import Approvals, Proposal, Refusals, shared
from server.experiments.tables import ChangeProposal, ExperimentRun, PlacementVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Proposal):
    """A change that was proposed; see ``ChangeProposal``."""

    kind: ChangeKind
    body: str
    evidence: str
    state: ChangeState


@dataclass(frozen=True, slots=True)
class StoredPlacement:
    """A placement policy that was put in force; see ``PlacementVersion``."""

    version: int
    digest: str
    text: str
    jws: str
    proposal: int | None
    put_by: str
    put_at: int


@dataclass(frozen=True, slots=True)
class StoredExperiment:
    """An experiment that was approved; see ``ExperimentRun``."""

    experiment_id: str
    digest: str
    jws: str
    starts_at: int
    ends_at: int
    stopped_at: int | None = None
    stopped_by: str | None = None

    @property
    def over_at(self) -> int:
        """When it ends, or ended."""
        return self.ends_at if self.stopped_at is None else min(self.ends_at, self.stopped_at)


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _change(row: ChangeProposal) -> Change:
    kind, state = ChangeKind(row.kind), ChangeState(row.state)
    return Change(**shared(row), kind=kind, body=row.body, evidence=row.evidence, state=state)


CHANGES: Final = Approvals(
    ChangeProposal,
    _change,
    Refusals(
        unknown="no such proposal",
        decided="this proposal is no longer waiting for a decision",
        own="who proposed this cannot approve it; a second person has to",
        nobody="this key has no holder: changes are made by people",
    ),
)


# ── placement policies ───────────────────────────────────────────────────────────────────────────────────────────────


def placement_version(session: Session) -> int:
    """The number in force; 0: the installation's own file."""
    return session.exec(select(func.max(PlacementVersion.version))).one() or 0


def placement(session: Session, version: int) -> StoredPlacement | None:
    """One of them."""
    row = session.get(PlacementVersion, version)
    return None if row is None else _placement(row)


def placements(session: Session, *, before: int | None, limit: int) -> list[StoredPlacement]:
    """A page, newest first."""
    query = select(PlacementVersion).order_by(desc(col(PlacementVersion.version))).limit(limit)
    if before is not None:
        query = query.where(col(PlacementVersion.version) < before)
    return [_placement(row) for row in session.exec(query)]


def add_placement(session: Session, wanted: StoredPlacement) -> None:
    """Put one in force."""
    session.add(PlacementVersion(**_fields(wanted)))
    session.flush()


# ── experiments ──────────────────────────────────────────────────────────────────────────────────────────────────────


def add_experiment(session: Session, wanted: StoredExperiment) -> None:
    """Write a new one."""
    session.add(ExperimentRun(**_fields(wanted)))
    session.flush()


def experiment(session: Session, experiment_id: str) -> StoredExperiment | None:
    """One of them."""
    row = session.get(ExperimentRun, experiment_id)
    return None if row is None else _experiment(row)


def unfinished(session: Session, now: int) -> StoredExperiment | None:
    """The one that runs or will run; there is never more than one."""
    query = (
        select(ExperimentRun)
        .where(col(ExperimentRun.stopped_at).is_(None), col(ExperimentRun.ends_at) > now)
        .order_by(col(ExperimentRun.starts_at))
    )
    row = session.exec(query).first()
    return None if row is None else _experiment(row)


def ran_between(session: Session, since: int, until: int) -> StoredExperiment | None:
    """The one that ran at some moment from ``since`` to before ``until``; the last, where one followed another."""
    query = select(ExperimentRun).where(col(ExperimentRun.starts_at) < until, col(ExperimentRun.ends_at) > since)
    found = [_experiment(row) for row in session.exec(query.order_by(desc(col(ExperimentRun.starts_at))))]
    return next((one for one in found if one.over_at > since), None)


def stop(session: Session, experiment_id: str, *, by: str, now: int) -> None:
    """End one before its time."""
    row = session.get_one(ExperimentRun, experiment_id)
    row.stopped_at, row.stopped_by = now, by
    session.add(row)
    session.flush()


def _fields(value: StoredPlacement | StoredExperiment) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _placement(row: PlacementVersion) -> StoredPlacement:
    return StoredPlacement(row.version, row.digest, row.text, row.jws, row.proposal, row.put_by, row.put_at)


def _experiment(row: ExperimentRun) -> StoredExperiment:
    return StoredExperiment(
        row.experiment_id, row.digest, row.jws, row.starts_at, row.ends_at, row.stopped_at, row.stopped_by
    )
