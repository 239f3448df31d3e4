"""Consent states, evidence, objections and kill switches."""

import sqlalchemy as sa
from alembic import op

revision = "consent_states"
down_revision = "transparency"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("subject") as subject:
        subject.add_column(sa.Column("objected", sa.Boolean(), nullable=False, server_default=sa.false()))
        subject.add_column(sa.Column("restricted", sa.Boolean(), nullable=False, server_default=sa.false()))
        subject.create_index("ix_subject_public_key", ["public_key"])
    with op.batch_alter_table("consent_event") as event:
        event.add_column(sa.Column("method", sa.String(length=20), nullable=False, server_default="api"))
        event.add_column(sa.Column("signals", sa.Text(), nullable=False, server_default="{}"))
        event.add_column(sa.Column("reason", sa.String(length=40), nullable=True))
        event.add_column(sa.Column("log_seq", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("consent_state") as state:
        state.add_column(sa.Column("opposed", sa.Boolean(), nullable=False, server_default=sa.false()))
        state.add_column(sa.Column("reask_not_before", sa.BigInteger(), nullable=True))
    op.create_table(
        "control",
        sa.Column("scope", sa.String(length=20), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("stopped_at", sa.BigInteger(), nullable=False),
        sa.Column("stopped_by", sa.String(length=300), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("scope", "target"),
    )


def downgrade() -> None:
    op.drop_table("control")
    with op.batch_alter_table("consent_state") as state:
        state.drop_column("reask_not_before")
        state.drop_column("opposed")
    with op.batch_alter_table("consent_event") as event:
        for column in ("log_seq", "reason", "signals", "method"):
            event.drop_column(column)
    with op.batch_alter_table("subject") as subject:
        subject.drop_index("ix_subject_public_key")
        subject.drop_column("restricted")
        subject.drop_column("objected")
