"""The durable path of a decision: its propensity and its arm."""

import sqlalchemy as sa
from alembic import op

revision = "decision_path"
down_revision = "campaigns_crud"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("decision", sa.Column("propensity", sa.Float(), nullable=True))
    op.add_column("decision", sa.Column("experiment", sa.String(64), nullable=True))
    op.add_column("decision", sa.Column("arm", sa.String(64), nullable=True))


def downgrade() -> None:
    for name in ("arm", "experiment", "propensity"):
        op.drop_column("decision", name)
