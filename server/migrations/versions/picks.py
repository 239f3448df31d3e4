"""Private picks and their charges."""

import sqlalchemy as sa
from alembic import op

revision = "picks"
down_revision = "decision_path"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "candidate_list",
        sa.Column("slot_group", sa.String(length=32), nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("jws", sa.Text(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot_group", "epoch"),
    )
    op.create_table(
        "pick_period",
        sa.Column("period", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("period"),
    )
    op.create_table(
        "private_pick",
        sa.Column("device", sa.LargeBinary(), nullable=False),
        sa.Column("slot_group", sa.String(length=32), nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("epsilon", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("device", "slot_group", "epoch"),
    )
    op.create_index("ix_private_pick_period", "private_pick", ["period"])


def downgrade() -> None:
    op.drop_index("ix_private_pick_period", "private_pick")
    op.drop_table("private_pick")
    op.drop_table("pick_period")
    op.drop_table("candidate_list")
