"""Tables of private picks. Owns their columns: no handle and no key has a place here, and no answer in clear.

A device is a keyed digest of its identity, an answer a keyed digest too; the key of a budget period is destroyed with
it, and its rows are deleted.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, LargeBinary, Text
from sqlmodel import Field, SQLModel


class CandidateListRow(SQLModel, table=True):
    """The list of one slot group and epoch; never changed.

    Attributes:
        digest: what picks name it by.
        jws: the signed list, the very bytes that everybody gets.
        published_at: seconds since the epoch of Unix.
    """

    __tablename__ = "candidate_list"

    slot_group: str = Field(primary_key=True, max_length=32)
    epoch: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    digest: str = Field(max_length=64)
    jws: str = Field(sa_type=Text)
    published_at: int = Field(sa_type=BigInteger)


class PickPeriod(SQLModel, table=True):
    """The key of one budget period of picks."""

    __tablename__ = "pick_period"

    period: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    key: bytes = Field(sa_type=LargeBinary)


class PickRow(SQLModel, table=True):
    """One draw that one device was charged for.

    Attributes:
        device: HMAC(period's key, identity): the same device has the same digest within one period only.
        answer: HMAC(period's key, device, list, index): shows whether a later answer is the same.
        period: when it is deleted.
        epsilon: what the draw cost.
    """

    __tablename__ = "private_pick"

    device: bytes = Field(primary_key=True, sa_type=LargeBinary)
    slot_group: str = Field(primary_key=True, max_length=32)
    epoch: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    answer: bytes = Field(sa_type=LargeBinary)
    period: int = Field(index=True)
    epsilon: float
