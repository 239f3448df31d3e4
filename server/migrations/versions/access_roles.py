"""Key holders, rotation, nonces, idempotency. Keys of devices go: a device signs what it asks."""

import sqlalchemy as sa
from alembic import op

revision = "access_roles"
down_revision = "consent_states"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM api_key WHERE subject IS NOT NULL")
    with op.batch_alter_table("api_key") as table:
        table.drop_column("subject")
        table.add_column(sa.Column("holder", sa.String(length=64), nullable=False, server_default=""))
        table.add_column(sa.Column("lineage", sa.String(length=64), nullable=False, server_default=""))
        table.add_column(sa.Column("scopes", sa.String(length=2000), nullable=False, server_default=""))
        table.add_column(sa.Column("last_used_day", sa.Integer(), nullable=True))
    op.execute("UPDATE api_key SET holder = key_id, lineage = key_id")
    with op.batch_alter_table("api_key") as table:
        for name, length in (("holder", 64), ("lineage", 64), ("scopes", 2000)):
            table.alter_column(
                name, existing_type=sa.String(length=length), existing_nullable=False, server_default=None
            )
    op.create_table(
        "request_nonce",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("ix_request_nonce_expires_at", "request_nonce", ["expires_at"])
    op.create_table(
        "kept_answer",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=True),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("ix_kept_answer_expires_at", "kept_answer", ["expires_at"])
    op.create_index("ix_kept_answer_subject", "kept_answer", ["subject"])


def downgrade() -> None:
    op.drop_table("kept_answer")
    op.drop_table("request_nonce")
    with op.batch_alter_table("api_key") as table:
        for name in ("last_used_day", "scopes", "lineage", "holder"):
            table.drop_column(name)
        table.add_column(sa.Column("subject", sa.String(length=64), nullable=True))
        table.create_foreign_key("fk_api_key_subject", "subject", ["subject"], ["handle"])
