"""Files that are not what they should be: a clear sentence, and nothing overwritten."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.program import EVALUATE, Project, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers.rabbitmq import RabbitNode


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to be copied."""
    folder: Path = tmp_path_factory.mktemp("finished") / "project"
    Project(folder, steering={"max_points": 6}).steer()
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Project:
    """A copy of the finished run, of which more is wanted."""
    shutil.copytree(finished, tmp_path / "project", ignore=shutil.ignore_patterns("points", "logs"))
    return Project(tmp_path / "project", steering={"max_points": 12})


def _newer(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE hpo_version SET version_num = '0099'")


def _header(store: Path) -> None:
    with store.open("r+b") as file:
        file.write(b"\xff" * 100)


def _pages(store: Path) -> None:
    data = bytearray(store.read_bytes())
    data[2 * 4096 :] = os.urandom(len(data) - 2 * 4096)
    store.write_bytes(data)


def _truncated(store: Path) -> None:
    os.truncate(store, store.stat().st_size // 2)


def _folder(store: Path) -> None:
    store.unlink()
    store.mkdir()


def _another(store: Path) -> None:
    store.unlink()
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (_newer, "newer hpo-steer"),
    (_header, "damaged"),
    (_pages, "damaged"),
    (_truncated, "damaged"),
    (_folder, "is a folder"),
    (_another, "none of hpo-steer's"),
]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES, ids=[d.__name__.strip("_") for d, _ in DAMAGES])
def test_a_store_that_cannot_be_used(project: Project, damage: Callable[[Path], None], sentence: str) -> None:
    """Neither a run nor a look at it changes a byte."""
    store = project.folder / "runs" / "demo" / "store.db"
    damage(store)
    before = store.read_bytes() if store.is_file() else b""
    for arguments in (("--config", "config.yaml", "--extend"), ("points", "--config", "config.yaml")):
        out, err = project.run(*arguments, code=2)
        assert sentence in err, err
        assert "Traceback" not in out + err
        assert err.strip().count("\n") == 0, err
    assert (store.read_bytes() if store.is_file() else b"") == before


def test_a_store_of_another_run_in_this_runs_folder(project: Project, tmp_path: Path) -> None:
    """The run inside counts, not the folder's name."""
    other = Project(tmp_path / "other", name="other", steering={"max_points": 3})
    other.steer()
    mine = project.folder / "runs" / "demo" / "store.db"
    shutil.copy(tmp_path / "other" / "runs" / "other" / "store.db", mine)
    before = mine.read_bytes()
    _, err = project.steer("--extend", code=2)
    assert "other" in err, err
    assert err.strip().count("\n") == 0, err
    assert mine.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b'{"name": "demo", "ru', b"[]", b"\xff\xfe", b'{"name": 7}'])
def test_a_damaged_card_is_written_anew(project: Project, content: bytes) -> None:
    """The card only repeats what the config and the store say."""
    card = project.folder / "runs" / "demo" / "run.json"
    card.write_bytes(content)
    for command in ("points", "status"):
        for arguments in (("demo",), ("--config", "config.yaml")):
            process = project.start(command, *arguments)
            out, err = process.communicate(timeout=60)
            assert process.returncode in (0, 2), out + err
            assert "Traceback" not in out + err
    if not content:
        project.steer("--extend")
        assert json.loads(card.read_text())["name"] == "demo"
        assert len(project.points()) == 12


def test_a_write_ahead_log_left_by_a_kill_is_read(tmp_path: Path) -> None:
    """What was committed and is only in the log counts, also for those that read."""
    project = Project(tmp_path, gated=True)
    project.let_through(4)
    process = project.start("--config", "config.yaml")
    wait_for(lambda: project.ended() == 4, what="four points")
    process.kill()
    process.communicate()
    project.open_gate()
    store = tmp_path / "runs" / "demo" / "store.db"
    assert store.with_name("store.db-wal").stat().st_size > 0
    done = [p for p in project.points() if p["state"] == "done"]
    assert len(done) == 4
    project.steer()
    after = {p["id"]: p["values"] for p in project.points()}
    assert all(after[p["id"]] == p["values"] for p in done)


@pytest.mark.rabbitmq
def test_a_spool_full_of_rubbish(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """The worker says what it cannot read, keeps it, and goes to work."""
    url = f"amqp://guest@127.0.0.1:{rabbitmq.port}/"
    project = Project(
        tmp_path, name="rubbish", broker=url, evaluation={"workers": 0}, steering={"max_points": 6}
    )
    env = {"HPO_STEER_BROKER_PASSWORD": "guest"}
    dead = tmp_path / "work" / "rubbish" / "spool" / "host-1-abc"
    dead.mkdir(parents=True)
    whole = {
        "type": "result", "protocol": 1, "experiment": "another", "run": "r", "worker": "w", "at": 1.0,
        "point": 1, "attempt": 1, "metrics": {"loss": -5.0}, "started_at": 0.0, "duration_s": 1.0,
    }  # fmt: skip
    (dead / "r-1-1.json").write_text(json.dumps(whole)[:60])
    (dead / "r-2-1.json").write_bytes(b"")
    (dead / "r-3-1.json").mkdir()
    (dead / "r-4-1.json").write_text(json.dumps({**whole, "log": "x" * 3_000_000}))
    (dead / "r-5-1.json").write_bytes(b"\xff\x00" * 50)
    worker = project.start("--config", "config.yaml", "--work-dir", "work", program=EVALUATE, env=env)
    try:
        project.steer(env=env)
        assert [p["state"] for p in project.points()] == ["done"] * 6
    finally:
        worker.terminate()
        out, err = worker.communicate(timeout=30)
    assert worker.returncode == 0, err
    err += out
    assert err.count("cannot be read and is set aside") == 5, err
    aside = sorted(path.name for path in dead.parent.glob("*.damaged"))
    assert aside == [f"host-1-abc-r-{n}-1.json.damaged" for n in range(1, 6)]
