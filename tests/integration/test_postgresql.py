"""The store on a real PostgreSQL that is stopped, killed and started again under it."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from hpo_steer.errors import LockLost, NoSuchRun, RunLocked, RunUnwritable, StoreError, StoreVersion
from steering.store.base import ModelRecord
from steering.store.contract import RUN, done, iteration, point
from steering.store.opening import StoreLocation, open_store
from steering.store.tables import VERSION_TABLE, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from steering.store.base import Store
    from tests.servers.postgresql import PostgresqlServer

pytestmark = pytest.mark.postgresql
_numbers = itertools.count()


@pytest.fixture
def place(postgresql: PostgresqlServer) -> StoreLocation:
    url = postgresql.create_database(f"integration_{next(_numbers)}")
    return StoreLocation(url=url, password=postgresql.password)


@pytest.fixture
def store(place: StoreLocation) -> Iterator[Store]:
    with closing(open_store(place, "digits", create=True)) as store:
        store.lock("here, process 1")
        store.create(RUN, [ModelRecord("m0", 0)])
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(3), [point(n) for n in (1, 2, 3)])
        yield store


def _execute(place: StoreLocation, statement: str) -> None:
    assert place.url is not None
    with psycopg.connect(place.url, password=place.password) as connection:
        connection.execute(statement)


def _end(store: Store, number: int) -> None:
    with store.transaction() as transaction:
        transaction.end_point(done(point(number)))


def _differences(engine: Engine) -> list[object]:
    options = {"version_table": VERSION_TABLE, "compare_type": True}
    try:
        with engine.connect() as connection:
            return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))
    finally:
        engine.dispose()


def test_all_migrations_make_the_tables_of_today(place: StoreLocation, tmp_path: Path) -> None:
    open_store(place, "digits", create=True).close()
    open_store(tmp_path, "digits", create=True).close()
    assert place.url is not None
    url = place.url.replace("postgresql:", "postgresql+psycopg:")
    assert _differences(create_engine(url, connect_args={"password": place.password})) == []
    assert _differences(create_engine(f"sqlite:///{tmp_path}/store.db")) == []


def test_many_experiments_live_in_one_database(place: StoreLocation, store: Store) -> None:
    with closing(open_store(place, "wine", create=True)) as other:
        other.lock("there")
        other.create(RUN.__class__("wine", "w1", {}, 1.0), [ModelRecord("m0", 0)])
        with other.transaction() as transaction:
            transaction.add_iteration(iteration(1), [point(1)])
            transaction.end_point(done(point(1)))
        assert other.counts().done == 1
        other.delete()
        assert other.run() is None
    assert store.points() == [point(n) for n in (1, 2, 3)]
    with pytest.raises(NoSuchRun, match="wine"):
        open_store(place, "wine", create=False)


def test_several_may_make_the_tables_at_once(place: StoreLocation) -> None:
    failed: list[BaseException] = []

    def make(name: str) -> None:
        try:
            with closing(open_store(place, name, create=True)) as store:
                store.create(RUN.__class__(name, "r", {}, 1.0), [])
        except BaseException as exc:  # noqa: BLE001
            failed.append(exc)

    makers = [threading.Thread(target=make, args=(f"run{n}",)) for n in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert failed == []
    with closing(open_store(place, "run3", create=False)) as store:
        assert store.run() is not None


def test_a_restart_is_survived(postgresql: PostgresqlServer, store: Store) -> None:
    postgresql.restart()
    with pytest.raises(StoreError, match="lost") as caught:
        _end(store, 1)
    assert caught.value.transient
    _end(store, 1)
    assert store.points()[0] == done(point(1))


def test_what_was_committed_survives_a_power_cut(
    postgresql: PostgresqlServer, place: StoreLocation, store: Store
) -> None:
    _end(store, 1)
    postgresql.kill()
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match="lost") as caught:
                _end(store, 2)
            assert caught.value.transient
    finally:
        postgresql.start()
    _end(store, 2)
    with closing(open_store(place, "digits", create=False, read_only=True)) as reader:
        assert reader.points() == [done(point(1)), done(point(2)), point(3)]
        store.close()
        with pytest.raises(RunUnwritable, match="read-only"):
            reader.delete()


def test_the_lock_is_free_once_the_connection_is_gone(place: StoreLocation, store: Store) -> None:
    with closing(open_store(place, "digits", create=False)) as second:
        with pytest.raises(RunLocked, match="by here, process 1, since"):
            second.lock("there, process 2")
        _cut(place)
        second.lock("there, process 2")
        with pytest.raises(StoreError, match="lost"):
            _end(store, 1)
        for _ in range(2):
            with pytest.raises(LockLost, match="taken over"):
                _end(store, 1)
        _end(second, 2)
    # The other is gone, but it was here: what this one knows may be out of date.
    with pytest.raises(LockLost, match="taken over"):
        _end(store, 1)


def _cut(place: StoreLocation) -> None:
    """Ends every session that has a lock."""
    _execute(
        place,
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
        "AND mode = 'ExclusiveLock' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )


def test_a_commit_whose_answer_was_lost_is_not_made_twice(place: StoreLocation, store: Store) -> None:
    """The server commits, and the connection ends before it says so."""
    _lose_the_next_answer(store)
    with pytest.raises(StoreError, match="lost") as caught:
        _end(store, 1)
    assert caught.value.transient
    with closing(open_store(place, "digits", create=False, read_only=True)) as reader:
        assert reader.points()[0].state == "done"
    _end(store, 1)
    _end(store, 2)
    _lose_the_next_answer(store)
    with pytest.raises(StoreError, match="lost"):
        _end(store, 3)
    with pytest.raises(StoreError, match="had been made after all"), store.transaction() as transaction:
        transaction.set_run(elapsed_s=1.0)
    assert store.counts().done == 3


def _lose_the_next_answer(store: Store) -> None:
    from sqlalchemy import event

    from steering.store.sql import SqlStore

    assert isinstance(store, SqlStore)
    engine = store._database.engine

    answers = iter(["the next one"])

    def lose(connection: object) -> None:
        if next(answers, None) is None:
            return
        driver = connection.connection.dbapi_connection  # type: ignore[attr-defined]
        driver.execute("COMMIT")
        driver.close()

    event.listen(engine, "commit", lose)


def test_a_newer_or_older_database(place: StoreLocation, store: Store) -> None:
    _execute(place, "UPDATE hpo_version SET version_num = '0099'")
    with pytest.raises(StoreVersion, match="newer hpo-steer"):
        open_store(place, "digits", create=True)
    _execute(place, "DELETE FROM hpo_version")
    with pytest.raises(StoreVersion, match="older hpo-steer"):
        open_store(place, "digits", create=False, read_only=True)
    with pytest.raises(RunLocked, match="other experiments are running"):
        open_store(place, "wine", create=True)
    _end(store, 1)


def test_what_is_wrong_with_a_server_is_said(postgresql: PostgresqlServer, place: StoreLocation) -> None:
    assert place.url is not None
    nowhere = place.url.replace(str(postgresql.port), "1")
    for location, said in (
        (StoreLocation(url=place.url, password="wrong"), "password"),
        (StoreLocation(url=postgresql.database("none"), password=place.password), "does not exist"),
        (StoreLocation(url=nowhere, password="secret word"), "refused"),
    ):
        with pytest.raises(RunUnwritable, match=said) as caught:
            open_store(location, "digits", create=True)
        assert "secret word" not in str(caught.value)


WRITER = """
import itertools, sys
from steering.store.contract import iteration, point
from steering.store.opening import StoreLocation, open_store
store = open_store(StoreLocation(url=sys.argv[1], password=sys.argv[2]), "digits", create=False)
store.lock("the other, process 7")
first = len(store.iterations()) + 1
for number in itertools.count(first):
    points = [point(200 * number + n, iteration=number) for n in range(1, 201)]
    with store.transaction() as transaction:
        transaction.add_iteration(iteration(200, number=number), points)
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_a_whole_store_and_a_free_lock(place: StoreLocation, store: Store) -> None:
    store.close()
    assert place.url is not None
    assert place.password is not None
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, place.url, place.password], stdout=subprocess.PIPE, text=True
        )
        with writer:
            assert writer.stdout is not None
            for _ in range(4):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            said = writer.stdout.read().split()
        acknowledged = int(said[-1]) if said else acknowledged
        with closing(open_store(place, "digits", create=False)) as next_one:
            _lock_soon(next_one)
            iterations = next_one.iterations()
            assert len(iterations) in {acknowledged, acknowledged + 1}
            assert next_one.counts().total == sum(i.size for i in iterations)


def _lock_soon(store: Store) -> None:
    """The server notices within moments that a client has died."""
    import time

    until = time.monotonic() + 10
    while True:
        try:
            return store.lock("me")
        except RunLocked:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
