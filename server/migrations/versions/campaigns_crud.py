"""Campaigns, creatives and placements under review; the ad repository."""

import sqlalchemy as sa
from alembic import op

revision = "campaigns_crud"
down_revision = "desk"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plan",
        sa.Column("plan_id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("advertiser", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("author", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("plan_id"),
    )
    for column in ("kind", "campaign_id", "advertiser"):
        op.create_index(f"ix_plan_{column}", "plan", [column])
    op.create_table(
        "surface",
        sa.Column("slot_id", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot_id"),
    )
    op.create_table(
        "presented",
        sa.Column("entry_id", sa.String(length=64), nullable=False),
        sa.Column("creative_id", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("campaign", sa.String(length=200), nullable=False),
        sa.Column("advertiser", sa.String(length=200), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("withheld", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("entry_id"),
    )
    for column in ("creative_id", "campaign", "advertiser", "ended_at"):
        op.create_index(f"ix_presented_{column}", "presented", [column])


def downgrade() -> None:
    for table in ("presented", "surface", "plan"):
        op.drop_table(table)
