"""The table of kill switches in force. Owns its columns; what was released is told by the transparency log."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class Control(SQLModel, table=True):
    """One thing that is stopped now.

    Attributes:
        scope: a ``ControlScope``.
        target: a purpose id, a campaign, or a jurisdiction code.
        stopped_at: seconds since the epoch.
        stopped_by: role and holder of the key that stopped it.
        note: the officer's own words, for other officers.
    """

    __tablename__ = "control"

    scope: str = Field(primary_key=True, max_length=20)
    target: str = Field(primary_key=True, max_length=200)
    stopped_at: int = Field(sa_type=BigInteger)
    stopped_by: str = Field(max_length=300)
    note: str = Field(max_length=500)
