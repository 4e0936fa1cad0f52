"""Points that are tried once more, and what the writer is doing."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column to the experiments and one to the points."""
    op.add_column("hpo_experiments", sa.Column("condition", sa.Text(), nullable=True))
    op.add_column("hpo_points", sa.Column("forgiven", sa.Integer(), server_default="0", nullable=False))
