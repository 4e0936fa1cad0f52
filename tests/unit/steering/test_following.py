"""What ``hpo-steer logs -f`` reads of logs that grow, are shared and are cut meanwhile."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from hpo_steer.algorithm import Failure
from steering.following import Follower, _Tail
from steering.store.base import AttemptRecord, IterationRecord, ModelRecord, PointRecord, RunRecord
from steering.store.opening import open_store

if TYPE_CHECKING:
    from pathlib import Path


def test_a_log_of_its_own_is_read_on(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log, tail = tmp_path / "logs/5-1.log", _Tail(tmp_path, 5, 1)
    assert tail.news() == ""
    assert not tail.found
    log.write_bytes("één\nhalf a lin".encode())
    assert tail.news() == "één\nhalf a lin"
    with log.open("ab") as file:
        file.write(b"e\n" + "é".encode()[:1])
    assert tail.news() == "e\n"
    with log.open("ab") as file:
        file.write("é".encode()[1:])
    assert tail.news() == "é"
    assert tail.news() == ""


def test_in_a_warm_childs_log_only_the_attempts_part_is_read(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "spool/worker").mkdir(parents=True)
    shared, note = tmp_path / "logs/worker-ab-slot-0.log", tmp_path / "spool/worker/run-5-1.running"
    shared.write_text("point 4\npoint 5 be")
    note.write_text(json.dumps({"point": 5, "attempt": 1, "log": str(shared), "log_start": 8}))
    tail = _Tail(tmp_path, 5, 1)
    assert tail.news() == "point 5 be"
    (tmp_path / "logs/5-1.log").write_text("point 5 begins\nand ends\n")  # it has ended
    note.unlink()
    shared.write_text("point 4\npoint 5 begins\nand ends\npoint 6\n")
    assert tail.news() == "gins\nand ends\n"
    assert tail.news() == ""


def test_holes_and_cuts_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log, tail = tmp_path / "logs/5-1.log", _Tail(tmp_path, 5, 1)
    log.write_bytes(b"a\n" * 2048)
    assert tail.news() == "a\n" * 2048
    with log.open("ab") as file:
        file.seek(50_000_000)
        os.truncate(file.fileno(), 50_000_000)
        file.write(b"the end\n")
    assert "the log was shortened meanwhile" in tail.news()
    assert tail.news().lstrip("\0") == "the end\n"
    log.write_bytes(b"begin\nend\n")
    assert "the log was shortened meanwhile" in tail.news()
    with log.open("ab") as file:
        file.write(b"more\n")
    assert tail.news() == "more\n"


def follow(folder: Path, failure: Failure | None = None, log: str = "") -> str:
    """What is said of a run's only point, whose worker was elsewhere, once nobody steers the run any more."""
    fresh = PointRecord(1, "main", 0, 1, {"x": 1.0}, "0" * 32)
    with closing(open_store(folder, "digits", create=True)) as store:
        store.lock("here, process 1")
        store.create(RunRecord("digits", "run-1", {}, 0.0), [ModelRecord("main", 0)])
        with store.transaction() as transaction:
            transaction.add_iteration(IterationRecord("main", 1, 1, 1, 0, 0.0, 0.0), [fresh])
            if failure is not None:
                how = (failure.kind, failure.message, log)
                transaction.end_attempt(AttemptRecord(1, 1, "gpu-7-ab", 0, 0.0, 9.0, 9.0, *how))
                transaction.end_point(replace(fresh, state="failed", failure=failure))
    said: list[str] = []
    with closing(open_store(folder, "digits", create=False, read_only=True)) as store:
        Follower(store, folder, 1, said.append, patience_s=0.2).follow()
    return "".join(said)


def test_the_log_of_a_failure_elsewhere_comes_with_its_result(tmp_path: Path) -> None:
    assert follow(tmp_path, Failure("error", "it broke"), "last\x1b[31m words") == (
        "== attempt 1 · gpu-7-ab\nlast\\x1b[31m words\n== attempt 1: error after 9.0 s: it broke\n"
        "== point 1 has ended: failed\n"
    )


def test_a_point_that_nobody_steers_any_more_is_not_waited_for(tmp_path: Path) -> None:
    assert follow(tmp_path) == (
        "== point 1 is queued; waiting for a worker to take it\n"
        "== point 1 is queued, and nobody steers the run at present\n"
    )
