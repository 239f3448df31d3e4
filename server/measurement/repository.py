"""Reads and writes of measured days and of served follow-ups. Owns their queries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Select
from sqlalchemy import select as rows_of
from sqlmodel import Session, col, func, select

from common.measurement.layout import Cell, ContributionBounds
from common.privacy.parameters import PrivacyStatement
from common.taxonomy import Dimension, FollowUp, Metric
from common.wire.measurement import MeasurementPlan
from server.decisions.tables import DecidedPosition, FollowUpRow
from server.measurement.tables import MeasuredCell, MeasuredDay

DAY_S: Final = 86_400
_CREATIVE: Final = (col(DecidedPosition.catalogue_version), col(DecidedPosition.creative_id))
_FILLED: Final = tuple(column.is_not(None) for column in _CREATIVE)
_STATEMENTS: Final = TypeAdapter(tuple[PrivacyStatement, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDay:
    """One measured day; see ``MeasuredDay``."""

    day: int
    run_id: str
    devices: int
    plan: MeasurementPlan
    bounds: ContributionBounds
    bids: Mapping[str, int]
    statements: tuple[PrivacyStatement, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Served:
    """What one creative of one catalogue did where the service chose it.

    Attributes:
        decided: positions filled with it.
        confirmed: of them, by kind of follow-up.
    """

    catalogue_version: int
    creative_id: str
    decided: int
    confirmed: Mapping[FollowUp, int]


def insert(session: Session, found: StoredDay, *, now: int) -> None:
    """Store a release."""
    session.add(
        MeasuredDay(
            day=found.day,
            run_id=found.run_id,
            devices=found.devices,
            plan=found.plan.model_dump_json(),
            bounds=found.bounds.model_dump_json(),
            bids=json.dumps(dict(found.bids), sort_keys=True),
            statements=_STATEMENTS.dump_json(found.statements).decode(),
            released_at=now,
        )
    )
    session.flush()
    session.add_all(
        MeasuredCell(
            day=found.day,
            dimension=cell.dimension.value,
            label=cell.label,
            metric=cell.metric.value,
            value=cell.value,
            stddev=cell.stddev,
        )
        for cell in found.cells
    )


def days(
    session: Session, first: int, last: int, *, dimension: Dimension | None = None, label: str | None = None
) -> list[StoredDay]:
    """Measured days from ``first`` to ``last``, both included, oldest first; with the cells that were asked for."""
    query = select(MeasuredDay).where(MeasuredDay.day >= first, MeasuredDay.day <= last).order_by(col(MeasuredDay.day))
    return [_opened(session, row, dimension, label) for row in session.exec(query).all()]


def _opened(session: Session, row: MeasuredDay, dimension: Dimension | None, label: str | None) -> StoredDay:
    query = select(MeasuredCell).where(MeasuredCell.day == row.day)
    if dimension is not None:
        query = query.where(MeasuredCell.dimension == dimension.value)
    if label is not None:
        query = query.where(MeasuredCell.label == label)
    query = query.order_by(MeasuredCell.dimension, MeasuredCell.label, MeasuredCell.metric)
    cells = tuple(
        Cell(Dimension(cell.dimension), cell.label, Metric(cell.metric), cell.value, cell.stddev)
        for cell in session.exec(query).all()
    )
    return StoredDay(
        day=row.day,
        run_id=row.run_id,
        devices=row.devices,
        plan=MeasurementPlan.model_validate_json(row.plan),
        bounds=ContributionBounds.model_validate_json(row.bounds),
        bids=json.loads(row.bids),
        statements=_STATEMENTS.validate_json(row.statements),
        cells=cells,
    )


def served_clicks(session: Session, since: int) -> list[tuple[int, int, str, int]]:
    """Confirmed clicks by day of the decision, catalogue version and creative, of decisions from ``since`` on."""
    day = col(DecidedPosition.decided_at) // DAY_S
    query = _followed(day, *_CREATIVE).where(
        col(DecidedPosition.decided_at) >= since, col(FollowUpRow.follow_up) == FollowUp.CLICK.value
    )
    rows = session.connection().execute(query.group_by(day, *_CREATIVE)).all()
    return [(int(row[0]), int(row[1]), str(row[2]), int(row[3])) for row in rows]


def served(session: Session, since: int, until: int) -> list[Served]:
    """Positions that the service filled from ``since`` to before ``until``, with what was confirmed of them since.

    Args:
        session: the transaction.
        since: seconds since the epoch; the decision's time counts.
        until: likewise.
    """
    span = col(DecidedPosition.decided_at) >= since, col(DecidedPosition.decided_at) < until
    kind = col(FollowUpRow.follow_up)
    execute = session.connection().execute
    confirmed: dict[tuple[int, str], dict[FollowUp, int]] = {}
    for row in execute(_followed(*_CREATIVE, kind).where(*span).group_by(*_CREATIVE, kind)).all():
        confirmed.setdefault((int(row[0]), str(row[1])), {})[FollowUp(row[2])] = int(row[3])
    decided = _filled(*_CREATIVE).where(*span).group_by(*_CREATIVE)
    return [
        Served(int(row[0]), str(row[1]), int(row[2]), confirmed.get((int(row[0]), str(row[1])), {}))
        for row in execute(decided).all()
    ]


def _filled(*columns: Any) -> Select[Any]:  # noqa: ANN401 - columns of several types
    """Counts of positions that the service filled."""
    return rows_of(*columns, func.count()).where(*_FILLED)


def _followed(*columns: Any) -> Select[Any]:  # noqa: ANN401 - likewise
    """Counts of confirmed follow-ups of positions that the service filled."""
    return _filled(*columns).where(
        col(FollowUpRow.decision_id) == DecidedPosition.decision_id,
        col(FollowUpRow.slot_id) == DecidedPosition.slot_id,
        col(FollowUpRow.position) == DecidedPosition.position,
    )
