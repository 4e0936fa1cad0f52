"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "hpo_experiments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("elapsed_s", sa.Double(), nullable=False),
        sa.Column("ended", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("locked_at", sa.Double(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("commits", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("hpo_experiments_pk")),
        sa.UniqueConstraint("name", name=op.f("hpo_experiments_name_key")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "hpo_models",
        sa.Column("experiment", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ended", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["experiment"], ["hpo_experiments.id"], name=op.f("hpo_models_hpo_experiments_fk")
        ),
        sa.PrimaryKeyConstraint("experiment", "number", name=op.f("hpo_models_pk")),
    )
    op.create_table(
        "hpo_iterations",
        sa.Column("experiment", sa.Integer(), nullable=False),
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("ask_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment", "model"],
            ["hpo_models.experiment", "hpo_models.number"],
            name=op.f("hpo_iterations_hpo_models_fk"),
        ),
        sa.PrimaryKeyConstraint("experiment", "model", "number", name=op.f("hpo_iterations_pk")),
    )
    op.create_table(
        "hpo_points",
        sa.Column("experiment", sa.Integer(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("objectives", sa.Text(), nullable=True),
        sa.Column("metrics", sa.Text(), nullable=True),
        sa.Column("failure_kind", sa.Text(), nullable=True),
        sa.Column("failure_message", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.Column("told", sa.Integer(), nullable=True),
        sa.Column("duplicate_of", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["experiment", "model", "iteration"],
            ["hpo_iterations.experiment", "hpo_iterations.model", "hpo_iterations.number"],
            name=op.f("hpo_points_hpo_iterations_fk"),
        ),
        sa.PrimaryKeyConstraint("experiment", "id", name=op.f("hpo_points_pk")),
    )
    op.create_index("hpo_points_by_model", "hpo_points", ["experiment", "model", "id"], unique=False)
    op.create_index(
        "hpo_points_by_state",
        "hpo_points",
        ["experiment", "state", "model", "failure_kind", "duplicate_of"],
        unique=False,
    )
    op.create_table(
        "hpo_attempts",
        sa.Column("experiment", sa.Integer(), nullable=False),
        sa.Column("point", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("log", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment", "point"],
            ["hpo_points.experiment", "hpo_points.id"],
            name=op.f("hpo_attempts_hpo_points_fk"),
        ),
        sa.PrimaryKeyConstraint("experiment", "point", "attempt", name=op.f("hpo_attempts_pk")),
    )
    op.create_table(
        "hpo_reports",
        sa.Column("experiment", sa.Integer(), nullable=False),
        sa.Column("point", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment", "point"],
            ["hpo_points.experiment", "hpo_points.id"],
            name=op.f("hpo_reports_hpo_points_fk"),
        ),
        sa.PrimaryKeyConstraint("experiment", "point", "attempt", "step", name=op.f("hpo_reports_pk")),
    )
