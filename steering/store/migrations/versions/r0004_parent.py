"""Points that continue an earlier one."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column to the points."""
    op.add_column("hpo_points", sa.Column("parent", sa.Integer(), nullable=True))
