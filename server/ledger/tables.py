"""Tables of the server's ledger. Owns their columns: a device is the hash of its identity key, nothing else.

Compact: what devices have in common is written once. A charge holds its members as one packed list of numbers; a
subject's row holds what it has spent in the period, so that a budget query is one indexed read.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, LargeBinary, Text
from sqlmodel import Field, SQLModel

from server.approvals import ProposalRow

_NUMBER = BigInteger().with_variant(Integer, "sqlite")


class LedgerUse(SQLModel, table=True):
    """One mechanism with its parameters, for one kind of release; append-only.

    Attributes:
        digest: SHA-256 of kind and description, hex.
        description: ``MechanismUse`` as JSON.
    """

    __tablename__ = "ledger_use"

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(max_length=64, unique=True)
    kind: str = Field(max_length=40)
    description: str = Field(sa_type=Text)


class LedgerSubject(SQLModel, table=True):
    """One device identity and its spend.

    Attributes:
        number: by which members of charges are named.
        pseudonym: first 16 bytes of the hash of the identity key; of an erased one a keyed tombstone, or random bytes.
        erased_in: the period in which the subject was erased; None while it is not.
        period: of ``spend``; an earlier one than the running means nothing is spent yet.
        spend: packed pairs of (use, times), ascending by use.
    """

    __tablename__ = "ledger_subject"

    number: int = Field(primary_key=True, sa_type=_NUMBER, sa_column_kwargs={"autoincrement": False})
    pseudonym: bytes = Field(sa_type=LargeBinary, unique=True)
    period: int
    spend: bytes = Field(sa_type=LargeBinary)
    erased_in: int | None = None


class LedgerEpoch(SQLModel, table=True):
    """The key under which tombstones of one budget period are made; destroyed when the period is over."""

    __tablename__ = "ledger_epoch"

    period: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    key: bytes = Field(sa_type=LargeBinary)


class LedgerCharge(SQLModel, table=True):
    """One cause: a session of secure aggregation, or a round whose devices the server does not know.

    Attributes:
        cause: unique; the same cause is never charged twice to one device.
        day: days since the epoch.
        members: packed numbers of the subjects that were charged.
        settled: packed numbers of those that are in a released sum; None until then.
        devices: how many were charged.
        unnamed: how many of them are not known by identity.
        barred: how many were refused.
        log_seq: the newest entry of the transparency log about it; None for what was charged before there was one.
    """

    __tablename__ = "ledger_charge"

    id: int | None = Field(default=None, primary_key=True, sa_type=_NUMBER)
    cause: str = Field(max_length=200, unique=True)
    run_id: str = Field(max_length=200, index=True)
    period: int = Field(index=True)
    day: int
    members: bytes = Field(sa_type=LargeBinary)
    settled: bytes | None = Field(default=None, sa_type=LargeBinary)
    devices: int
    unnamed: int
    barred: int
    log_seq: int | None = Field(default=None, sa_type=BigInteger)


class LedgerRelease(SQLModel, table=True):
    """One release of a charge.

    Attributes:
        epsilon: ε at ``delta`` of this release alone, for one device, without amplification.
        rho: its ρ of zero-concentrated DP; None where only privacy loss distributions compose it.
    """

    __tablename__ = "ledger_release"

    charge_id: int = Field(primary_key=True, foreign_key="ledger_charge.id", sa_type=_NUMBER)
    position: int = Field(primary_key=True)
    use_id: int = Field(foreign_key="ledger_use.id")
    epsilon: float
    rho: float | None = None
    delta: float


class LedgerCap(ProposalRow, table=True):
    """A bound on ε that privacy officers have set, or want to; only one per unit and bound is in force.

    Attributes:
        unit: of the line.
        bound: ``cap``, or the purpose whose quota it is.
        state: ``CapState``.
        proposed_by, decided_by: never the same one for a raise.
    """

    __tablename__ = "ledger_cap"

    unit: str = Field(max_length=20)
    bound: str = Field(max_length=40)
    epsilon_max: float
