"""Results on disk, one file each, which are forgotten only when the broker has confirmed them.

    spool/
    ├── host-123-ab12/            the files of one worker process, which keeps `lock` locked while it lives
    │   ├── lock
    │   ├── RUN-POINT-ATTEMPT.running     what it trains, see `evaluation.notes`
    │   └── RUN-POINT-ATTEMPT.json
    └── RUN-POINT-ATTEMPT.json.damaged     what could not be read; never deleted

A worker that starts takes over the folders of dead ones and sends their results again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

from evaluation.notes import SUFFIX, read_note
from hpo_steer import faults
from hpo_steer.errors import HpoSteerError, MalformedMessage
from hpo_steer.messages import Result, decode_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from evaluation.notes import Note

LOCK = "lock"
DAMAGED = ".damaged"


class SpoolError(HpoSteerError):
    """The spool's folder cannot be written; a worker does not start without it."""


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the worker's own messages


class Spool:
    """One worker's spool.

    Args:
        root: the folder that workers share.
        worker: the worker's id.
        say: where lines for people go.

    Raises:
        SpoolError: the folder cannot be made or locked.
    """

    def __init__(self, root: Path, worker: str, say: Callable[[str], None] = _to_stderr) -> None:
        self._root, self._say = root, say
        self.folder = root / quote(worker, safe="")
        born = root / f".{quote(worker, safe='')}.new"  # locked before others can see it
        try:
            root.mkdir(parents=True, exist_ok=True)
            born.mkdir()
            self._lock = os.open(born / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            born.rename(self.folder)
        except OSError as exc:
            raise SpoolError(f"cannot keep results in {root}: {exc.strerror}. Another --work-dir?") from exc
        self._files: set[Path] = set()

    def __len__(self) -> int:
        return len(self._files)

    def keep(self, result: Result) -> Path:
        """Writes a result to the disk, safely, before it is sent.

        Raises:
            OSError: it cannot be written (the disk is full).
        """
        path = self._path(result.run, result.point, result.attempt, ".json")
        new = path.with_suffix(".tmp")
        try:
            with new.open("wb") as file:
                file.write(result.encoded())
                file.flush()
                os.fsync(file.fileno())
            faults.reached("worker.spooling")
            new.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        _sync_folder(self.folder)
        self._files.add(path)
        return path

    def note(self, note: Note) -> None:
        """Writes down that an attempt is under way; a disk that is full is no reason not to train."""
        with contextlib.suppress(OSError):
            self._path(note.run, note.point, note.attempt, SUFFIX).write_bytes(note.encoded())

    def erase(self, run: str, point: int, attempt: int) -> None:
        """An attempt has ended, and its result is kept."""
        with contextlib.suppress(OSError):
            self._path(run, point, attempt, SUFFIX).unlink()

    def _path(self, run: str, point: int, attempt: int, suffix: str) -> Path:
        return self.folder / f"{quote(run, safe='')[:150]}-{point}-{attempt}{suffix}"

    def forget(self, path: Path) -> None:
        """Removes a result that is safe elsewhere."""
        self._files.discard(path)
        with contextlib.suppress(OSError):
            path.unlink()

    def adopt(self) -> list[tuple[Path, Result]]:
        """Takes over what dead workers left behind, to be sent again."""
        adopted = []
        for folder in sorted(self._root.iterdir()):
            if folder.name.startswith(".") or folder.suffix == DAMAGED:
                continue
            if folder != self.folder and folder.is_dir():
                with _dead(folder) as is_dead:
                    if is_dead:
                        adopted += self._take_over(folder)
        return adopted

    def close(self) -> None:
        """Unlocks the folder, and removes it if it is empty."""
        if self._lock < 0:
            return
        for note in self.folder.glob(f"*{SUFFIX}"):  # what ran is given back, not lost
            with contextlib.suppress(OSError):
                note.unlink()
        if not self._files:
            with contextlib.suppress(OSError):
                (self.folder / LOCK).unlink()
                self.folder.rmdir()
        os.close(self._lock)
        self._lock = -1

    def _take_over(self, folder: Path) -> list[tuple[Path, Result]]:
        taken = []
        ended = {file.with_suffix("") for file in folder.iterdir() if file.suffix in (".json", ".tmp")}
        for file in sorted(folder.iterdir()):
            if file.name == LOCK:
                continue
            if file.suffix == SUFFIX:
                if file.with_suffix("") not in ended:
                    taken += self._lost(file)
                with contextlib.suppress(OSError):
                    file.unlink()
                continue
            try:
                event = decode_event(file.read_bytes())
                if file.suffix not in (".json", ".tmp") or not isinstance(event, Result):
                    raise MalformedMessage("it holds no whole result")  # noqa: TRY301 - handled as its like
                target = (
                    self.folder / file.with_suffix(".json").name
                )  # whole, though its worker died writing it
                file.replace(target)
            except (OSError, MalformedMessage) as exc:
                self._set_aside(file, exc)
            else:
                self._files.add(target)
                taken.append((target, event))
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
            folder.rmdir()
        return taken

    def _lost(self, file: Path) -> list[tuple[Path, Result]]:
        """The result of an attempt that a dead worker was busy with; none where its note was cut off."""
        try:
            result = read_note(file).lost()
            return [(self.keep(result), result)]
        except (OSError, ValueError):
            return []

    def _set_aside(self, file: Path, why: Exception) -> None:
        aside = self._root / f"{file.parent.name}-{file.name}{DAMAGED}"
        with contextlib.suppress(OSError):
            file.replace(aside)
        self._say(f"warning: {file} in the spool cannot be read and is set aside as {aside.name}: {why}")


@contextlib.contextmanager
def _dead(folder: Path) -> Iterator[bool]:
    """Whether the worker of a folder is dead; its folder is locked meanwhile."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT, 0o600)
    except OSError:  # gone, as its worker has just ended, or not ours
        yield False
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        yield False
    else:
        yield True
    finally:
        os.close(lock)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
