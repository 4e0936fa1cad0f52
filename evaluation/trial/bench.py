"""One training after the other, without steering and broker, and what can be seen of each."""

from __future__ import annotations

import contextlib
import os
import select
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containers.process import GRACE_S
from containers.warden import MARK
from evaluation.attempt import AttemptFolder
from evaluation.runners.base import Outcome, Task, failed
from hpo_steer.messages import Work
from hpo_steer.training import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evaluation.runners.base import Handle, Runner

_TICK_S = 0.1
_MOST_LISTED = 5_000
_NOT_LISTED = ("__pycache__", ".git", "runs", "node_modules")


@dataclass(frozen=True)
class Seen:
    """What was seen of a training.

    Attributes:
        outcome: how it ended.
        took_s: how long it took.
        steps: of its reports.
        checkpoint: whether it has saved one.
        folder: its attempt's folder.
        log: the last lines of what it printed.
        after_stop_s: how long it took to end once it was asked to; None: it was not, or had ended by itself.
    """

    outcome: Outcome
    took_s: float
    steps: tuple[int, ...]
    checkpoint: bool
    folder: Path
    log: str
    after_stop_s: float | None = None


class Bench:
    """Runs trainings.

    Args:
        runner: starts them.
        work_dir: folders of points and logs lie in it.
        model: the model that the points are of.
        timeout_s: one that takes longer is ended.
    """

    def __init__(self, runner: Runner, work_dir: Path, model: str, timeout_s: float) -> None:
        self._runner, self._work_dir, self._model, self._timeout_s = runner, work_dir, model, timeout_s
        self._number = 0

    def train(self, params: Mapping[str, Any], *, stop_after_s: float | None = None) -> Seen:
        """Trains to the end, or asks the training to end after a while."""
        self._number += 1
        number = self._number
        work = Work(
            experiment="check",
            run="check",
            point=number,
            attempt=1,
            model=self._model,
            iteration=1,
            params=dict(params),
        )
        folder = AttemptFolder(str(self._work_dir / f"points/{number}/attempt-1"))
        task = Task(work, 0, folder, self._work_dir / f"logs/{number}-1.log")
        began = time.monotonic()
        try:
            handle = self._runner.start(task)
        except OSError as exc:
            return Seen(failed("error", f"cannot be started: {exc}"), 0.0, (), False, Path(folder.path), "")
        outcome, after_stop_s, steps = self._watch(handle, folder, began, stop_after_s)
        kept = Path(folder.path).parent / CHECKPOINT
        return Seen(
            outcome,
            time.monotonic() - began,
            tuple(steps),
            kept.is_dir() and any(kept.iterdir()),
            Path(folder.path),
            handle.log_tail(),
            after_stop_s,
        )

    def _watch(
        self, handle: Handle, folder: AttemptFolder, began: float, stop_after_s: float | None
    ) -> tuple[Outcome, float | None, list[int]]:
        steps: list[int] = []
        stopped_at: float | None = None
        late = False
        while True:
            now = time.monotonic()
            outcome = handle.poll(now)
            steps += [report.step for report in folder.new_reports()]
            if outcome is not None:
                if outcome.rest is not None:
                    outcome.rest()
                break
            if stop_after_s is not None and stopped_at is None and now - began >= stop_after_s:
                stopped_at = now
                handle.stop()
            if now - began >= self._timeout_s and stopped_at is None and not late:
                late = True
                handle.kill()
            if not handle.ready:
                select.select(handle.fds(), [], [], _TICK_S)
        if late:
            outcome = failed("timeout", f"has not ended within {self._timeout_s:g} s (--timeout)")
        return outcome, None if stopped_at is None else time.monotonic() - stopped_at, steps


def in_grace(seconds: float) -> bool:
    """Whether a training has ended by itself after it was asked to."""
    return seconds < GRACE_S


def still_running(mark: str, patience_s: float = 3.0) -> list[str]:
    """Command lines of processes that carry a mark, once those that are ending had time to."""
    until = time.monotonic() + patience_s
    while (found := _marked(f"{MARK}={mark}".encode())) and time.monotonic() < until:
        time.sleep(_TICK_S)
    return found


def _marked(mark: bytes) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                found.append(f"process {folder.name}: {line.strip()[:200]}")
    return found


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Sizes and times of the files in a folder, to see what has changed there."""
    found: dict[str, tuple[int, int]] = {}
    for place, names, files in os.walk(folder):
        names[:] = [name for name in names if name not in _NOT_LISTED]
        for name in files:
            path = Path(place) / name
            with contextlib.suppress(OSError):
                status = path.lstat()
                found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns)
            if len(found) >= _MOST_LISTED:
                return found
    return found


def was_read(path: Path) -> bool | None:
    """Whether a file has been opened and read since it was written; None: this file system does not tell."""
    probe = path.with_name(f".{path.name}.probe")
    try:
        probe.write_bytes(b"probe")
        probe.read_bytes()
        tells = _accessed(probe)
        probe.unlink()
        return _accessed(path) if tells else None
    except OSError:
        return None


def _accessed(path: Path) -> bool:
    status = path.stat()
    return status.st_atime_ns > status.st_mtime_ns
