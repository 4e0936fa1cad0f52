"""Who chose the points of an iteration, and what the algorithm had to say of them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds two columns to the iterations."""
    op.add_column(
        "hpo_iterations", sa.Column("origin", sa.Text(), server_default="algorithm", nullable=False)
    )
    op.add_column("hpo_iterations", sa.Column("note", sa.Text(), nullable=True))
