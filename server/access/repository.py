"""Reads and writes of API keys, nonces and kept answers. Owns their queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import tuple_
from sqlmodel import Session, col, delete, select, update

from common.taxonomy import Role
from server.access.tables import ApiKey, KeptAnswer, RequestNonce


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What is stored of a key."""

    key_id: str
    role: Role
    key_hash: str
    app_id: str | None
    label: str
    created_at: int
    expires_at: int
    holder: str
    lineage: str
    scopes: frozenset[str]
    revoked_at: int | None = None
    last_used_day: int | None = None


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What is stored of a request that may come again."""

    request: str
    answer: bytes | None
    started_at: int
    expires_at: int


def insert(session: Session, key: StoredKey) -> None:
    """Store a new key."""
    session.add(
        ApiKey(
            key_id=key.key_id,
            role=key.role.value,
            key_hash=key.key_hash,
            app_id=key.app_id,
            label=key.label,
            created_at=key.created_at,
            expires_at=key.expires_at,
            holder=key.holder,
            lineage=key.lineage,
            scopes=" ".join(sorted(key.scopes)),
        )
    )


def by_hash(session: Session, key_hash: str) -> StoredKey | None:
    """The key with this hash."""
    return _stored(session.exec(select(ApiKey).where(ApiKey.key_hash == key_hash)).first())


def by_id(session: Session, key_id: str) -> StoredKey | None:
    """The key of this name."""
    return _stored(session.get(ApiKey, key_id))


def listed(session: Session, *, after: tuple[int, str] | None, rows: int) -> Sequence[StoredKey]:
    """Keys, oldest first, from behind a place on."""
    query = select(ApiKey).order_by(col(ApiKey.created_at), col(ApiKey.key_id)).limit(rows)
    if after is not None:
        query = query.where(tuple_(col(ApiKey.created_at), col(ApiKey.key_id)) > after)
    return [key for key in map(_stored, session.exec(query)) if key is not None]


def revoke(session: Session, key_id: str, *, now: int) -> None:
    """End a key; ending it again changes nothing."""
    this = (col(ApiKey.key_id) == key_id, col(ApiKey.revoked_at).is_(None))
    session.exec(update(ApiKey).where(*this).values(revoked_at=now))


def expire(session: Session, key_id: str, *, at: int) -> None:
    """Let a key end at a time."""
    session.exec(update(ApiKey).where(col(ApiKey.key_id) == key_id).values(expires_at=at))


def succeeded(session: Session, key: StoredKey) -> bool:
    """Whether a key was rotated: its lineage has a later one."""
    later = select(ApiKey.key_id).where(ApiKey.lineage == key.lineage, col(ApiKey.created_at) > key.created_at)
    return session.exec(later.limit(1)).first() is not None


def use(session: Session, key_id: str, *, day: int) -> None:
    """Note that a key was used on a day."""
    session.exec(update(ApiKey).where(col(ApiKey.key_id) == key_id).values(last_used_day=day))


def add_nonce(session: Session, digest: str, *, expires_at: int) -> None:
    """Remember a nonce; the database refuses one that is there."""
    session.add(RequestNonce(digest=digest, expires_at=expires_at))
    session.flush()


def drop_old_nonces(session: Session, *, now: int) -> None:
    """Forget nonces whose signatures are too old anyway."""
    session.exec(delete(RequestNonce).where(col(RequestNonce.expires_at) <= now))


def kept(session: Session, digest: str) -> StoredAnswer | None:
    """What is kept for a repetition key."""
    row = session.get(KeptAnswer, digest)
    return None if row is None else StoredAnswer(row.request, row.answer, row.started_at, row.expires_at)


def begin(session: Session, digest: str, stored: StoredAnswer) -> None:
    """Note that a request is being worked on, in place of what was there."""
    session.exec(delete(KeptAnswer).where(col(KeptAnswer.digest) == digest))
    session.add(
        KeptAnswer(
            digest=digest,
            request=stored.request,
            started_at=stored.started_at,
            expires_at=stored.expires_at,
        )
    )


def keep(session: Session, digest: str, started_at: int, answer: bytes, *, subject: str | None) -> None:
    """Keep the answer of the request that began then."""
    this = (col(KeptAnswer.digest) == digest, col(KeptAnswer.started_at) == started_at)
    session.exec(update(KeptAnswer).where(*this).values(answer=answer, subject=subject))


def release(session: Session, digest: str, started_at: int) -> None:
    """Forget that the request which began then was being worked on."""
    this = (col(KeptAnswer.digest) == digest, col(KeptAnswer.started_at) == started_at)
    session.exec(delete(KeptAnswer).where(*this))


def drop_old_answers(session: Session, *, now: int) -> None:
    """Forget answers past their time."""
    session.exec(delete(KeptAnswer).where(col(KeptAnswer.expires_at) <= now))


def forget(session: Session, subject: str) -> int:
    """Forget every kept answer with this mark of a subject; how many there were."""
    return int(session.exec(delete(KeptAnswer).where(col(KeptAnswer.subject) == subject)).rowcount)


def _stored(row: ApiKey | None) -> StoredKey | None:
    if row is None:
        return None
    return StoredKey(
        key_id=row.key_id,
        role=Role(row.role),
        key_hash=row.key_hash,
        app_id=row.app_id,
        label=row.label,
        created_at=row.created_at,
        expires_at=row.expires_at,
        holder=row.holder,
        lineage=row.lineage,
        scopes=frozenset(row.scopes.split()),
        revoked_at=row.revoked_at,
        last_used_day=row.last_used_day,
    )
