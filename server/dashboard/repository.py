"""Reads and writes of the desk's sessions. Owns their queries; hands out plain values, never rows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, update
from sqlmodel import Session, col

from common.taxonomy import Role
from server.dashboard.tables import DeskSession


@dataclass(frozen=True, slots=True)
class StoredSession:
    """What is stored of a session."""

    key_id: str
    role: Role
    holder: str
    created_at: int
    seen_at: int
    expires_at: int


def insert(session: Session, session_hash: str, stored: StoredSession) -> None:
    """Store a new session."""
    session.add(
        DeskSession(
            session_hash=session_hash,
            key_id=stored.key_id,
            role=stored.role.value,
            holder=stored.holder,
            created_at=stored.created_at,
            seen_at=stored.seen_at,
            expires_at=stored.expires_at,
        )
    )


def get(session: Session, session_hash: str) -> StoredSession | None:
    """One session, lapsed or not."""
    row = session.get(DeskSession, session_hash)
    if row is None:
        return None
    return StoredSession(row.key_id, Role(row.role), row.holder, row.created_at, row.seen_at, row.expires_at)


def touch(session: Session, session_hash: str, *, now: int) -> None:
    """Note that a session was used."""
    session.execute(update(DeskSession).where(col(DeskSession.session_hash) == session_hash).values(seen_at=now))


def remove(session: Session, session_hash: str) -> None:
    """End one session."""
    session.execute(delete(DeskSession).where(col(DeskSession.session_hash) == session_hash))


def remove_lapsed(session: Session, *, expired_before: int, idle_before: int) -> None:
    """Forget sessions that have ended."""
    lapsed = (col(DeskSession.expires_at) <= expired_before) | (col(DeskSession.seen_at) <= idle_before)
    session.execute(delete(DeskSession).where(lapsed))
