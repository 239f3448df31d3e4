"""Charged sessions, the clip and the paid tasks of a training."""

import sqlalchemy as sa
from alembic import op

revision = "releases"
down_revision = "decisions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("training_run") as table:
        table.add_column(sa.Column("clipping_norm", sa.Float(), nullable=False, server_default="0"))
        table.add_column(sa.Column("tasks", sa.Text(), nullable=False, server_default="[]"))
        table.add_column(sa.Column("figures", sa.Text(), nullable=False, server_default="{}"))
    with op.batch_alter_table("training_round") as table:
        table.add_column(sa.Column("roster", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("clipping_norm", sa.Float(), nullable=False, server_default="0"))
        table.add_column(sa.Column("noise_stddev", sa.Float(), nullable=False, server_default="0"))
    op.create_table(
        "training_release",
        sa.Column("session", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("task", sa.String(length=20), nullable=False),
        sa.Column("round_number", sa.Integer(), nullable=False),
        sa.Column("releases", sa.Text(), nullable=False),
        sa.Column("clipping_norm", sa.Float(), nullable=False),
        sa.Column("charged", sa.Integer(), nullable=False),
        sa.Column("survivors", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=80), nullable=False),
        sa.Column("charged_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.run_id"]),
        sa.PrimaryKeyConstraint("session"),
    )
    op.create_index("ix_training_release_run_id", "training_release", ["run_id"])


def downgrade() -> None:
    op.drop_index("ix_training_release_run_id", table_name="training_release")
    op.drop_table("training_release")
    with op.batch_alter_table("training_round") as table:
        for column in ("noise_stddev", "clipping_norm", "roster"):
            table.drop_column(column)
    with op.batch_alter_table("training_run") as table:
        for column in ("figures", "tasks", "clipping_norm"):
            table.drop_column(column)
