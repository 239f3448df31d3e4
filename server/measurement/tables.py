"""Tables of measured days. Owns their columns: noisy sums over devices, and nothing about any one of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Text
from sqlmodel import Field, SQLModel


class MeasuredDay(SQLModel, table=True):
    """One release: one day, once. Whoever asks again gets what is stored here.

    Attributes:
        day: days since 1970-01-01, UTC.
        run_id: its run; the ledger holds what it cost under the same name.
        devices: in the sum.
        plan: JSON of what was counted.
        bounds: JSON of the contribution bounds at that time.
        bids: JSON of the lowest bid of each campaign that day, in millionths.
        statements: JSON of what it cost each device in it.
    """

    __tablename__ = "measured_day"

    day: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    run_id: str = Field(max_length=100)
    devices: int
    plan: str = Field(sa_type=Text)
    bounds: str = Field(sa_type=Text)
    bids: str = Field(sa_type=Text)
    statements: str = Field(sa_type=Text)
    released_at: int = Field(sa_type=BigInteger)


class MeasuredCell(SQLModel, table=True):
    """One noisy count of one day.

    Attributes:
        value: noise included.
        stddev: of the noise.
    """

    __tablename__ = "measured_cell"

    day: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False}, foreign_key="measured_day.day")
    dimension: str = Field(primary_key=True, max_length=20)
    label: str = Field(primary_key=True, max_length=200)
    metric: str = Field(primary_key=True, max_length=20)
    value: float
    stddev: float
