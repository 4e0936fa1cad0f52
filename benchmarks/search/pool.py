"""Many tasks in processes of their own, and a file that keeps what came of them."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from benchmarks.search.race import Record, Task, run
from hpo_steer.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Variables of the environment that limit the threads of numerical libraries."""


_BEGIN = '{"task": {'
"""Of every line that is kept."""


class Keep:
    """A file with a record a line, from which a race goes on.

    Args:
        path: of the file; None: nothing is kept.

    Raises:
        UserError: it cannot be read or written, or holds something else.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.records: dict[Task, Record] = {}
        """The last record of each task."""
        lines: list[str] = []
        if path is not None:
            try:
                path.touch()
                lines = path.read_text().splitlines()
            except OSError as exc:
                raise UserError(f"--keep: {path} cannot be used ({exc.strerror})") from exc
        for number, line in enumerate(lines, 1):
            try:
                record = Record.from_json(json.loads(line))
            except (ValueError, TypeError, KeyError) as exc:
                if line.startswith(_BEGIN) or _BEGIN.startswith(line):
                    continue  # cut off when the race was killed
                raise UserError(
                    f"--keep: line {number} of {path} is no record of this benchmark; use another file"
                ) from exc
            self.records[record.task] = record

    def add(self, record: Record) -> None:
        """Writes one down at once."""
        self.records[record.task] = record
        if self._path is None:
            return
        line = json.dumps(record.as_json()) + "\n"
        try:
            with self._path.open("a+b") as file:
                if file.tell() and not _ends_a_line(file.tell(), self._path):
                    line = "\n" + line
                file.write(line.encode())
        except OSError as exc:
            raise UserError(f"--keep: {self._path} cannot be written ({exc.strerror})") from exc


def _ends_a_line(size: int, path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"


def run_all(
    tasks: Sequence[Task], jobs: int, done: Callable[[Record], None], *, work: Callable[[Task], Record] = run
) -> None:
    """Runs tasks in `jobs` processes with one thread each, and hands on each record as it comes.

    Raises:
        UserError: a process was killed, by the system for its memory perhaps.
    """
    for name in THREADS:
        os.environ[name] = "1"  # the processes inherit it, and read it when they import NumPy
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_prepare)
    try:
        waiting: set[Future[Record]] = {pool.submit(work, task) for task in tasks}
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                done(future.result())
    except BrokenProcessPool as exc:
        raise UserError(
            "a process of the race was killed, for its memory perhaps; with --keep it goes on from there"
        ) from exc
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    pool.shutdown()


def _prepare() -> None:
    """Makes a process quiet, single-threaded, and mortal with its parent."""
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.ERROR)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class Progress:
    """Lines on stderr, one a task, with an estimate of the time left.

    Args:
        tasks: still to run.
        jobs: at a time.
    """

    def __init__(self, tasks: Iterable[Task], jobs: int) -> None:
        self._left = list(tasks)
        self._total = len(self._left)
        self._jobs = jobs
        self._took: dict[tuple[str, str], list[float]] = {}

    def __call__(self, record: Record) -> None:
        """Says that a task is done."""
        task = record.task
        self._left.remove(task)
        self._took.setdefault((task.problem, task.contender), []).append(record.took_s)
        best = "nothing valid" if record.best is None else f"{record.best:.6g}"
        error = f", FAILED after {record.failed_at} points: {record.error}" if record.error else ""
        print(
            f"{self._total - len(self._left)}/{self._total} {task.problem} {task.contender} seed {task.seed}: "
            f"{best}, asks {record.ask_s:.1f} s, {record.took_s:.1f} s{error}; {self._estimate()}",
            file=sys.stderr,
            flush=True,
        )

    def _estimate(self) -> str:
        known = self._took
        mean = {key: sum(times) / len(times) for key, times in known.items()}
        overall = sum(mean.values()) / len(mean)
        seconds = sum(mean.get((t.problem, t.contender), overall) for t in self._left) / self._jobs
        return f"about {_span(seconds)} left"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plan(
    names: tuple[Sequence[str], Sequence[str]],
    seeds: Iterable[int],
    wanted: Callable[[str, str], bool],
    **more: float,
) -> list[Task]:
    """Every task, seed by seed, so that a race that is cut short has all contenders on a par."""
    problems, contenders = names
    return [
        Task(p, c, seed, **more)  # type: ignore[arg-type]
        for seed in seeds
        for p in problems
        for c in contenders
        if wanted(p, c)
    ]
