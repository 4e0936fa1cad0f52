"""Checkpoints as snapshots, archives and entries in a store."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from evaluation.checkpoints import job as jobs
from evaluation.checkpoints import snapshot as snapshots
from evaluation.checkpoints.archive import Reader, Writer, pack, unpack
from evaluation.checkpoints.carrier import Carrier
from evaluation.checkpoints.folder import PointFolder
from evaluation.checkpoints.job import Job
from evaluation.checkpoints.keeper import Keeper
from evaluation.checkpoints.snapshot import TooLarge, Unsettled, look, snapshot
from evaluation.checkpoints.store import CheckpointStore
from hpo_steer.config.checkpoint import Checkpoint
from hpo_steer.errors import CheckpointError, ConfigError
from hpo_steer.messages import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANY = 10**9


def nothing() -> None:
    pass


def folder(path: Path) -> Path:
    """A checkpoint with all that one may hold."""
    (path / "deep/empty").mkdir(parents=True)
    (path / "model.pt").write_bytes(os.urandom(2_500_000))
    (path / "deep/a b ü.txt").write_text("text")
    (path / "deep/run.sh").write_text("#!/bin/sh\n")
    (path / "deep/run.sh").chmod(0o755)
    (path / "latest").symlink_to("model.pt")
    (path / "half.tmp").write_text("not yet")
    return path


def packed(path: Path) -> tuple[bytes, str]:
    file = io.BytesIO()
    writer = Writer(file, nothing)
    with snapshot(path, MANY) as (copy, marks):
        pack(copy, marks, writer)
    assert writer.size == len(file.getvalue())
    return file.getvalue(), writer.sha256


def tree(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in sorted(path.rglob("*")):
        name = str(each.relative_to(path))
        if each.is_symlink():
            found[name] = str(each.readlink())
        elif each.is_dir():
            found[name] = None
        else:
            found[name] = (each.read_bytes(), stat.S_IMODE(each.stat().st_mode), int(each.stat().st_mtime))
    return found


def test_a_checkpoint_comes_out_as_it_went_in(tmp_path: Path) -> None:
    source = folder(tmp_path / "checkpoint")
    data, sha256 = packed(source)
    reader = Reader(io.BytesIO(data), len(data), nothing)
    unpack(reader, tmp_path / "out")
    assert reader.sha256 == sha256
    expected = tree(source)
    del expected["half.tmp"]
    assert tree(tmp_path / "out") == expected
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "snapshots are gone"


def test_a_snapshot_stays_while_the_training_replaces_its_files(tmp_path: Path) -> None:
    source = tmp_path / "checkpoint"
    source.mkdir()
    (source / "model").write_text("one")
    with snapshot(source, MANY) as (copy, marks):
        (source / "new").write_text("second")
        (source / "new").rename(source / "model")
        target = io.BytesIO()
        pack(copy, marks, Writer(target, nothing))
    with tarfile.open(fileobj=io.BytesIO(target.getvalue())) as tar:
        file = tar.extractfile("model")
        assert file is not None
        assert file.read() == b"one"


@pytest.mark.parametrize("text", ["longer than before", "o", "two"])
def test_a_file_that_is_written_in_place_is_not_saved(tmp_path: Path, text: str) -> None:
    source = tmp_path / "checkpoint"
    source.mkdir()
    (source / "model").write_text("one")
    os.utime(source / "model", (1, 1))
    with snapshot(source, MANY) as (copy, marks):
        (source / "model").write_text(text)
        with pytest.raises(Unsettled, match="model was written to while it was saved"):
            pack(copy, marks, Writer(io.BytesIO(), nothing))


def test_a_folder_that_never_rests_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "checkpoint"
    source.mkdir()
    seen = 0

    def restless(path: Path, most: int) -> Any:
        nonlocal seen
        seen += 1
        (source / f"file-{seen}").write_text("x")
        return look(path, most)

    monkeypatch.setattr(snapshots, "look", restless)
    monkeypatch.setattr(snapshots, "_PAUSE_S", 0.0)
    with pytest.raises(Unsettled, match="it changes all the time"), snapshot(source, MANY):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path / "checkpoint")
    with pytest.raises(TooLarge, match=r"more than 1.0 MiB \(evaluation.checkpoint.max_mib\)"):
        look(source, 1_048_576)
    monkeypatch.setattr(snapshots, "MAX_FILES", 3)
    with pytest.raises(TooLarge, match="more than 3 files"):
        look(source, MANY)


def archive(*members: tuple[str, bytes, str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (archive(("../out", tarfile.REGTYPE, "")), "no name in a folder"),
        (archive(("/etc/passwd", tarfile.REGTYPE, "")), "no name in a folder"),
        (archive(("a", tarfile.FIFOTYPE, "")), "no file, folder or link"),
        (archive(("a", tarfile.LNKTYPE, "/etc/passwd")), "no file, folder or link"),
        (b"x" * 5000, "it is no archive"),
        (b"", "it is no archive"),
    ],
)
def test_an_archive_that_is_none_of_ours(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(CheckpointError, match=why):
        unpack(Reader(io.BytesIO(data), len(data), nothing), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    data = archive(("a", tarfile.SYMTYPE, str(tmp_path / "elsewhere")), ("a/file", tarfile.REGTYPE, ""))
    with pytest.raises(OSError, match="exists"):
        unpack(Reader(io.BytesIO(data), len(data), nothing), tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_longer_than_it_was_is_not_read_to_its_end() -> None:
    reader = Reader(io.BytesIO(b"x" * 100), 99, nothing)
    with pytest.raises(CheckpointError, match="longer than it was"):
        reader.read()


def saved(store: CheckpointStore, attempt: int, number: int, content: bytes = b"content") -> str:
    def write(file: IO[bytes]) -> tuple[Writer, int]:
        writer = Writer(file, nothing)
        writer.write(content)
        return writer, len(content)

    return store.save("r", 1, attempt, number, write).name


def test_two_checkpoints_stay_and_later_attempts_come_first(tmp_path: Path) -> None:
    store = CheckpointStore(f"file://{tmp_path}", "e")
    names = [saved(store, 1, 1), saved(store, 1, 2), saved(store, 1, 3)]
    assert [each.name for each in store.entries("r", 1)] == [names[2], names[1]]
    second = saved(store, 2, 1)
    late = saved(store, 1, 4)  # of a worker that was given up
    assert [each.name for each in store.entries("r", 1)] == [second, late]
    assert len(list(tmp_path.rglob("*.tar"))) == 2
    assert store.entries("r", 2) == store.entries("s", 1) == []


def test_what_is_half_written_is_not_there_and_is_removed(tmp_path: Path) -> None:
    store = CheckpointStore(f"file://{tmp_path}", "e")
    first = saved(store, 1, 1)
    place = next(tmp_path.rglob("*.tar")).parent
    (place / "000001-000002-aaaaaaaa.tar").write_bytes(b"half")
    (place / "000001-000003-aaaaaaaa.json").write_text('{"name": "000001-0000')
    assert [each.name for each in store.entries("r", 1)] == [first]
    saved(store, 1, 4)
    assert not (place / "000001-000002-aaaaaaaa.tar").exists()


def test_a_save_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(f"file://{tmp_path}", "e")
    first = saved(store, 1, 1)

    def write(file: IO[bytes]) -> tuple[Writer, int]:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        CheckpointError, match=rf"file://{tmp_path} cannot be written to: No space left on device"
    ):
        store.save("r", 1, 1, 2, write)
    assert [each.name for each in store.entries("r", 1)] == [first]
    assert len(list(tmp_path.rglob("*.tar"))) == 1


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://bucket", None),
        ("file:///a/b", None),
        ("memory://x", None),
        ("/a/b", "is a URL such as"),
        ("https://host/a", "workers cannot write to"),
        ("s3://key:secret@host/a?x=1", "is a URL such as"),
    ],
)
def test_urls(url: str, why: str | None) -> None:
    if why is None:
        assert Checkpoint(url=url).url == url
    else:
        with pytest.raises((ValueError, ConfigError), match=why) as caught:
            Checkpoint(url=url)
        assert "secret" not in str(caught.value).partition("input_value")[0]


def work(point: int = 1, attempt: int = 1, parent: int | None = None) -> Work:
    return Work(
        experiment="e",
        run="r",
        point=point,
        attempt=attempt,
        model="m",
        iteration=1,
        params={},
        parent=parent,
    )


def ran(step: Callable[[Job], object]) -> Exception | None:
    """Runs a step as a job to its end; what it raised."""
    ended = threading.Event()
    errors: list[Exception | None] = []

    def end(_job: Job, error: Exception | None) -> None:
        errors.append(error)
        ended.set()

    def run(job: Job) -> None:
        step(job)

    Job(run, end)
    assert ended.wait(30)
    return errors[0]


def carrier(points: Path, store: CheckpointStore | None, said: list[str], what: Work) -> Carrier:
    return Carrier(what, points, store, 1024, said.append)


def test_an_unchanged_folder_is_not_saved_again(tmp_path: Path) -> None:
    store = CheckpointStore(f"file://{tmp_path}/shared", "e")
    one = carrier(tmp_path / "one", store, [], work())
    folder(tmp_path / "one/1/checkpoint")
    assert ran(one.save) is None
    assert ran(one.save) is None
    assert len(store.entries("r", 1)) == 1
    said: list[str] = []
    two = carrier(tmp_path / "two", store, said, work(attempt=2))
    assert ran(two.bring) is None
    assert ran(two.save) is None
    assert len(store.entries("r", 1)) == 1, "what was just fetched is there already"
    assert said == [
        f"point 1 carries on from the checkpoint of attempt 1 (2.4 MiB from file://{tmp_path}/shared)"
    ]


def test_the_one_on_this_machine_is_taken_unless_a_later_attempt_was_elsewhere(tmp_path: Path) -> None:
    store = CheckpointStore(f"file://{tmp_path}/shared", "e")

    def leave(name: str, attempt: int, text: str) -> None:
        made = carrier(tmp_path / name, store, [], work(attempt=attempt))
        made.place(1).own("r", attempt)
        made.place(1).checkpoint.mkdir(exist_ok=True)
        (made.place(1).checkpoint / "state").write_text(text)
        assert ran(made.save) is None

    def found(name: str, attempt: int) -> str:
        made = carrier(tmp_path / name, store, [], work(attempt=attempt))
        assert ran(made.bring) is None
        return (made.place(1).checkpoint / "state").read_text()

    leave("one", 1, "first")
    (tmp_path / "one/1/checkpoint/state").write_text("first, and further than what was saved")
    assert found("one", 2) == "first, and further than what was saved"
    leave("two", 3, "third")
    assert found("one", 4) == "third"


def test_a_job_that_was_given_up_changes_nothing(tmp_path: Path) -> None:
    place = PointFolder(tmp_path / "1")
    place.checkpoint.mkdir(parents=True)
    (place.checkpoint / "mine").touch()

    def late(job: Job) -> None:
        job.abandon()
        place.replace(lambda new: new.mkdir(), job.admit)

    assert str(ran(late)) == "given up"
    assert [path.name for path in place.checkpoint.iterdir()] == ["mine"]
    assert [path.name for path in place.path.iterdir()] == ["checkpoint"]


class Slow(MemoryFileSystem):  # type: ignore[misc] # fsspec has no types
    """A place that does not answer before `answers` is set."""

    protocol = "slow"
    answers = threading.Event()

    def ls(self, path: str, detail: bool = True, **others: Any) -> Any:
        self.answers.wait(60)
        return super().ls(path, detail=detail, **others)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self.answers.wait(60)
        super().makedirs(path, exist_ok=exist_ok)


@pytest.fixture
def slow() -> Iterator[type[Slow]]:
    fsspec.register_implementation("slow", Slow, clobber=True)
    Slow.answers.clear()
    yield Slow
    Slow.answers.set()


def test_a_place_that_does_not_answer_is_given_up_and_the_training_begins(
    tmp_path: Path, slow: type[Slow]
) -> None:
    said: list[str] = []
    keeper = Keeper(tmp_path, "e", said.append)
    keeper.follow(Checkpoint(url="slow://shared"))
    begun: list[bool] = []
    keeper.bring(work(attempt=2), lambda: begun.append(True))
    began = keeper._threads[0]._began
    keeper.tick(began + jobs.IDLE_S - 1)
    assert not begun
    keeper.tick(began + jobs.IDLE_S + 1)
    assert begun == [True]
    assert said == [
        "warning: point 1: no checkpoint was fetched: nothing moved for 60 s; it begins with what is on this machine"
    ]
    assert keeper.hung
    slow.answers.set()
    keeper._threads[0]._thread.join()
    keeper.advance()
    assert begun == [True]
    keeper.close()


def test_a_worker_that_leaves_waits_for_no_save_beyond_its_time(tmp_path: Path, slow: type[Slow]) -> None:
    said: list[str] = []
    keeper = Keeper(tmp_path / "points", "e", said.append)
    keeper.follow(Checkpoint(url="slow://shared"))
    folder(tmp_path / "points/1/checkpoint")
    ended: list[bool] = []
    assert keeper.owes(work(), None)
    keeper.keep(work(), None, lambda: ended.append(True))
    keeper.leave(100.0)
    keeper.tick(99.0)
    assert not ended
    keeper.tick(100.0)
    assert ended == [True]
    (line,) = said
    assert line.startswith(
        "warning: checkpoints are not saved: slow://shared cannot be written to: there was no time"
    )
    slow.answers.set()
    keeper._threads[0]._thread.join()
    keeper.close()


def test_an_attempt_without_a_checkpoint_is_not_held_up(tmp_path: Path) -> None:
    said: list[str] = []
    keeper = Keeper(tmp_path, "e", said.append)
    assert not keeper.wants(work(attempt=2))
    assert not keeper.owes(work(), None)
    assert keeper.wants(work(parent=3))
    keeper.close()
