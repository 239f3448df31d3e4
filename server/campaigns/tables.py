"""Table of catalogues. Owns its columns."""

from __future__ import annotations

from sqlalchemy import BigInteger, Text
from sqlmodel import Field, SQLModel


class CatalogueVersion(SQLModel, table=True):
    """One published catalogue; append-only, the newest is in force.

    Attributes:
        digest: SHA-256 of the creatives' canonical JSON: the same creatives are not published twice in a row.
        jws: the signed catalogue, the very bytes that everybody gets.
    """

    __tablename__ = "catalogue_version"

    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    digest: str = Field(max_length=64)
    jws: str = Field(sa_type=Text)
    published_at: int = Field(sa_type=BigInteger)
