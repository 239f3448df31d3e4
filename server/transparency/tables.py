"""Tables of the transparency log. Owns their columns: what is proven stays, what is personal can be destroyed."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, LargeBinary, Text
from sqlmodel import Field, SQLModel

_NUMBER = BigInteger().with_variant(Integer, "sqlite")


class LogEntry(SQLModel, table=True):
    """One leaf; append-only. Nothing in it is about a person but commitments that only ``log_record`` opens.

    Attributes:
        seq: its place in the tree, from 0.
        time: seconds since the epoch; never decreases.
        nodes: hashes of the subtrees that it completes, its own first, 32 bytes each: the tree, spread over its leaves.
    """

    __tablename__ = "log_entry"

    seq: int = Field(primary_key=True, sa_type=_NUMBER, sa_column_kwargs={"autoincrement": False})
    time: int = Field(sa_type=_NUMBER)
    kind: str = Field(max_length=40, index=True)
    actor: str = Field(max_length=200)
    subject_commit: bytes | None = Field(default=None, sa_type=LargeBinary)
    payload_commit: bytes = Field(sa_type=LargeBinary)
    nodes: bytes = Field(sa_type=LargeBinary)


class LogRecord(SQLModel, table=True):
    """What opens the commitments of one leaf; destroyed when the person it is about is erased.

    Attributes:
        record: RFC 8785 JSON.
        subject: whom it is about.
    """

    __tablename__ = "log_record"

    seq: int = Field(
        primary_key=True, foreign_key="log_entry.seq", sa_type=_NUMBER, sa_column_kwargs={"autoincrement": False}
    )
    salt: bytes = Field(sa_type=LargeBinary)
    record: str = Field(sa_type=Text)
    subject: str | None = Field(default=None, max_length=200, index=True)
    subject_salt: bytes | None = Field(default=None, sa_type=LargeBinary)


class LogCheckpoint(SQLModel, table=True):
    """One signed checkpoint; append-only."""

    __tablename__ = "log_checkpoint"

    size: int = Field(primary_key=True, sa_type=_NUMBER, sa_column_kwargs={"autoincrement": False})
    time: int = Field(sa_type=_NUMBER)
    note: str = Field(sa_type=Text)


class PublishedKey(SQLModel, table=True):
    """One signing key that this installation has published. Old ones stay: what they signed must stay verifiable.

    Attributes:
        number: 1, 2, 3 … in the order of succession.
        x: base64url public key.
        succession: the signed document by which its predecessor named it; None for the first.
    """

    __tablename__ = "published_key"

    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    kid: str = Field(max_length=64, unique=True)
    x: str = Field(max_length=64)
    published_at: int = Field(sa_type=_NUMBER)
    retired_at: int | None = Field(default=None, sa_type=_NUMBER)
    succession: str | None = Field(default=None, sa_type=Text)
