"""The GPUs that an attempt had."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column to the attempts."""
    op.add_column("hpo_attempts", sa.Column("gpus", sa.Text(), nullable=True))
