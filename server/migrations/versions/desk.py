"""Sessions of the officer's desk."""

import sqlalchemy as sa
from alembic import op

revision = "desk"
down_revision = "requests"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "desk_session",
        sa.Column("session_hash", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session_hash"),
    )
    op.create_index("ix_desk_session_key_id", "desk_session", ["key_id"])


def downgrade() -> None:
    op.drop_index("ix_desk_session_key_id", "desk_session")
    op.drop_table("desk_session")
