"""Follow-ups, measurement and its releases."""

revision = "measurement"
down_revision = "picks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
