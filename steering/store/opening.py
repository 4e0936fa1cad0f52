"""Opens the store of an experiment, wherever it lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from hpo_steer.errors import NoSuchRun, RunLocked, StoreDamaged, StoreVersion
from steering.store.database import Database
from steering.store.schema import SCHEMA, refuse_newer, schema_version, upgrade
from steering.store.sql import SqlStore
from steering.store.tables import experiments

if TYPE_CHECKING:
    from steering.store.base import Store

FILE_NAME = "store.db"
MEMORY = "memory"


@dataclass(frozen=True)
class StoreLocation:
    """Where a store lies: exactly one of the two.

    Attributes:
        folder: the run's own folder; the database is the file `FILE_NAME` in it.
        url: ``postgresql://user@host/database``, or ``memory``.
        password: of the URL's user; kept out of the URL, so that it is never printed.
    """

    folder: Path | None = None
    url: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.folder is None) == (self.url is None):
            raise ValueError("a store lies in a folder or behind a URL")


def open_store(
    where: StoreLocation | Path | str, name: str, *, create: bool, read_only: bool = False
) -> Store:
    """Opens the store of an experiment.

    Tables are made where there are none, and brought to this program's version where they are older.

    Args:
        where: its place; a path is a run's folder, a string a URL or ``memory``.
        name: of the experiment.
        create: make the database where there is none; the run itself is made by `Store.create`.
        read_only: for programs that only read: they change nothing, not even the version of the tables.

    Raises:
        NoSuchRun: there is none of this name, and `create` is false.
        RunUnwritable: the folder or the database cannot be written, or no server answers.
        RunLocked: the tables are older, and a steering that works on them is running.
        StoreDamaged: the file is no database, or a broken one.
        StoreVersion: a newer hpo-steer wrote it; or an older one, it is opened for reading only, and steering is
            working on it or it is on a server, so that no copy of it can be read.
    """
    if isinstance(where, Path):
        where = StoreLocation(folder=where)
    elif isinstance(where, str):
        where = StoreLocation(url=where)
    if where.folder is not None and not create and not (where.folder / FILE_NAME).exists():
        raise NoSuchRun(f'there is no run named "{name}": {where.folder / FILE_NAME} does not exist')
    database = _database(where, name, read_only=read_only)
    try:
        database = _bring_to_schema(database, name, create=create, read_only=read_only)
        store = SqlStore(database, name)
        known = store.run() is not None
        if not known and where.folder is not None:
            _refuse_anothers(database, name)
        if create or known:
            return store
    except BaseException:
        database.close()
        raise
    database.close()
    raise NoSuchRun(f'there is no run named "{name}" in {database.where}')


def _database(where: StoreLocation, name: str, *, read_only: bool) -> Database:
    from steering.store.sqlite import SqliteFile, SqliteMemory

    if where.folder is not None:
        return SqliteFile(where.folder / FILE_NAME, read_only=read_only)
    if where.url == MEMORY:
        return SqliteMemory(name)
    from steering.store.postgresql import Postgresql

    return Postgresql(str(where.url), where.password, name, read_only=read_only)


def _bring_to_schema(database: Database, name: str, *, create: bool, read_only: bool) -> Database:
    """Brings a database to `SCHEMA`, or takes a copy of it in its place."""
    with database.reading() as connection:
        version = schema_version(connection)
        if version is None and not database.may_hold_ours(connection):
            raise StoreDamaged(
                f"{database.where} is a database, but none of hpo-steer's; nothing in it was changed"
            )
    refuse_newer(database.where, version)
    if version == SCHEMA:
        return database
    if version is None:
        if read_only or not create:
            raise NoSuchRun(f'there is no run named "{name}" in {database.where}')
        upgrade(database)
    elif read_only:
        return _upgraded_copy(database, version)
    else:
        _upgrade_alone(database, name)
    return database


def _upgraded_copy(database: Database, version: str) -> Database:
    copy = database.copied()
    if copy is None:
        raise StoreVersion(
            f"the store {database.where} was written by an older hpo-steer (schema {version}, this one reads "
            f"{SCHEMA}), which may be working on it; running the experiment again with this one brings it up to date"
        )
    database.close()
    try:
        upgrade(copy)
    except BaseException:
        copy.close()
        raise
    return copy


def _refuse_anothers(database: Database, name: str) -> None:
    """A run's own folder holds that run and no other."""
    with database.reading() as connection:
        other = connection.execute(select(experiments.c.name).limit(1)).scalar()
    if other is not None:
        raise StoreDamaged(
            f'the store {database.where} holds the run "{other}" and not "{name}"; nothing in it was changed: '
            "put the right file in its place, or start anew under another name"
        )


def _upgrade_alone(database: Database, name: str) -> None:
    if not database.claim():
        raise RunLocked(
            f"{name} is being run by an older hpo-steer, and its store {database.where} has to be changed "
            "for this one: start again when it has ended"
        )
    try:
        upgrade(database)
    finally:
        database.release()
