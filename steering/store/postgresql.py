"""PostgreSQL: one database for many experiments."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from hpo_steer.errors import (
    ConfigError,
    HpoSteerError,
    LockLost,
    MissingExtra,
    RunLocked,
    RunUnwritable,
    StoreError,
)
from steering.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from sqlalchemy.engine import URL
    from sqlalchemy.exc import DBAPIError

UPGRADE_TIMEOUT_S = 10
# A machine that vanished without a word is noticed within a minute, by us and (for its locks) by the server.
_IDLE_S, _INTERVAL_S, _PROBES = 30, 10, 3
_CONNECT = {
    "application_name": "hpo-steer",
    "connect_timeout": "10",
    "keepalives_idle": str(_IDLE_S),
    "keepalives_interval": str(_INTERVAL_S),
    "keepalives_count": str(_PROBES),
    "client_encoding": "utf8",
}
# Advisory locks are numbers; these come from the names, apart for each schema of the database.
_RUN_LOCK = "hashtextextended('hpo-steer run ' || current_schema() || ' ' || :name, 0)"
_TABLES_LOCK = "hashtextextended('hpo-steer tables ' || current_schema(), 0)"


class Postgresql(Database):
    """A PostgreSQL database.

    The lock of the one writer is an advisory lock of the very connection that writes: where the connection
    breaks, the server frees the lock, and nothing can be written any more without taking it again.

    Args:
        url: ``postgresql://user@host/database``.
        password: of the user.
        name: of the experiment that is to be locked.
        read_only: every transaction is one that only reads.

    Raises:
        ConfigError: the URL is none, or not one of PostgreSQL.
        MissingExtra: psycopg is not installed.
    """

    def __init__(self, url: str, password: str | None, name: str, *, read_only: bool = False) -> None:
        parsed = _parsed(url)
        self.where = parsed.set(drivername="postgresql", password=None, query={}).render_as_string()
        self.insert = insert
        self._name = name
        self._locked: Connection | None = None
        self._reached = False
        if password is not None:
            parsed = parsed.set(password=password)
        options: dict[str, Any] = {"postgresql_readonly": True} if read_only else {}
        try:
            self.engine = create_engine(parsed, pool_pre_ping=True, execution_options=options)
        except ModuleNotFoundError as exc:
            raise MissingExtra("a store in PostgreSQL", "postgres") from exc
        event.listen(self.engine, "connect", self._has_reached)

    def _has_reached(self, *_: object) -> None:
        self._reached = True

    def claim(self) -> bool:
        """Takes the advisory lock of the experiment's name, and a shared one on the tables."""
        with self.translated():
            connection = self.engine.connect()
            try:
                # A plan kept from when the tables were empty goes through all points for every one that ends.
                connection.exec_driver_sql("SET plan_cache_mode = force_custom_plan")
                connection.exec_driver_sql(
                    f"SET tcp_keepalives_idle = {_IDLE_S}; SET tcp_keepalives_interval = {_INTERVAL_S}; "
                    f"SET tcp_keepalives_count = {_PROBES}; SET idle_in_transaction_session_timeout = 0"
                )
                got = connection.execute(
                    text(f"SELECT pg_try_advisory_lock({_RUN_LOCK})"), {"name": self._name}
                ).scalar()
                if got:
                    connection.execute(text(f"SELECT pg_advisory_lock_shared({_TABLES_LOCK})"))
                    connection.commit()
                    self._locked = connection
                return bool(got)
            finally:
                if self._locked is not connection:
                    _drop(connection)

    def claimed(self, connection: Connection) -> bool:
        """Looks for the advisory lock among those the server lists."""
        return bool(
            connection.execute(
                text(
                    f"WITH key AS (SELECT {_RUN_LOCK} AS id) SELECT count(*) FROM pg_locks, key WHERE "  # noqa: S608
                    "locktype = 'advisory' AND granted AND objsubid = 1 AND database = "
                    "(SELECT oid FROM pg_database WHERE datname = current_database()) AND "
                    "((classid::bigint << 32) | objid::bigint) = key.id"
                ),
                {"name": self._name},
            ).scalar()
        )

    def release(self) -> None:
        """Closes the connection that has the lock."""
        if self._locked is not None:
            _drop(self._locked)
            self._locked = None

    @contextmanager
    def writer(self) -> Iterator[Connection]:
        """The connection that has the lock, which is taken again after a connection was lost.

        Raises:
            LockLost: another steering has it now.
        """
        if self._locked is None:
            with self.engine.connect() as connection:
                yield connection
            return
        if self._locked.invalidated:
            lost = self._locked
            if not self.claim():
                raise LockLost(
                    f"{self._name} was taken over by another steering process while the connection was lost"
                )
            _drop(lost)
        yield self._locked

    @contextmanager
    def upgrading(self) -> Iterator[Connection]:
        """Waits a while for others that make the tables; experiments that run keep them as they are.

        Raises:
            RunLocked: experiments are running on these tables.
        """
        with self.writing() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{UPGRADE_TIMEOUT_S}s'")
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_TABLES_LOCK})"))
            yield connection

    def error(self, exc: DBAPIError) -> HpoSteerError:
        """By the server's own code of the error (SQLSTATE)."""
        state = getattr(exc.orig, "sqlstate", None) or ""
        reason = str(exc.orig).strip().splitlines()[0] if str(exc.orig).strip() else type(exc.orig).__name__
        if not self._reached:
            return RunUnwritable(f"the store {self.where} cannot be used: {reason}")
        if state == "55P03":
            return RunLocked(
                f"the tables of {self.where} have to be changed for this version of hpo-steer, and other "
                "experiments are running on them: start again when they have ended"
            )
        if state in {"42501", "25006"}:
            return RunUnwritable(f"the store {self.where} cannot be written: {reason}")
        if state == "53100":
            return StoreError(f"the disk of the store {self.where} is full: {reason}")
        if exc.connection_invalidated or not state or state.startswith(("08", "57P")):
            return StoreError(f"the connection to the store {self.where} was lost: {reason}", transient=True)
        busy = state in {"40001", "40P01"}  # serialization failure, deadlock
        return StoreError(f"the store {self.where} failed: {reason}", transient=busy)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise ConfigError("store.url", "is no URL; expected postgresql://user@host/database") from exc
    if parsed.drivername not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise ConfigError(
            "store.url", f"can't be {parsed.drivername}://; expected postgresql://user@host/database"
        )
    return parsed.set(drivername="postgresql+psycopg", query={**_CONNECT, **parsed.query})


def _drop(connection: Connection) -> None:
    """Ends the session, and with it its locks, instead of giving the connection back to the pool."""
    connection.invalidate()
    connection.close()
