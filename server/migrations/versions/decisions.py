"""Decisions and their follow-ups."""

import sqlalchemy as sa
from alembic import op

revision = "decisions"
down_revision = "campaigns"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "decision",
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("slot_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("outcome", sa.String(length=40), nullable=False),
        sa.Column("creative_id", sa.String(length=200), nullable=True),
        sa.Column("catalogue_version", sa.Integer(), nullable=True),
        sa.Column("model_version", sa.Integer(), nullable=True),
        sa.Column("policy_digest", sa.String(length=64), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("decision_id", "slot_id", "position"),
    )
    op.create_table(
        "follow_up",
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("slot_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("follow_up", sa.String(length=20), nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["decision_id", "slot_id", "position"],
            ["decision.decision_id", "decision.slot_id", "decision.position"],
            name="fk_follow_up_decision",
        ),
        sa.PrimaryKeyConstraint("decision_id", "slot_id", "position", "follow_up"),
    )


def downgrade() -> None:
    op.drop_table("follow_up")
    op.drop_table("decision")
