"""Table of data subjects' requests. Owns its columns: what outlives an erasure names nobody."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, Text
from sqlmodel import Field, SQLModel

# SQLite gives numbers only to a plain INTEGER key.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")


class SubjectRequestRow(SQLModel, table=True):
    """One request and how it was answered.

    Attributes:
        request_id: 128 random bits: whoever has it may read the acknowledgement, which names nobody.
        handle: whose; None once the subject was erased.
        details: JSON object of what was asked beside the kind (``age_band``, ``lift``).
        verified_by: ``device`` (its signature) or ``officer`` (who saw proof elsewhere).
        received_at, due_at, completed_at: seconds since the epoch.
        steps: JSON list of [time, actor, status].
        acknowledgement: the newest signed one.
    """

    __tablename__ = "subject_request"

    number: int | None = Field(default=None, primary_key=True, sa_type=_NUMBER)
    request_id: str = Field(max_length=64, unique=True)
    handle: str | None = Field(default=None, max_length=64, index=True)
    request: str = Field(max_length=20)
    details: str = Field(sa_type=Text)
    status: str = Field(max_length=20, index=True)
    law: str = Field(max_length=20)
    locale: str = Field(max_length=10)
    verified_by: str = Field(max_length=20)
    received_at: int = Field(sa_type=BigInteger)
    due_at: int = Field(sa_type=BigInteger)
    completed_at: int | None = Field(default=None, sa_type=BigInteger)
    denial: str | None = Field(default=None, max_length=40)
    steps: str = Field(sa_type=Text)
    acknowledgement: str = Field(sa_type=Text)
