"""Measured days of placements: noisy sums over devices."""

import sqlalchemy as sa
from alembic import op

revision = "measurement"
down_revision = "picks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "measured_day",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.String(length=100), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("bounds", sa.Text(), nullable=False),
        sa.Column("bids", sa.Text(), nullable=False),
        sa.Column("statements", sa.Text(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day"),
    )
    op.create_table(
        "measured_cell",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("dimension", sa.String(length=20), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("metric", sa.String(length=20), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("stddev", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["day"], ["measured_day.day"]),
        sa.PrimaryKeyConstraint("day", "dimension", "label", "metric"),
    )


def downgrade() -> None:
    op.drop_table("measured_cell")
    op.drop_table("measured_day")
