"""Private picks and their charges."""

revision = "picks"
down_revision = "decision_path"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
