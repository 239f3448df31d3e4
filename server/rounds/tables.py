"""Tables of training runs. Owns their columns; no behaviour, no session."""

from __future__ import annotations

from sqlalchemy import Text
from sqlmodel import Field, SQLModel


class TrainingRun(SQLModel, table=True):
    """One training: its latest checkpoint and who may write the next.

    Attributes:
        config_digest: SHA-256 of everything that shapes the result; a run is never continued under another.
        status: ``running``, ``aborted`` (may be continued) or ``finished``.
        outcome: name of the error that aborted it, else empty.
        arrays: the global model after ``rounds_done`` rounds, safetensors.
        optimiser: server optimiser state, safetensors.
        holder: who holds the lease; empty when nobody does.
        epoch: grows with every new holder: a commit under an older epoch is refused.
        heartbeat_at: seconds since the epoch of the holder's last sign of life.
        model_version: version in the registry, once finished.
    """

    __tablename__ = "training_run"

    run_id: str = Field(primary_key=True, max_length=200)
    config_digest: str = Field(max_length=64, index=True)
    status: str = Field(max_length=20)
    outcome: str = Field(default="", max_length=80)
    rounds_done: int
    arrays: bytes
    optimiser: bytes
    holder: str = Field(max_length=80)
    epoch: int
    heartbeat_at: float
    created_at: float
    model_version: int | None = None


class TrainingRound(SQLModel, table=True):
    """What one committed round did.

    Attributes:
        arrays: the global model after it, safetensors.
        contributions: devices in the sum.
        nodes: nodes whose reply is in the sum.
        invited: nodes asked.
        refused: JSON object, replies refused by fault.
        declined: JSON object, nodes that declined by closed name.
        epsilon: ε of a device that took part in every round up to this one.
        delta: its δ.
    """

    __tablename__ = "training_round"

    run_id: str = Field(primary_key=True, foreign_key="training_run.run_id", max_length=200)
    round_number: int = Field(primary_key=True)
    arrays: bytes
    arrays_digest: str = Field(max_length=64)
    contributions: int
    nodes: int
    invited: int
    refused: str = Field(sa_type=Text)
    declined: str = Field(sa_type=Text)
    epsilon: float
    delta: float
    committed_at: float
