"""Tables of decisions and their follow-ups. Owns their columns: no subject has a place here, not even a pseudonym."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKeyConstraint
from sqlmodel import Field, SQLModel


class DecidedPosition(SQLModel, table=True):
    """What was answered for one position.

    Attributes:
        reason: why nothing personal was used; None in mode ``on_device``.
        creative_id: what the service chose by context; None where the device chooses, which the service never learns.
        propensity: with which probability it was chosen, given the candidates and the positions before.
        experiment, arm: digest of the experiment in force and the arm that the service drew; None where it drew none.
    """

    __tablename__ = "decision"

    decision_id: str = Field(primary_key=True, max_length=64)
    slot_id: str = Field(primary_key=True, max_length=64)
    position: int = Field(primary_key=True)
    mode: str = Field(max_length=20)
    reason: str | None = Field(default=None, max_length=40)
    outcome: str = Field(max_length=40)
    creative_id: str | None = Field(default=None, max_length=200)
    propensity: float | None = None
    catalogue_version: int | None = None
    model_version: int | None = None
    policy_digest: str = Field(max_length=64)
    experiment: str | None = Field(default=None, max_length=64)
    arm: str | None = Field(default=None, max_length=64)
    decided_at: int = Field(sa_type=BigInteger)


class FollowUpRow(SQLModel, table=True):
    """One confirmed impression, click or conversion of one position."""

    __tablename__ = "follow_up"
    __table_args__ = (
        ForeignKeyConstraint(
            ["decision_id", "slot_id", "position"],
            ["decision.decision_id", "decision.slot_id", "decision.position"],
            name="fk_follow_up_decision",
        ),
    )

    decision_id: str = Field(primary_key=True, max_length=64)
    slot_id: str = Field(primary_key=True, max_length=64)
    position: int = Field(primary_key=True)
    follow_up: str = Field(primary_key=True, max_length=20)
    confirmed_at: int = Field(sa_type=BigInteger)
