"""Experiments and promotions of policies."""

revision = "experiments"
down_revision = "measurement"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
