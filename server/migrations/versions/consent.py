"""Subjects, notices and consent."""

import sqlalchemy as sa
from alembic import op

revision = "consent"
down_revision = "registry"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "subject",
        sa.Column("handle", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.String(length=43), nullable=False),
        sa.Column("app_id", sa.String(length=200), nullable=False),
        sa.Column("age_band", sa.String(length=10), nullable=False),
        sa.Column("jurisdiction", sa.String(length=10), nullable=False),
        sa.Column("created_day", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("handle"),
    )
    op.create_table(
        "notice",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("locale", sa.String(length=10), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("purposes", sa.Text(), nullable=False),
        sa.Column("material", sa.Boolean(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("digest"),
        sa.UniqueConstraint("version", "locale", name="uq_notice_version_locale"),
    )
    op.create_table(
        "consent_event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("receipt_id", sa.String(length=64), nullable=False),
        sa.Column("handle", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=False),
        sa.Column("notice_digest", sa.String(length=64), nullable=False),
        sa.Column("locale", sa.String(length=10), nullable=False),
        sa.Column("surface", sa.String(length=200), nullable=False),
        sa.Column("actor", sa.String(length=20), nullable=False),
        sa.Column("receipt_jws", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["handle"], ["subject.handle"]),
        sa.ForeignKeyConstraint(["notice_digest"], ["notice.digest"]),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("receipt_id"),
    )
    op.create_index("ix_consent_event_handle", "consent_event", ["handle"])
    op.create_table(
        "consent_state",
        sa.Column("handle", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=False),
        sa.Column("notice_digest", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["handle"], ["subject.handle"]),
        sa.ForeignKeyConstraint(["notice_digest"], ["notice.digest"]),
        sa.ForeignKeyConstraint(["seq"], ["consent_event.seq"]),
        sa.PrimaryKeyConstraint("handle", "purpose"),
    )


def downgrade() -> None:
    op.drop_table("consent_state")
    op.drop_index("ix_consent_event_handle", table_name="consent_event")
    op.drop_table("consent_event")
    op.drop_table("notice")
    op.drop_table("subject")
