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
        clipping_norm: C of the next round's update.
        tasks: JSON list of paid tasks done after the last round.
        figures: JSON object of what they found.
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
    clipping_norm: float = 0.0
    tasks: str = Field(default="[]", sa_type=Text)
    figures: str = Field(default="{}", sa_type=Text)
    model_version: int | None = None


class TrainingRound(SQLModel, table=True):
    """What one committed round did.

    Attributes:
        arrays: the global model after it, safetensors.
        contributions: devices in the sum.
        roster: devices that were asked for a masked vector; the contributions themselves where none is masked.
        clipping_norm: C of its update.
        noise_stddev: of the noise on the mean update that the server saw, in model-weight units; 0 if not its to know.
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
    roster: int = 0
    clipping_norm: float = 0.0
    noise_stddev: float = 0.0
    nodes: int
    invited: int
    refused: str = Field(sa_type=Text)
    declined: str = Field(sa_type=Text)
    epsilon: float
    delta: float
    committed_at: float


class TrainingRelease(SQLModel, table=True):
    """One session that devices were charged for, written before anything was released in it.

    Attributes:
        session: its id; a retry has another.
        task: what it was for.
        releases: JSON list of [kind, mechanism use]: what each device in it was charged.
        clipping_norm: C of the update in it.
        charged: devices charged; 0 where they stay unnamed and uncounted until they answer.
        survivors: devices in the sum.
        outcome: ``charged``, ``released`` or the name of the error that ended it.
    """

    __tablename__ = "training_release"

    session: str = Field(primary_key=True, max_length=64)
    run_id: str = Field(foreign_key="training_run.run_id", max_length=200, index=True)
    task: str = Field(max_length=20)
    round_number: int
    releases: str = Field(sa_type=Text)
    clipping_norm: float
    charged: int
    survivors: int
    outcome: str = Field(max_length=80)
    charged_at: float
