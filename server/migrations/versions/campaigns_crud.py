"""Campaigns, creatives and placements under review."""

revision = "campaigns_crud"
down_revision = "desk"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
