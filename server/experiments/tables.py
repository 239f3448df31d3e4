"""Tables of changes, placement policies and experiments. Owns their columns; nothing in them is about a person."""

from __future__ import annotations

from sqlalchemy import BigInteger, Text
from sqlmodel import Field, SQLModel

from server.approvals import ProposalRow


class ChangeProposal(ProposalRow, table=True):
    """A change that somebody wants; it takes effect when somebody else has approved it.

    Attributes:
        kind: a ``ChangeKind``.
        body: what would change, canonical JSON.
        evidence: what speaks for it: a verdict of ``reticent policy`` or figures of a report, JSON.
        state: a ``ChangeState``.
    """

    __tablename__ = "change_proposal"

    kind: str = Field(max_length=20)
    body: str = Field(sa_type=Text)
    evidence: str = Field(sa_type=Text)


class PlacementVersion(SQLModel, table=True):
    """A placement policy that was put in force; append-only, the newest is in force. Without any, the file's is.

    Attributes:
        digest: SHA-256 of ``text``.
        jws: the signed document as everybody gets it; empty: the installation's own file again.
        proposal: by which it came; None: a rollback.
    """

    __tablename__ = "placement_version"

    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    digest: str = Field(max_length=64)
    text: str = Field(sa_type=Text)
    jws: str = Field(sa_type=Text)
    proposal: int | None = Field(default=None, sa_type=BigInteger)
    put_by: str = Field(max_length=200)
    put_at: int = Field(sa_type=BigInteger)


class ExperimentRun(SQLModel, table=True):
    """An experiment that was approved.

    Attributes:
        digest: of the document.
        jws: the signed document as everybody gets it.
        stopped_at, stopped_by: where somebody ended it before its time.
    """

    __tablename__ = "experiment_run"

    experiment_id: str = Field(primary_key=True, max_length=40)
    digest: str = Field(max_length=64, unique=True)
    jws: str = Field(sa_type=Text)
    starts_at: int = Field(sa_type=BigInteger)
    ends_at: int = Field(sa_type=BigInteger)
    stopped_at: int | None = Field(default=None, sa_type=BigInteger)
    stopped_by: str | None = Field(default=None, max_length=200)
