"""What a kind of database has to know for the store to live in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hpo_steer.errors import HpoSteerError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine, Table


class Database(ABC):
    """An open database: connections, the lock of the one writer, and its errors in our words.

    Attributes:
        where: the file or the URL, without a password, as messages name it.
        engine: SQLAlchemy's.
        insert: the dialect's INSERT, which knows ON CONFLICT.
    """

    where: str
    engine: Engine
    insert: Callable[[Table], Any]

    @abstractmethod
    def claim(self) -> bool:
        """Takes the lock, which ends with this process; False where another process (or store) has it."""

    @abstractmethod
    def claimed(self, connection: Connection) -> bool:
        """Whether somebody has the lock at this moment, as a connection that reads can see."""

    @abstractmethod
    def release(self) -> None:
        """Gives the lock back, if it is held."""

    @abstractmethod
    def upgrading(self) -> AbstractContextManager[Connection]:
        """A context: a transaction in which the schema may be changed, and nobody else changes it."""

    @abstractmethod
    def error(self, exc: DBAPIError) -> HpoSteerError:
        """What the driver's error means to the user."""

    @abstractmethod
    def writer(self) -> AbstractContextManager[Connection]:
        """A context: the connection that writes, no transaction begun."""

    def may_hold_ours(self, connection: Connection) -> bool:  # noqa: ARG002
        """Whether our tables may be made beside those that are there."""
        return True

    def copied(self) -> Database | None:
        """A copy in memory, which may be changed, of one that nobody is writing; None if there can be none."""
        return None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes; it is committed when the block ends."""
        with self.translated(), self.writer() as connection, connection.begin():
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that reads one state of the database."""
        with self.translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of the database leave the block as errors of ours."""
        try:
            yield
        except DBAPIError as exc:
            raise self.error(exc) from exc
        except SQLAlchemyError as exc:
            raise StoreError(f"the store {self.where} failed: {exc}") from exc

    def close(self) -> None:
        """Gives the lock back and closes every connection. May be called twice."""
        self.release()
        self.engine.dispose()
