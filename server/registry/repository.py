"""Reads and writes of the model registry. Owns its queries; hands out plain values, never rows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, desc, func, select

from server.registry.tables import ModelVersion


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One registered model, as stored and not yet verified."""

    version: int
    run_id: str
    spec: str
    arrays: bytes
    metrics: str
    privacy: str
    manifest_jws: str


def insert(session: Session, model: StoredModel, *, spec_digest: str, arrays_digest: str, created_at: str) -> None:
    """Add one version."""
    session.add(
        ModelVersion(
            version=model.version,
            run_id=model.run_id,
            spec_digest=spec_digest,
            spec=model.spec,
            arrays_digest=arrays_digest,
            arrays=model.arrays,
            metrics=model.metrics,
            privacy=model.privacy,
            manifest_jws=model.manifest_jws,
            created_at=created_at,
        )
    )


def newest(session: Session) -> int | None:
    """The newest version number."""
    return session.exec(select(func.max(ModelVersion.version))).one()


def get(session: Session, version: int) -> StoredModel | None:
    """One version."""
    row = session.get(ModelVersion, version)
    return None if row is None else _plain(row)


def of_run(session: Session, run_id: str, arrays_digest: str) -> str | None:
    """The signed manifest under which these arrays of this training are registered."""
    query = select(ModelVersion.manifest_jws).where(
        ModelVersion.run_id == run_id, ModelVersion.arrays_digest == arrays_digest
    )
    return session.exec(query).first()


def manifests(session: Session) -> list[str]:
    """All signed manifests, newest first."""
    return list(session.exec(select(ModelVersion.manifest_jws).order_by(desc(col(ModelVersion.version)))))


def _plain(row: ModelVersion) -> StoredModel:
    return StoredModel(
        version=row.version,
        run_id=row.run_id,
        spec=row.spec,
        arrays=row.arrays,
        metrics=row.metrics,
        privacy=row.privacy,
        manifest_jws=row.manifest_jws,
    )
