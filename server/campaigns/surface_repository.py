"""Reads and writes of placements. Owns their queries; hands out plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt
from sqlmodel import Session, col, select

from common.wire.surface import Surface
from server.campaigns.tables import SurfaceRow
from server.campaigns.terms import Name, Tag

SLOT_ID: Final = r"^[A-Za-z0-9_.:-]{1,64}$"


class SurfaceTerms(BaseModel):
    """What an app offers, and what it refuses.

    Attributes:
        name: for people.
        kind: where it is; for advertisers' choice of assets.
        width, height: in CSS pixels; None: as it fits.
        floor_micros: least expected value of a response in it, where the policy orders by value.
        blocked_categories, blocked_advertisers: never shown in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Name
    kind: Literal["banner", "native", "search", "feed", "other"] = "native"
    width: Annotated[StrictInt, Field(ge=1, le=10_000)] | None = None
    height: Annotated[StrictInt, Field(ge=1, le=10_000)] | None = None
    floor_micros: Annotated[StrictInt, Field(ge=0, le=10**12)] = 0
    blocked_categories: tuple[Tag, ...] = Field(default=(), max_length=200)
    blocked_advertisers: tuple[Name, ...] = Field(default=(), max_length=200)


@dataclass(frozen=True, slots=True)
class StoredSurface:
    """A placement as it is stored."""

    slot_id: str
    revision: int
    terms: SurfaceTerms
    changed_at: int

    @property
    def signed(self) -> Surface:
        """What of it is in the catalogue."""
        return Surface(
            slot_id=self.slot_id,
            floor_micros=self.terms.floor_micros,
            blocked_categories=self.terms.blocked_categories,
            blocked_advertisers=self.terms.blocked_advertisers,
        )


def put(session: Session, surface: StoredSurface) -> None:
    """Store a placement, new or changed."""
    row = session.get(SurfaceRow, surface.slot_id) or SurfaceRow(
        slot_id=surface.slot_id, revision=0, terms="", changed_at=0
    )
    row.revision, row.changed_at = surface.revision, surface.changed_at
    row.terms = surface.terms.model_dump_json()
    session.add(row)
    session.flush()


def delete(session: Session, slot_id: str) -> None:
    """Remove a placement."""
    session.delete(session.get_one(SurfaceRow, slot_id))
    session.flush()


def surface(session: Session, slot_id: str) -> StoredSurface | None:
    """The placement of this slot."""
    row = session.get(SurfaceRow, slot_id)
    return None if row is None else _stored(row)


def listed(session: Session, *, after: str | None, rows: int | None) -> Sequence[StoredSurface]:
    """Placements by slot, from behind one on; all where ``rows`` is None."""
    query = select(SurfaceRow).order_by(col(SurfaceRow.slot_id))
    if after is not None:
        query = query.where(col(SurfaceRow.slot_id) > after)
    return [_stored(row) for row in session.exec(query if rows is None else query.limit(rows))]


def _stored(row: SurfaceRow) -> StoredSurface:
    return StoredSurface(row.slot_id, row.revision, SurfaceTerms.model_validate_json(row.terms), row.changed_at)
