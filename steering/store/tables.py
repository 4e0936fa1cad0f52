"""The tables of the store.

Every row carries the number of its experiment, so that one PostgreSQL database holds many. JSON is kept as
text that `json` wrote: floats come back exactly, ``1.0`` stays a float, and a metric may be NaN, which no
database's own JSON type allows.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

VERSION_TABLE = "hpo_version"

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(referred_table_name)s_fk",
        "uq": "%(table_name)s_%(column_0_name)s_key",
    }
)

experiments = Table(
    "hpo_experiments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("run", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("elapsed_s", Double, nullable=False),
    Column("ended", Text),
    Column("ended_at", Double),
    # The writer: who it is, its fencing number, and how many transactions all writers have committed.
    Column("owner", Text),
    Column("locked_at", Double),
    Column("fence", Integer, nullable=False),
    Column("commits", Integer, nullable=False),
    Column("condition", Text),  # what the writer is doing, for those who only read
    sqlite_autoincrement=True,  # the number of a deleted experiment never comes back
)

models = Table(
    "hpo_models",
    metadata,
    Column("experiment", ForeignKey(experiments.c.id), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("ended", Text),
)

iterations = Table(
    "hpo_iterations",
    metadata,
    Column("experiment", Integer, primary_key=True),
    Column("model", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("wanted", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("told", Integer, nullable=False),
    Column("asked_at", Double, nullable=False),
    Column("ask_s", Double, nullable=False),
    Column("origin", Text, nullable=False, server_default="algorithm"),
    Column("note", Text),
    ForeignKeyConstraint(["experiment", "model"], [models.c.experiment, models.c.number]),
)

points = Table(
    "hpo_points",
    metadata,
    Column("experiment", Integer, primary_key=True),
    Column("id", Integer, primary_key=True),
    Column("model", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("iteration", Integer, nullable=False),
    Column("params", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("objectives", Text),
    Column("metrics", Text),
    Column("failure_kind", Text),
    Column("failure_message", Text),
    Column("attempts", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
    Column("worker", Text),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("duration_s", Double),
    Column("told", Integer),
    Column("duplicate_of", Integer),
    Column("forgiven", Integer, nullable=False, server_default="0"),
    Column("parent", Integer),
    ForeignKeyConstraint(
        ["experiment", "model", "iteration"],
        [iterations.c.experiment, iterations.c.model, iterations.c.number],
    ),
)
# A model's points by id; and, read without the table, the counts of all states.
Index("hpo_points_by_model", points.c.experiment, points.c.model, points.c.id)
Index(
    "hpo_points_by_state",
    points.c.experiment,
    points.c.state,
    points.c.model,
    points.c.failure_kind,
    points.c.duplicate_of,
)

attempts = Table(
    "hpo_attempts",
    metadata,
    Column("experiment", Integer, primary_key=True),
    Column("point", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("worker", Text),
    Column("slot", Integer, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("duration_s", Double),
    Column("outcome", Text),
    Column("message", Text, nullable=False),
    Column("log", Text, nullable=False),
    Column("gpus", Text),
    ForeignKeyConstraint(["experiment", "point"], [points.c.experiment, points.c.id]),
)

reports = Table(
    "hpo_reports",
    metadata,
    Column("experiment", Integer, primary_key=True),
    Column("point", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("metrics", Text, nullable=False),
    Column("at", Double, nullable=False),
    ForeignKeyConstraint(["experiment", "point"], [points.c.experiment, points.c.id]),
)

# Children before their parents, the order in which an experiment is deleted.
OF_AN_EXPERIMENT = (reports, attempts, points, iterations, models)
