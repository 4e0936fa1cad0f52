from __future__ import annotations

import multiprocessing
import os
import signal
from typing import TYPE_CHECKING

import pytest

from evaluation.notes import Note
from evaluation.spool import Spool, SpoolError
from hpo_steer.messages import Result

if TYPE_CHECKING:
    from pathlib import Path


def a_result(point: int = 1, run: str = "run-1") -> Result:
    return Result(
        experiment="e",
        run=run,
        worker="w",
        at=1.0,
        point=point,
        attempt=1,
        metrics={"loss": 0.5},
        started_at=0.0,
        duration_s=1.0,
    )


def _keep_and_die(root: Path, worker: str) -> None:
    spool = Spool(root, worker)
    spool.keep(a_result(1))
    spool.keep(a_result(2))
    (spool.folder / "run-1-3-1.tmp").write_bytes(a_result(3).encoded()[:20])
    (spool.folder / "run-1-4-1.json").write_text('{"type": "result"')
    log = root / "slot.log"
    log.write_text("before\nlast words\n")
    for point in (2, 5):  # the second was still training
        spool.note(Note("e", "run-1", point, 1, worker, 0, 1.5, str(log), 7))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """A spool whose worker was killed: two whole results, two broken ones."""
    process = multiprocessing.get_context("spawn").Process(target=_keep_and_die, args=(tmp_path, "dead"))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    return tmp_path


def test_a_result_is_on_disk_until_it_is_forgotten(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "w1")
    path = spool.keep(a_result(run="odd/../run"))
    assert path.parent == spool.folder
    assert path.read_bytes() == a_result(run="odd/../run").encoded()
    assert len(spool) == 1
    spool.forget(path)
    assert not path.exists()
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_the_next_worker_takes_over_what_a_dead_one_left(dead: Path) -> None:
    said: list[str] = []
    spool = Spool(dead, "next", said.append)
    adopted = spool.adopt()
    assert sorted(result.point for _, result in adopted) == [1, 2, 5]
    lost = next(result for _, result in adopted if result.point == 5)
    assert lost.failure is not None
    assert (lost.failure.kind, lost.worker, lost.log) == ("lost", "dead", "last words")
    assert len(spool) == 3
    assert not (dead / "dead").exists()
    assert sorted(p.name for p in dead.glob("*.damaged")) == [
        "dead-run-1-3-1.tmp.damaged",
        "dead-run-1-4-1.json.damaged",
    ]
    assert len(said) == 2
    assert all(line.startswith("warning: ") for line in said)
    spool.close()
    assert len(list((dead / "next").glob("*.json"))) == 3  # not confirmed, so for the one after
    assert len(Spool(dead, "after").adopt()) == 3


def test_a_worker_that_ends_in_order_leaves_no_note(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "w1")
    spool.note(Note("e", "run-1", 1, 1, "w1", 0, 1.5, "no.log", 0))
    spool.note(Note("e", "run-1", 2, 1, "w1", 0, 1.5, "no.log", 0))
    spool.erase("run-1", 2, 1)
    assert [p.name for p in spool.folder.glob("*.running")] == ["run-1-1-1.running"]
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_live_worker_keeps_its_own(tmp_path: Path) -> None:
    first = Spool(tmp_path, "first")
    first.keep(a_result())
    second = Spool(tmp_path, "second")
    assert second.adopt() == []
    assert len(first) == 1
    first.close()
    assert [result for _, result in second.adopt()] == [a_result()]
    second.close()


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="Another --work-dir"):
        Spool(tmp_path / "file", "w")
