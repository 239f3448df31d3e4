"""Reads and writes of the ad repository's lines. Owns their queries; hands out plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import tuple_
from sqlmodel import Session, col, delete, or_, select

from server.campaigns.tables import PresentedRow


@dataclass(frozen=True, slots=True)
class Presented:
    """One content of one creative and when it could be shown; see ``PresentedRow`` for the fields."""

    entry_id: str
    creative_id: str
    digest: str
    campaign: str
    advertiser: str
    content: str
    began_at: int
    ended_at: int | None = None
    withheld: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody looks for; None: whatever. ``text`` is looked for in the whole content, ``at`` in the period."""

    advertiser: str | None = None
    campaign: str | None = None
    text: str | None = None
    at: int | None = None


def current(session: Session) -> dict[tuple[str, str], Presented]:
    """Lines that have not ended, by creative and digest of their content."""
    rows = session.exec(select(PresentedRow).where(col(PresentedRow.ended_at).is_(None)))
    return {(row.creative_id, row.digest): _presented(row) for row in rows}


def insert(session: Session, lines: Sequence[Presented]) -> None:
    """Begin lines; one that ended in this very second goes on."""
    for line in lines:
        known = session.get(PresentedRow, line.entry_id)
        if known is None:
            session.add(PresentedRow(**{name: getattr(line, name) for name in _FIELDS}))
        else:
            known.ended_at = None
            session.add(known)
    session.flush()


def end(session: Session, lines: Sequence[Presented], *, now: int) -> None:
    """End lines."""
    for line in lines:
        row = session.get_one(PresentedRow, line.entry_id)
        row.ended_at = now
        session.add(row)
    session.flush()


def withhold(session: Session, *, creative_id: str | None, campaign: str | None, reason: str) -> None:
    """Show the content of a creative, or of everything of a campaign, no more."""
    which = PresentedRow.creative_id == creative_id if creative_id else PresentedRow.campaign == campaign
    for row in session.exec(select(PresentedRow).where(which)):
        row.withheld = reason
        session.add(row)
    session.flush()


def drop_before(session: Session, *, moment: int) -> None:
    """Remove lines that ended before a moment."""
    session.exec(delete(PresentedRow).where(col(PresentedRow.ended_at) < moment))


def listed(session: Session, asked: Question, *, after: tuple[int, str] | None, rows: int) -> Sequence[Presented]:
    """Lines that answer a question, oldest first, from behind a place on."""
    query = select(PresentedRow)
    if asked.advertiser is not None:
        query = query.where(PresentedRow.advertiser == asked.advertiser)
    if asked.campaign is not None:
        query = query.where(PresentedRow.campaign == asked.campaign)
    if asked.text is not None:
        # What is withheld cannot be searched either: the answer would tell its words.
        query = query.where(
            col(PresentedRow.content).icontains(asked.text, autoescape=True), col(PresentedRow.withheld).is_(None)
        )
    if asked.at is not None:
        query = query.where(
            PresentedRow.began_at <= asked.at,
            or_(col(PresentedRow.ended_at).is_(None), col(PresentedRow.ended_at) > asked.at),
        )
    place = (col(PresentedRow.began_at), col(PresentedRow.entry_id))
    if after is not None:
        query = query.where(tuple_(*place) > after)
    return [_presented(row) for row in session.exec(query.order_by(*place).limit(rows))]


def content_of(session: Session, creative_id: str) -> Presented | None:
    """The newest line of a creative."""
    query = select(PresentedRow).where(PresentedRow.creative_id == creative_id)
    row = session.exec(query.order_by(col(PresentedRow.began_at).desc())).first()
    return None if row is None else _presented(row)


_FIELDS = tuple(Presented.__dataclass_fields__)


def _presented(row: PresentedRow) -> Presented:
    return Presented(**{name: getattr(row, name) for name in _FIELDS})
