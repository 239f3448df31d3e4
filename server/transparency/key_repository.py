"""Reads and writes of published keys. Owns their queries; hands out plain values, never rows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, desc, select

from common.crypto.signing import PublicKey
from server.transparency.tables import PublishedKey


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One published key.

    Attributes:
        number: 1, 2, 3 … in the order of succession.
        retired_at: seconds since the epoch; None for the key in force.
        succession: the signed document that named it; None for the first.
    """

    number: int
    key: PublicKey
    published_at: int
    retired_at: int | None
    succession: str | None


def every(session: Session) -> list[StoredKey]:
    """Every published key, oldest first."""
    return [_plain(row) for row in session.exec(select(PublishedKey).order_by(col(PublishedKey.number)))]


def newest(session: Session) -> StoredKey | None:
    """The key in force."""
    row = session.exec(select(PublishedKey).order_by(desc(col(PublishedKey.number))).limit(1)).first()
    return None if row is None else _plain(row)


def add(session: Session, key: StoredKey) -> None:
    """Publish a key."""
    session.add(
        PublishedKey(
            number=key.number,
            kid=key.key.kid,
            x=key.key.x,
            published_at=key.published_at,
            retired_at=key.retired_at,
            succession=key.succession,
        )
    )
    session.flush()


def retire(session: Session, number: int, *, now: int) -> None:
    """Note that a key signs no more; it stays published."""
    row = session.get_one(PublishedKey, number)
    row.retired_at = now
    session.add(row)
    session.flush()


def _plain(row: PublishedKey) -> StoredKey:
    return StoredKey(row.number, PublicKey(row.x), row.published_at, row.retired_at, row.succession)
