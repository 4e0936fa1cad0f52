"""SQLite: a file in the run's folder, or nothing but memory."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
import uuid
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.pool import QueuePool

from hpo_steer.errors import HpoSteerError, RunUnwritable, StoreDamaged, StoreError
from steering.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.exc import DBAPIError

BUSY_TIMEOUT_S = 30.0
_CLAIMS, _CLAIM_AGAIN_S = 5, 0.02


class Sqlite(Database):
    """What a file and memory have in common.

    Args:
        where: how messages name the database.
        uri: SQLite's.
        pragmas: set on every connection.
    """

    def __init__(self, where: str, uri: str, pragmas: tuple[str, ...]) -> None:
        self.where, self.insert = where, insert
        self._uri, self._pragmas = uri, ("foreign_keys = ON", *pragmas)
        self.engine = create_engine("sqlite://", creator=self._connect, poolclass=QueuePool)
        # The driver begins transactions late and by rules of its own; here they begin when SQLAlchemy says
        # so, and one that will write takes the write lock at once, so that it never fails half-way.
        event.listen(self.engine, "begin", _begin)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in self._pragmas:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def writer(self) -> Iterator[Connection]:
        """A connection whose transactions take the write lock when they begin."""
        with self.engine.connect() as connection:
            yield connection.execution_options(begin="BEGIN IMMEDIATE")

    def may_hold_ours(self, connection: Connection) -> bool:
        """A file with other tables in it is somebody else's."""
        return not connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()

    @contextmanager
    def upgrading(self) -> Iterator[Connection]:
        """The write lock keeps everybody else out."""
        with self.writing() as connection:
            yield connection

    def error(self, exc: DBAPIError) -> HpoSteerError:
        """By SQLite's own code of the error."""
        code = getattr(exc.orig, "sqlite_errorcode", 0) & 0xFF
        where = self.where
        match code:
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                return StoreDamaged(
                    f"the store {where} is damaged ({exc.orig}); nothing in it was changed: "
                    "put a copy of it in its place, or start anew under another name"
                )
            case (
                sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_AUTH
            ):
                return RunUnwritable(f"the store {where} cannot be opened or written ({exc.orig})")
            case sqlite3.SQLITE_FULL:
                return StoreError(
                    f"the disk of the store {where} is full; what was committed is safe: free some space, "
                    "and the same command carries on",
                    transient=True,
                )
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StoreError(
                    f"another program kept the store {where} locked for {BUSY_TIMEOUT_S:g} s; "
                    "close it and start again",
                    transient=True,
                )
        return StoreError(f"the store {where} failed: {exc.orig}")


def _begin(connection: Connection) -> None:
    if begin := connection.get_execution_options().get("begin", "BEGIN"):
        connection.exec_driver_sql(begin)


class SqliteFile(Sqlite):
    """A database file, in WAL mode: readers read while the writer writes.

    A commit waits for the disk (``synchronous = FULL``), so that what was acknowledged survives a power cut.
    The lock of the one writer is an `flock` on a file beside it, which the system gives back however the
    process ends.

    Args:
        path: of the file; it is made, for its owner only, unless `read_only`.
        read_only: never writes, not even to make the file.

    Raises:
        RunUnwritable: the file cannot be made.
        StoreDamaged: it is a folder.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        if path.is_dir():
            raise StoreDamaged(f"the store {path} is a folder, and no database; nothing in it was changed")
        self._lock_path = path.with_suffix(".lock")
        self._lock: int | None = None
        self._path, self._file = path.absolute(), None if read_only else _made(path)
        uri = f"file:{quote(str(path.absolute()))}"
        if read_only:
            # A finished store on a read-only medium has no WAL, and SQLite couldn't make one.
            frozen = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
            super().__init__(str(path), uri + ("?mode=ro&immutable=1" if frozen else "?mode=ro"), ())
            return
        super().__init__(str(path), uri + "?mode=rw", ("synchronous = FULL",))

    @contextmanager
    def writer(self) -> Iterator[Connection]:
        """See `Sqlite.writer`.

        Raises:
            StoreError: the file that was opened is no longer there; to write on would be to write to nowhere.
        """
        if self._file is not None and _identity(self._path) != self._file:
            raise StoreError(
                f"the store {self.where} was removed or replaced while the experiment ran, and nothing more is "
                "written: put the file back and start again; without it the same command begins anew"
            )
        with super().writer() as connection:
            yield connection

    @contextmanager
    def upgrading(self) -> Iterator[Connection]:
        """Sets WAL mode too, which stays in the file; earlier, it might be somebody else's."""
        with self.translated(), self.engine.connect() as connection:
            connection.execution_options(begin=None).exec_driver_sql("PRAGMA journal_mode = WAL")
        with super().upgrading() as connection:
            yield connection

    def claimed(self, connection: Connection) -> bool:  # noqa: ARG002 - the file tells
        """Asks the lock file; for so short a moment that `claim` only has to try once more."""
        try:
            lock = os.open(self._lock_path, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(lock)
        return False

    def copied(self) -> Database | None:
        """See `Database.copied`."""
        with self.reading() as connection:
            if self.claimed(connection):
                return None
        copy = SqliteMemory(f"{self.where} {uuid.uuid4()}")
        copy.where = self.where
        with closing(self._connect()) as file:
            file.backup(copy.kept)
        return copy

    def claim(self) -> bool:
        """Locks the lock file."""
        for _ in range(_CLAIMS):  # somebody may just be looking whether it is locked
            if self._claim():
                return True
            time.sleep(_CLAIM_AGAIN_S)
        return False

    def _claim(self) -> bool:
        try:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise RunUnwritable(f"the lock file {self._lock_path} cannot be made: {exc.strerror}") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        except OSError as exc:
            os.close(lock)
            raise RunUnwritable(
                f"the file system of {self._lock_path} cannot lock files ({exc.strerror}): "
                "put the run on a local disk"
            ) from exc
        self._lock = lock
        return True

    def release(self) -> None:
        """Unlocks the lock file; it stays, since removing it would let two processes lock two files."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _made(path: Path) -> tuple[int, int] | None:
    """Makes the file if need be; returns its identity."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as exc:
        raise RunUnwritable(f"the store {path} cannot be made: {exc.strerror}") from exc
    if not os.access(path, os.R_OK | os.W_OK):
        raise RunUnwritable(f"the store {path} cannot be written by this user")
    return _identity(path)


class SqliteMemory(Sqlite):
    """A database in memory, which lives as long as one store of its name is open in this process.

    Args:
        name: stores of one name in one process share their data.

    Attributes:
        kept: a connection that is there until it is closed.
    """

    def __init__(self, name: str) -> None:
        uri = f"file:/{quote(name, safe='')}"
        super().__init__("memory", f"{uri}?vfs=memdb", ())
        self._lock_uri = f"{uri}.lock?vfs=memdb"
        self._lock: sqlite3.Connection | None = None
        self.kept = self._connect()

    def claimed(self, connection: Connection) -> bool:  # noqa: ARG002 - another database tells
        """Tries to lock the second database."""
        if self._lock is not None:
            return True
        claimed = not self.claim()
        self.release()
        return claimed

    def claim(self) -> bool:
        """Keeps a second database locked, as there is no file."""
        lock = sqlite3.connect(
            self._lock_uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            lock.close()
            return False
        self._lock = lock
        return True

    def release(self) -> None:
        """Closes the second database."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def close(self) -> None:
        """The data is gone when the last store of this name is closed."""
        super().close()
        self.kept.close()
