"""Sees to the checkpoints of a worker's trainings: fetched before, saved meanwhile, saved at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from evaluation.checkpoints.carrier import Carrier
from evaluation.checkpoints.job import Job
from evaluation.checkpoints.snapshot import TooLarge, Unsettled
from evaluation.checkpoints.store import CheckpointStore
from evaluation.outbox import Key, key_of
from hpo_steer.config.checkpoint import Checkpoint
from hpo_steer.errors import CheckpointError, MissingExtra
from hpo_steer.training import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hpo_steer.messages import Work


@dataclass(eq=False)
class _Kept:
    """An attempt whose checkpoint is seen to.

    Attributes:
        carrier: does it.
        due: when the folder is looked at next (monotonic).
        job: what is under way.
        final: what follows the last save; None while the training runs.
        rest: what is to be done before that save.
        told: what was said of it, so that it is said once.
    """

    carrier: Carrier
    due: float
    job: Job | None = None
    then: Callable[[], None] | None = None
    final: Callable[[], None] | None = None
    rest: Callable[[], None] | None = None
    told: str = ""


class Keeper:
    """The checkpoints of a worker's trainings. No method blocks: threads do what takes time.

    Args:
        points: the folders of points.
        experiment: name of the experiment.
        say: told a sentence when something happens that people should know.
    """

    def __init__(self, points: Path, experiment: str, say: Callable[[str], None]) -> None:
        self._points, self._experiment, self._say = points, experiment, say
        self._rules = Checkpoint()
        self._store: CheckpointStore | None = None
        self._kept: dict[Key, _Kept] = {}
        self._threads: list[Job] = []
        self._done: deque[Callable[[], None]] = deque()
        self._trouble: str | None = None
        self._leave_by: float | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)

    def follow(self, rules: Checkpoint | None) -> None:
        """Takes what a config says about checkpoints."""
        rules = rules or Checkpoint()
        if self._store is None or rules.url != self._rules.url:
            self._store = None if rules.url is None else CheckpointStore(rules.url, self._experiment)
        self._rules = rules

    @property
    def travels(self) -> bool:
        """Whether checkpoints go to other machines."""
        return self._store is not None

    @property
    def hung(self) -> bool:
        """Whether a thread is still about something."""
        return any(job.alive for job in self._threads)

    def fileno(self) -> int:
        """Readable when `advance` has something to do."""
        return self._wake_read

    def advance(self) -> None:
        """Goes on with what threads have done."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._done:
            self._done.popleft()()

    # ------------------------------------------------------------ an attempt

    def wants(self, work: Work) -> bool:
        """Whether a training may begin only after `bring`."""
        if self._store is not None or work.parent is not None:
            return True
        return self._saved_here(work)

    def bring(self, work: Work, then: Callable[[], None]) -> None:
        """Has the newest checkpoint at hand, or says why not; `then` is called in any case, unless `drop` comes."""
        kept = self._kept[key_of(work)] = self._keep(work)
        kept.then = then
        kept.job = self._start(kept, kept.carrier.bring, self._brought)

    def owes(self, work: Work, rest: Callable[[], None] | None) -> bool:
        """Whether there is anything to `keep` of a training that is over."""
        return rest is not None or self._saved_here(work)

    def keep(self, work: Work, rest: Callable[[], None] | None, then: Callable[[], None]) -> None:
        """A training is over: its last state is saved, and `then` called.

        Args:
            work: the attempt.
            rest: what is still to be done for it, in a thread, before its checkpoint is saved.
            then: what follows.
        """
        kept = self._kept.get(key_of(work))
        if kept is None:
            kept = self._kept[key_of(work)] = self._keep(work)
        kept.rest, kept.final = rest, then
        if kept.job is None:
            self._finish(kept)

    def drop(self, work: Work) -> None:
        """An attempt is none of ours any more."""
        kept = self._kept.pop(key_of(work), None)
        if kept is not None and kept.job is not None:
            kept.job.abandon()

    def valued(self, key: Key) -> None:
        """A point's value is safe: its checkpoints are deleted, if they are not to be kept."""
        run, point, _ = key
        if self._rules.keep == "all" or not (
            self._store or (self._points / str(point) / CHECKPOINT).exists()
        ):
            return
        store, folder = self._store, self._points / str(point)

        def delete(job: Job) -> None:
            shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.rmdir()
            if store is not None:
                job.moved()
                store.remove(run, point)

        def deleted(job: Job, error: Exception | None) -> None:
            del job
            if error is not None:
                self._done.append(
                    partial(self._say, f"warning: point {point}: its checkpoints stay: {_reason(error)}")
                )

        self._threads = [job for job in self._threads if job.alive]
        self._threads.append(Job(delete, deleted))

    def tick(self, now: float) -> None:
        """What is due; call it several times a second.

        Args:
            now: by the monotonic clock.
        """
        for kept in list(self._kept.values()):
            if kept.job is not None:
                why = kept.job.overdue(now, self._leave_by)
                if why is not None:
                    self._abandon(kept, kept.job, why)
            elif self._store is not None and now >= kept.due and kept.final is None:
                kept.due = now + self._rules.interval_s
                kept.job = self._start(kept, partial(self._save, kept), self._saved)

    def leave(self, by: float) -> None:
        """The worker ends: what is not done then is given up.

        Args:
            by: by the monotonic clock.
        """
        self._leave_by = by

    def close(self) -> None:
        """Gives everything up; threads that are still busy end with the process."""
        for kept in self._kept.values():
            if kept.job is not None:
                kept.job.abandon()
        self._kept.clear()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._wake_write = -1

    # ------------------------------------------------------------ steps

    def _saved_here(self, work: Work) -> bool:
        """Whether the point of an attempt has a checkpoint on this machine."""
        return os.path.exists(f"{self._points}/{work.point}/{CHECKPOINT}")  # noqa: PTH110 - on the fast way

    def _keep(self, work: Work) -> _Kept:
        carrier = Carrier(work, self._points, self._store, self._rules.max_mib, self._say)
        return _Kept(carrier, time.monotonic() + self._rules.interval_s)

    def _start(
        self,
        kept: _Kept,
        work: Callable[[Job], None],
        then: Callable[[_Kept, Exception | None], None],
    ) -> Job:
        def ended(job: Job, error: Exception | None) -> None:
            self._done.append(lambda: self._after(kept, job, error, then))
            if (wake := self._wake_write) >= 0:
                with contextlib.suppress(OSError):
                    os.write(wake, b"\0")

        self._threads = [job for job in self._threads if job.alive]
        job = Job(work, ended)
        self._threads.append(job)
        return job

    def _after(
        self, kept: _Kept, job: Job, error: Exception | None, then: Callable[[_Kept, Exception | None], None]
    ) -> None:
        if job.abandoned or kept.job is not job:
            return
        kept.job = None
        if error is not None and not isinstance(error, CheckpointError | MissingExtra | OSError):
            raise error  # a defect: it ends the worker, not this thread alone
        then(kept, error)

    def _brought(self, kept: _Kept, error: Exception | None) -> None:
        if error is not None:
            self._say(
                f"warning: point {kept.carrier.work.point}: no checkpoint was fetched: {_reason(error)}"
            )
        kept.due = time.monotonic() + self._rules.interval_s
        then, kept.then = kept.then, None
        if then is not None:
            then()

    def _save(self, kept: _Kept, job: Job) -> None:
        kept.carrier.save(job)

    def _saved(self, kept: _Kept, error: Exception | None) -> None:
        self._judge(kept, error)
        if kept.final is not None:
            self._finish(kept)

    def _finish(self, kept: _Kept) -> None:
        kept.job = self._start(kept, partial(self._save_last, kept), self._finished)

    def _save_last(self, kept: _Kept, job: Job) -> None:
        if kept.rest is not None:
            kept.rest()
        kept.carrier.own()
        kept.carrier.save(job)

    def _finished(self, kept: _Kept, error: Exception | None) -> None:
        self._judge(kept, error)
        self._end(kept)

    def _end(self, kept: _Kept) -> None:
        self._kept.pop(key_of(kept.carrier.work), None)
        final, kept.final = kept.final, None
        if final is not None:
            final()

    def _abandon(self, kept: _Kept, job: Job, why: str) -> None:
        job.abandon()
        kept.job = None
        if kept.then is not None:
            self._brought(kept, CheckpointError(f"{why}; it begins with what is on this machine"))
            return
        self._judge(kept, CheckpointError(f"{self._place} cannot be written to: {why}"))
        if kept.final is not None:
            self._end(kept)

    @property
    def _place(self) -> str:
        return self._store.shown if self._store is not None else "the work folder"

    def _judge(self, kept: _Kept, error: Exception | None) -> None:
        """Says what went wrong with saving, once; and that it is mended."""
        if isinstance(error, TooLarge | Unsettled):
            text = f"point {kept.carrier.work.point}: its checkpoint is not saved to {self._place}: {error}"
            if text != kept.told:
                kept.told = text
                self._say(f"warning: {text}; the training goes on")
        elif error is not None:
            reason = _reason(error)
            if self._trouble is None:
                self._say(
                    f"warning: checkpoints are not saved: {reason}; trainings go on, and it is tried again"
                )
            self._trouble = reason
        elif self._trouble is not None and kept.carrier.number:
            self._trouble = None
            self._say(f"checkpoints are saved to {self._place} again")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
