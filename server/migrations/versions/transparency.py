"""The transparency log and published keys."""

import sqlalchemy as sa
from alembic import op

revision = "transparency"
down_revision = "ledger"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "log_entry",
        sa.Column("seq", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("time", _NUMBER, nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("subject_commit", sa.LargeBinary(), nullable=True),
        sa.Column("payload_commit", sa.LargeBinary(), nullable=False),
        sa.Column("nodes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_log_entry_kind", "log_entry", ["kind"])
    op.create_table(
        "log_record",
        sa.Column("seq", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=True),
        sa.Column("subject_salt", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["seq"], ["log_entry.seq"]),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_log_record_subject", "log_record", ["subject"])
    op.create_table(
        "log_checkpoint",
        sa.Column("size", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("time", _NUMBER, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("size"),
    )
    op.create_table(
        "published_key",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kid", sa.String(length=64), nullable=False),
        sa.Column("x", sa.String(length=64), nullable=False),
        sa.Column("published_at", _NUMBER, nullable=False),
        sa.Column("retired_at", _NUMBER, nullable=True),
        sa.Column("succession", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("kid"),
    )


def downgrade() -> None:
    op.drop_table("published_key")
    op.drop_table("log_checkpoint")
    op.drop_index("ix_log_record_subject", table_name="log_record")
    op.drop_table("log_record")
    op.drop_index("ix_log_entry_kind", table_name="log_entry")
    op.drop_table("log_entry")
