"""Reads and writes of catalogues. Owns their queries."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, func, select

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


def insert(session: Session, catalogue: StoredCatalogue, *, now: int) -> None:
    """Put a new version in force."""
    session.add(
        CatalogueVersion(version=catalogue.version, digest=catalogue.digest, jws=catalogue.jws, published_at=now)
    )
