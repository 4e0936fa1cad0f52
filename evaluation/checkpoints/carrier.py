"""Carries one point's checkpoint: to the place where all workers find it, and from there. It blocks; for threads."""

from __future__ import annotations

import errno
import shutil
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeVar

from evaluation.checkpoints.archive import Reader, Writer, pack, unpack
from evaluation.checkpoints.folder import PointFolder
from evaluation.checkpoints.snapshot import Marks, TooLarge, look, snapshot
from hpo_steer.errors import CheckpointError
from hpo_steer.shipping.limits import MIB, mib

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evaluation.checkpoints.job import Job
    from evaluation.checkpoints.store import CheckpointStore, Entry
    from hpo_steer.messages import Work

_PAUSES_S = (1.0, 3.0)

T = TypeVar("T")


@dataclass
class Carrier:
    """One attempt's checkpoint.

    Attributes:
        work: the attempt.
        points: the folders of points.
        store: where checkpoints travel through; None: nowhere.
        max_mib: bound on a checkpoint.
        say: told what people should know.
        number: how many of this attempt were saved.
        saved: what the folder held when it was like the newest one in the store.
    """

    work: Work
    points: Path
    store: CheckpointStore | None
    max_mib: int
    say: Callable[[str], None]
    number: int = 0
    saved: Marks | None = None

    def place(self, point: int) -> PointFolder:
        """The folder of a point."""
        return PointFolder(self.points / str(point))

    # ------------------------------------------------------------ before the training

    def bring(self, job: Job) -> None:
        """Puts the newest checkpoint into the point's folder: its own, or its parent's if it has none.

        Raises:
            CheckpointError: it could not be had; what is on this machine is in the folder.
            OSError: the disk is full, or the like.
        """
        work, mine = self.work, self.place(self.work.point)
        mine.clear(work.run)
        problem: CheckpointError | None = None
        found = False
        try:
            found = self._obtain(work.point, mine, job, ask=work.attempt > 1)
            if not found and work.parent is not None:
                found = self._obtain(work.parent, mine, job, ask=True)
                if not found:
                    none = f"point {work.parent} has left no checkpoint; it begins from scratch"
                    self.say(f"warning: point {work.point}: {none}")
        except CheckpointError as exc:
            problem = exc
        job.admit(lambda: mine.own(work.run, work.attempt))
        if problem is not None:
            raise problem

    def _obtain(self, point: int, mine: PointFolder, job: Job, *, ask: bool) -> bool:
        """Whether a checkpoint of a point is in our folder now.

        Args:
            point: our own, or the parent.
            mine: our folder.
            job: the thread's.
            ask: look for it in the store too.
        """
        run, there = self.work.run, self.place(point)
        here = there.holds(run)
        problem: CheckpointError | None = None
        if self.store is not None and ask:
            try:
                if self._fetch_newer(self.store, point, -1 if here is None else here, mine, job):
                    return True
            except CheckpointError as exc:
                problem = exc
        if here is not None and there.path != mine.path:
            mine.replace(lambda new: _copy(there.checkpoint, new), job.admit)
            self.say(f"point {self.work.point} begins with the checkpoint of point {point}")
        if problem is not None:
            raise CheckpointError(
                f"{problem}; it begins {'from scratch' if here is None else 'with the one on this machine'}"
            )
        return here is not None

    def _fetch_newer(
        self, store: CheckpointStore, point: int, here: int, mine: PointFolder, job: Job
    ) -> bool:
        """Fetches the newest whole checkpoint of a later attempt than that whose checkpoint is here."""
        run, last = self.work.run, None
        for entry in _patiently(lambda: store.entries(run, point), job):
            if here >= entry.attempt:
                break
            try:
                if entry.content > self.max_mib * MIB:
                    raise TooLarge(f"it holds {mib(entry.content)} (evaluation.checkpoint.max_mib)")
                self._fetch(store, point, entry, mine, job)
            except CheckpointError as exc:
                if job.abandoned:
                    raise
                last = exc
                self.say(
                    f"warning: point {self.work.point}: checkpoint {entry.name} of {store.shown} cannot be used: {exc}"
                )
                continue
            whose = "" if point == self.work.point else f" of point {point}"
            self.say(
                f"point {self.work.point} carries on from the checkpoint{whose} of attempt {entry.attempt} "
                f"({mib(entry.content)} from {store.shown})"
            )
            self.saved = look(mine.checkpoint, self.max_mib * MIB)
            return True
        if last is not None and here < 0:
            raise CheckpointError(f"no checkpoint of it in {store.shown} is whole")
        return False

    def _fetch(self, store: CheckpointStore, point: int, entry: Entry, mine: PointFolder, job: Job) -> None:
        def fill(new: Path) -> None:
            def read(file: IO[bytes]) -> None:
                reader = Reader(file, entry.size, job.moved)
                try:
                    unpack(reader, new)
                except OSError as exc:
                    if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    raise CheckpointError(f"it cannot be unpacked in {mine.path}: {exc.strerror}") from None
                if reader.sha256 != entry.sha256:
                    raise CheckpointError("it is damaged: its SHA-256 is another than when it was saved")

            shutil.rmtree(new, ignore_errors=True)
            store.fetch(self.work.run, point, entry, read)

        mine.replace(lambda new: _patiently(lambda: fill(new), job), job.admit)

    # ------------------------------------------------------------ while it runs, and after it

    def save(self, job: Job) -> int | None:
        """Saves the folder as it is now, if it has changed.

        Returns:
            Bytes of the files; None: there was nothing to save.

        Raises:
            CheckpointError: it could not be saved; those before are untouched.
            OSError: it cannot be read, or the disk is full.
        """
        store, folder = self.store, self.place(self.work.point).checkpoint
        if store is None:
            return None
        try:
            marks = look(folder, self.max_mib * MIB)
        except FileNotFoundError:
            return None
        if not marks or marks == self.saved:
            return None
        self.number += 1
        with snapshot(folder, self.max_mib * MIB) as (copy, copied):
            content = sum(mark.size for mark in copied.values())

            def write(file: IO[bytes]) -> tuple[Writer, int]:
                writer = Writer(file, job.moved)
                pack(copy, copied, writer)
                return writer, content

            store.save(self.work.run, self.work.point, self.work.attempt, self.number, write)
        self.saved = marks
        return content

    def own(self) -> None:
        """Notes who wrote the checkpoint that is left on this machine."""
        place = self.place(self.work.point)
        if place.checkpoint.is_dir() and place.owner() != (self.work.run, self.work.attempt):
            place.own(self.work.run, self.work.attempt)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)


def _patiently(step: Callable[[], T], job: Job) -> T:
    for pause_s in _PAUSES_S:
        try:
            return step()
        except TooLarge:
            raise
        except CheckpointError:
            job.moved()
            time.sleep(pause_s)
    return step()
