"""The server's privacy ledger."""

import sqlalchemy as sa
from alembic import op

revision = "ledger"
down_revision = "releases"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "ledger_use",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "ledger_subject",
        sa.Column("number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("pseudonym", sa.LargeBinary(), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("spend", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("pseudonym"),
    )
    op.create_table(
        "ledger_charge",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("cause", sa.String(length=200), nullable=False),
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("members", sa.LargeBinary(), nullable=False),
        sa.Column("settled", sa.LargeBinary(), nullable=True),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("unnamed", sa.Integer(), nullable=False),
        sa.Column("barred", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("cause"),
    )
    op.create_index("ix_ledger_charge_run_id", "ledger_charge", ["run_id"])
    op.create_index("ix_ledger_charge_period", "ledger_charge", ["period"])
    op.create_table(
        "ledger_release",
        sa.Column("charge_id", _NUMBER, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("use_id", sa.Integer(), nullable=False),
        sa.Column("epsilon", sa.Float(), nullable=False),
        sa.Column("rho", sa.Float(), nullable=True),
        sa.Column("delta", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["charge_id"], ["ledger_charge.id"]),
        sa.ForeignKeyConstraint(["use_id"], ["ledger_use.id"]),
        sa.PrimaryKeyConstraint("charge_id", "position"),
    )


def downgrade() -> None:
    op.drop_table("ledger_release")
    op.drop_index("ix_ledger_charge_period", table_name="ledger_charge")
    op.drop_index("ix_ledger_charge_run_id", table_name="ledger_charge")
    op.drop_table("ledger_charge")
    op.drop_table("ledger_subject")
    op.drop_table("ledger_use")
