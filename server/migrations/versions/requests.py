"""Data subject requests, tombstones and caps."""

import sqlalchemy as sa
from alembic import op

revision = "requests"
down_revision = "access_roles"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("ledger_subject", sa.Column("erased_in", sa.Integer(), nullable=True))
    op.add_column("ledger_charge", sa.Column("log_seq", sa.BigInteger(), nullable=True))
    op.create_table(
        "ledger_epoch",
        sa.Column("period", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("period"),
    )
    op.create_table(
        "ledger_cap",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("unit", sa.String(length=20), nullable=False),
        sa.Column("bound", sa.String(length=40), nullable=False),
        sa.Column("epsilon_max", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("proposed_by", sa.String(length=200), nullable=False),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_by", sa.String(length=200), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("log_seq", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_ledger_cap_state", "ledger_cap", ["state"])
    op.create_table(
        "subject_request",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("handle", sa.String(length=64), nullable=True),
        sa.Column("request", sa.String(length=20), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("law", sa.String(length=20), nullable=False),
        sa.Column("locale", sa.String(length=10), nullable=False),
        sa.Column("verified_by", sa.String(length=20), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.Column("denial", sa.String(length=40), nullable=True),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.Column("acknowledgement", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("request_id"),
    )
    op.create_index("ix_subject_request_handle", "subject_request", ["handle"])
    op.create_index("ix_subject_request_status", "subject_request", ["status"])


def downgrade() -> None:
    op.drop_index("ix_subject_request_status", table_name="subject_request")
    op.drop_index("ix_subject_request_handle", table_name="subject_request")
    op.drop_table("subject_request")
    op.drop_index("ix_ledger_cap_state", table_name="ledger_cap")
    op.drop_table("ledger_cap")
    op.drop_table("ledger_epoch")
    with op.batch_alter_table("ledger_charge") as charge:
        charge.drop_column("log_seq")
    with op.batch_alter_table("ledger_subject") as subject:
        subject.drop_column("erased_in")
