"""What a store says about files it can't use, and what it leaves alone."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from hpo_steer.errors import (
    ConfigError,
    NoSuchRun,
    RunLocked,
    RunUnwritable,
    StoreDamaged,
    StoreError,
    StoreVersion,
    UserError,
)
from steering.store import migrations
from steering.store.base import ModelRecord, PointRecord
from steering.store.contract import RUN, iteration, point
from steering.store.opening import FILE_NAME, StoreLocation, open_store
from steering.store.schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steering.store.base import Store

VERSION = "UPDATE hpo_version SET version_num = ?"


def revise(url: str, revision: str) -> None:
    """Makes the tables of an earlier revision, as an earlier hpo-steer has left them."""
    config = Config()
    config.set_main_option("script_location", next(iter(migrations.__path__)))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def _made(folder: Path, points: int = 3) -> Path:
    with closing(open_store(folder, "digits", create=True)) as store:
        _fill(store, points)
    return folder / FILE_NAME


def _fill(store: Store, points: int) -> None:
    store.lock("here")
    store.create(RUN, [ModelRecord("m0", 0)])
    with store.transaction() as transaction:
        transaction.add_iteration(iteration(points), [point(n) for n in range(1, points + 1)])


def _execute(file: Path, statement: str, values: Sequence[object] = ()) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement, values)


def test_the_newest_revision_is_the_one_this_program_knows() -> None:
    config = Config()
    config.set_main_option("script_location", next(iter(migrations.__path__)))
    revisions = [r.revision for r in ScriptDirectory.from_config(config).walk_revisions()]
    assert revisions[0] == SCHEMA
    assert all(len(revision) == 4 and revision.isdigit() for revision in revisions)


def test_a_store_is_for_its_owner_only_and_durable(tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "run", "digits", create=True)) as store:
        _fill(store, 1)
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "run").iterdir()}
    assert set(modes) >= {"store.db", "store.db-wal", "store.lock"}
    assert set(modes.values()) == {0o600}
    assert not (tmp_path / "run" / "store.db-wal").exists()
    with closing(sqlite3.connect(tmp_path / "run" / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    file = _made(tmp_path)
    _execute(file, VERSION, ["0099"])
    before = file.read_bytes()
    for create, read_only in ((True, False), (False, False), (False, True)):
        with pytest.raises(StoreVersion, match=f"newer hpo-steer.*0099.*{SCHEMA}.*upgrade"):
            open_store(tmp_path, "digits", create=create, read_only=read_only)
    assert file.read_bytes() == before


def test_an_older_store_is_brought_up_to_date_by_a_writer_only(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    _execute(file, "CREATE TABLE hpo_version (version_num VARCHAR(32) NOT NULL)")
    before = file.read_bytes()
    with pytest.raises(NoSuchRun):
        open_store(tmp_path, "digits", create=False, read_only=True)
    assert file.read_bytes() == before
    with closing(open_store(tmp_path, "digits", create=True)) as store:
        _fill(store, 1)
        assert store.points() == [point(1)]


def test_a_store_of_the_first_revision_is_brought_up_to_date(tmp_path: Path) -> None:
    """With what a run had written into it: nothing of that changes."""
    file = tmp_path / FILE_NAME
    revise(f"sqlite:///{file}", "0001")
    _execute(
        file,
        "INSERT INTO hpo_experiments (id, name, run, config, created_at, elapsed_s, fence, commits) "
        """VALUES (1, 'digits', 'r1', '{"name":"digits"}', 5.0, 7.5, 3, 2)""",
    )
    _execute(file, "INSERT INTO hpo_models (experiment, number, name) VALUES (1, 0, 'm0')")
    _execute(file, "INSERT INTO hpo_iterations VALUES (1, 0, 1, 1, 1, 0, 5.5, 0.25)")
    _execute(
        file, "INSERT INTO hpo_attempts VALUES (1, 1, 1, 'w', 2, 5.5, 6.5, 1.0, 'error', 'boom', 'the log')"
    )
    _execute(
        file,
        "INSERT INTO hpo_points (experiment, id, model, number, iteration, params, hash, state, failure_kind, "
        "failure_message, attempts, lost, created_at, told) "
        """VALUES (1, 1, 0, 0, 1, '{"eta":0.5}', 'h', 'failed', 'error', 'boom', 3, 1, 5.5, 1)""",
    )
    content = file.read_bytes()
    with closing(open_store(tmp_path, "digits", create=False, read_only=True)) as store:
        run, (point,), (tried,) = store.run(), store.points(), store.attempts()
        assert run is not None
        assert (run.run, run.elapsed_s) == ("r1", 7.5)
        assert (point.params, tried.log, tried.gpus) == ({"eta": 0.5}, "the log", ())
    assert file.read_bytes() == content, "those who read work on a copy"
    with closing(open_store(tmp_path, "digits", create=False)) as store:
        run = store.run()
        assert run is not None
        assert (run.run, run.elapsed_s, run.condition) == ("r1", 7.5, None)
        (asked,) = store.iterations()
        assert (asked.ask_s, asked.origin, asked.note) == (0.25, "algorithm", None)
        (tried,) = store.attempts()
        assert (tried.slot, tried.log, tried.gpus) == (2, "the log", ())
        (before,) = store.points()
        assert (before.params, before.attempts, before.lost, before.forgiven) == ({"eta": 0.5}, 3, 1, 0)
        store.lock("here")
        with store.transaction() as transaction:
            transaction.reopen_point(1)
        (after,) = store.points()
        assert (after.state, after.failure, after.forgiven, after.lost) == ("queued", None, 3, 0)


def test_an_older_store_is_not_changed_under_a_writer(tmp_path: Path) -> None:
    with closing(open_store(tmp_path, "digits", create=True)) as store:
        _fill(store, 1)
        _execute(tmp_path / FILE_NAME, "DELETE FROM hpo_version")
        with pytest.raises(RunLocked, match="digits"):
            open_store(tmp_path, "digits", create=True)
        with pytest.raises(StoreVersion, match=r"older hpo-steer.*may be working on it"):
            open_store(tmp_path, "digits", create=False, read_only=True)


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be looked at" * 40, b"SQLite format 3\0" * 99]
)
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(content)
    for create, read_only in ((True, False), (False, False), (False, True)):
        with pytest.raises(StoreDamaged, match=r"store\.db is damaged.*copy.*another name") as caught:
            open_store(tmp_path, "digits", create=create, read_only=read_only)
        assert isinstance(caught.value, (UserError, StoreError))
    assert file.read_bytes() == content


def test_damage_inside_is_told_when_it_is_met(tmp_path: Path) -> None:
    file = _made(tmp_path, points=2000)
    content = bytearray(file.read_bytes())
    content[3 * 4096 : -4096] = os.urandom(len(content) - 4 * 4096)
    file.write_bytes(content)

    def use() -> list[PointRecord]:
        with closing(open_store(tmp_path, "digits", create=False, read_only=True)) as store:
            return store.points()

    with pytest.raises(StoreDamaged, match="damaged"):
        use()


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    _execute(tmp_path / FILE_NAME, "CREATE TABLE theirs (x)")
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StoreDamaged, match="none of hpo-steer's"):
        open_store(tmp_path, "digits", create=True)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_database_without_the_run_is_no_run(tmp_path: Path) -> None:
    open_store(tmp_path, "digits", create=True).close()
    with pytest.raises(NoSuchRun, match="digits"):
        open_store(tmp_path, "digits", create=False)


def test_opening_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoSuchRun, match=r"store\.db does not exist"):
        open_store(tmp_path / "run", "digits", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunUnwritable, match="cannot be made"):
        open_store(tmp_path / "run", "digits", create=True)


@pytest.mark.parametrize(("url", "said"), [("mysql://a@b/c", "mysql"), ("nothing", "no URL")])
def test_other_databases_are_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"{said}.*postgresql://"):
        open_store(url, "digits", create=True)


def test_a_location_is_one_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder"):
        StoreLocation()
    with pytest.raises(ValueError, match="folder"):
        StoreLocation(folder=tmp_path, url="memory")
    assert "secret" not in repr(StoreLocation(url="postgresql://a@b/c", password="secret"))


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    file = _made(tmp_path)
    before = file.read_bytes()
    with closing(open_store(tmp_path, "digits", create=False, read_only=True)) as store:
        assert len(store.points()) == 3
        with pytest.raises(RunUnwritable, match="readonly"):
            store.lock("reader")
    assert file.read_bytes() == before


AS_ANOTHER_USER = """
import os, sys
from contextlib import closing
from pathlib import Path
from hpo_steer.errors import RunUnwritable
from steering.store.opening import open_store
folder = Path(sys.argv[1])
open_store(folder, "digits", create=False).close()  # imports everything while that is still allowed
os.setgroups([])
os.setuid(65534)
with closing(open_store(folder, "digits", create=False, read_only=True)) as store:
    print(len(store.points()))
