"""Reads and writes of API keys. Owns their queries."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, select

from common.taxonomy import Role
from server.access.tables import ApiKey


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What is stored of a key."""

    role: Role
    key_hash: str
    subject: str | None
    app_id: str | None
    expires_at: int
    revoked: bool


def insert(session: Session, key_id: str, key: StoredKey, *, label: str, now: int) -> None:
    """Store a new key."""
    session.add(
        ApiKey(
            key_id=key_id,
            role=key.role.value,
            key_hash=key.key_hash,
            subject=key.subject,
            app_id=key.app_id,
            label=label,
            created_at=now,
            expires_at=key.expires_at,
        )
    )


def by_hash(session: Session, key_hash: str) -> StoredKey | None:
    """The key with this hash."""
    row = session.exec(select(ApiKey).where(ApiKey.key_hash == key_hash)).first()
    if row is None:
        return None
    return StoredKey(
        Role(row.role), row.key_hash, row.subject, row.app_id, row.expires_at, revoked=row.revoked_at is not None
    )


def revoke(session: Session, key_id: str, *, now: int) -> bool:
    """End a key, once; whether there is one."""
    row = session.get(ApiKey, key_id)
    if row is not None and row.revoked_at is None:
        row.revoked_at = now
        session.add(row)
    return row is not None
