"""The durable path of a decision."""

revision = "decision_path"
down_revision = "campaigns_crud"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