for create in (False, True):
    try:
        open_store(folder, "digits", create=create).close()
    except RunUnwritable as exc:
        print(exc)
try:
    open_store(folder / "new", "digits", create=True).close()
except RunUnwritable as exc:
    print(exc)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    file = _made(folder)
    file.chmod(0o644)
    ours = [each for each in folder.parents if Path(tempfile.gettempdir()) in each.parents]
    for each in (folder, *ours):
        each.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER_USER, folder],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, *errors = done.stdout.splitlines()
    assert count == "3"
    assert [("cannot be written" in e, "cannot be made" in e) for e in errors] == [
        (True, False), (True, False), (False, True),
    ]  # fmt: skip
    assert {p.name for p in folder.iterdir()} == {"store.db", "store.lock"}


FULL_DISK = """
import resource, sys
from pathlib import Path
from hpo_steer.errors import StoreError
from steering.store.contract import iteration, point
from steering.store.opening import open_store
store = open_store(Path(sys.argv[1]), "digits", create=False)
store.lock("here")
limit = Path(sys.argv[1], "store.db").stat().st_size + 200_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
def more(number):
    first = 1000 * number
    with store.transaction() as transaction:
        points = [point(n, iteration=number + 1) for n in range(first, first + 1000)]
        transaction.add_iteration(iteration(1000, number=number + 1), points)
written = 0
for number in range(1, 30):
    try:
        more(number)
    except StoreError as exc:
        print(type(exc).__name__, exc)
        break
    written += 1000
print(written)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
more(number)
print(store.counts().total)
store.close()
"""


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    _made(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said, written, total = done.stdout.splitlines()
    assert said.startswith("StoreError the")
    assert str(tmp_path) in said
    assert int(total) == int(written) + 1000 + 3
