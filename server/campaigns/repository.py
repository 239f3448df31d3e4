"""Reads and writes of catalogues. Owns their queries."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from server.campaigns.tables import CatalogueVersion


@dataclass(frozen=True, slots=True)
class StoredCatalogue:
    """A published catalogue as it is served."""

    version: int
    digest: str
    jws: str


def newest_version(session: Session) -> int | None:
    """The version in force."""
    return session.exec(select(func.max(CatalogueVersion.version))).one()


def newest(session: Session) -> StoredCatalogue | None:
    """The catalogue in force."""
    version = newest_version(session)
    row = None if version is None else session.get(CatalogueVersion, version)
    return None if row is None else StoredCatalogue(row.version, row.digest, row.jws)


def at(session: Session, version: int) -> StoredCatalogue | None:
    """One version, in force or not."""
    row = session.get(CatalogueVersion, version)
    return None if row is None else StoredCatalogue(row.version, row.digest, row.jws)


def in_force_between(session: Session, since: int, until: int) -> list[int]:
    """Versions that were in force at some moment from ``since`` to before ``until``, oldest first."""
    query = select(CatalogueVersion.version, CatalogueVersion.published_at).order_by(col(CatalogueVersion.version))
    rows = session.exec(query.where(CatalogueVersion.published_at < until)).all()
    began_before = [version for version, published_at in rows if published_at <= since]
    return [*began_before[-1:], *(version for version, published_at in rows if published_at > since)]


def insert(session: Session, catalogue: StoredCatalogue, *, now: int) -> None:
    """Put a new version in force."""
    session.add(
        CatalogueVersion(version=catalogue.version, digest=catalogue.digest, jws=catalogue.jws, published_at=now)
    )
