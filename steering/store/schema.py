"""Makes the tables, and knows which version of them a database holds.

The version is read by plain SQL; Alembic is imported only where tables have to be made or changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from hpo_steer.errors import StoreVersion
from steering.store.tables import VERSION_TABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from steering.store.database import Database

SCHEMA = "0005"
"""The newest revision in ``migrations/versions``."""


def schema_version(connection: Connection) -> str | None:
    """The revision of the tables; None where there are none.

    Revisions are four digits, so that they compare as text.
    """
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return version or "0000"


def refuse_newer(where: str, version: str | None) -> None:
    """Raises StoreVersion where the tables are newer than this program."""
    if version is not None and version > SCHEMA:
        raise StoreVersion(
            f"the store {where} was written by a newer hpo-steer (schema {version}, "
            f"this one knows {SCHEMA}); upgrade hpo-steer"
        )


def upgrade(database: Database) -> None:
    """Makes the tables, or brings them to `SCHEMA`; all of it or nothing."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with database.upgrading() as connection:
        refuse_newer(database.where, schema_version(connection))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
