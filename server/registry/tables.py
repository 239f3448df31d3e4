"""Table of the model registry. Owns its columns."""

from __future__ import annotations

from sqlalchemy import Text, UniqueConstraint
from sqlmodel import Field, SQLModel


class ModelVersion(SQLModel, table=True):
    """One accepted model.

    Attributes:
        version: 1, 2, 3 … in the order of registration.
        run_id: the training it came from; together with the arrays it is registered once.
        spec: the feature specification, JSON as it was digested.
        arrays: safetensors.
        metrics, privacy: readable copies of what the manifest signs.
        manifest_jws: the signed manifest; this is what counts.
    """

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("run_id", "arrays_digest", name="uq_model_version_run"),)

    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    run_id: str = Field(max_length=200)
    spec_digest: str = Field(max_length=64)
    spec: str = Field(sa_type=Text)
    arrays_digest: str = Field(max_length=64)
    arrays: bytes
    metrics: str = Field(sa_type=Text)
    privacy: str = Field(sa_type=Text)
    manifest_jws: str = Field(sa_type=Text)
    created_at: str = Field(max_length=40)
