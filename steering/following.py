"""Shows what a point's attempts print while they run: ``hpo-steer logs POINT -f``.

A worker on this machine that steering has started keeps its logs in the run's folder, where they are read as they
grow. What a worker elsewhere prints is on its own machine; if an attempt fails, its last lines come with the result.
"""

from __future__ import annotations

import codecs
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_steer.limits import harmless
from steering.words import duration, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from steering.store.base import AttemptRecord, Store

_LOOK_S = 0.2
_ABSENT_S = 2.0
"""How long a log may be awaited before it counts as out of reach."""
_AT_ONCE = 1_000_000
_WIDEST = 2000
_CUT = "\n[hpo-steer: the log was shortened meanwhile; it goes on here]\n"


@dataclass(frozen=True)
class _Place:
    """Where an attempt's output lies.

    Attributes:
        log: the file.
        start: where in it the attempt's part begins.
        note: the worker's note of an attempt that shares the file with others; it is gone once that has ended.
    """

    log: Path
    start: int = 0
    note: Path | None = None


def find_log(folder: Path, point: int, attempt: int) -> _Place | None:
    """Where the output of an attempt lies below a run's folder; None: not there."""
    own = folder / "logs" / f"{point}-{attempt}.log"
    if own.is_file():
        return _Place(own)
    for note in (folder / "spool").glob(f"*/*-{point}-{attempt}.running"):
        try:
            told = json.loads(note.read_bytes())
            place = _Place(Path(told["log"]), int(told["log_start"]), note)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if (told.get("point"), told.get("attempt")) == (point, attempt) and place.log.is_file():
            return place
    return None


def _data_from(file: int, begin: int) -> int:
    """Where there is something to read from some place on: the worker makes holes into logs that grow too large."""
    try:
        return os.lseek(file, begin, os.SEEK_DATA)
    except (OSError, AttributeError):  # nothing more, or a file system that does not tell
        return begin


class _Tail:
    """Reads on in the output of one attempt, wherever that lies."""

    def __init__(self, folder: Path, point: int, attempt: int) -> None:
        self._folder, self._point, self._attempt = folder, point, attempt
        self._place: _Place | None = None
        self._read = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.found = False

    def news(self) -> str:
        """What has been printed since the last call, a megabyte at most."""
        if self._place is None or (self._place.note is not None and not self._place.note.exists()):
            self._place = find_log(self._folder, self._point, self._attempt)
        if self._place is None:
            return ""
        self.found = True
        begin = self._place.start + self._read
        try:
            with self._place.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                if end < begin:
                    self._read = end - self._place.start
                    return _CUT
                if (data_at := _data_from(file.fileno(), begin)) > begin:
                    self._read = data_at - self._place.start
                    return _CUT
                file.seek(begin)
                data = file.read(_AT_ONCE)
        except OSError:
            return ""
        if self._place.note is not None and not self._place.note.exists():
            return ""  # it may be the next attempt's; this one's part is in a file of its own by now
        self._read += len(data)
        return self._decoder.decode(data)


class Follower:
    """Follows a point to its end.

    Args:
        store: of the run, opened for reading.
        folder: of the run.
        point: id of the point, which exists.
        write: prints text as it is.
        patience_s: how long nobody may steer the run before that is the end of it.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        point: int,
        write: Callable[[str], None],
        *,
        patience_s: float = 5.0,
    ) -> None:
        self._store, self._folder, self._point = store, folder, point
        self._write, self._patience_s = write, patience_s
        self._fresh_line = True

    def follow(self) -> None:
        """Prints until the point has ended, or nobody steers the run any more."""
        shown: set[int] = set()
        steered_at = time.monotonic()
        said = False
        while True:
            if self._store.owner() is not None:
                steered_at = time.monotonic()
            record = self._store.points(ids=[self._point])[0]
            for tried in self._store.attempts(self._point):
                if tried.attempt not in shown:
                    shown.add(tried.attempt)
                    self._attempt(tried)
                    steered_at = time.monotonic()
            if record.state in ("done", "failed"):
                self._line(f"point {self._point} has ended: {record.state}")
                return
            if time.monotonic() - steered_at > self._patience_s:
                self._line(f"point {self._point} is {record.state}, and nobody steers the run at present")
                return
            if not said and not shown:
                said = True
                self._line(f"point {self._point} is queued; waiting for a worker to take it")
            time.sleep(_LOOK_S)

    def _attempt(self, tried: AttemptRecord) -> None:
        """Follows one attempt to its end."""
        self._line(f"attempt {tried.attempt} · {printable(tried.worker or 'no worker', _WIDEST)}")
        tail = _Tail(self._folder, tried.point, tried.attempt)
        began = steered_at = time.monotonic()
        while True:
            now = self._now(tried)
            while text := tail.news():  # after the look into the store: once it has ended, all of it is there
                self._print(text)
            if now.outcome is not None:
                break
            if not tail.found and began and time.monotonic() - began > _ABSENT_S:
                began = 0.0
                self._line(
                    f"its log is not on this machine: logs/{tried.point}-{tried.attempt}.log in the work folder of "
                    "its worker; if it fails, the last lines come with its result"
                )
            if self._store.owner() is not None:
                steered_at = time.monotonic()
            elif time.monotonic() - steered_at > self._patience_s:
                return
            time.sleep(_LOOK_S)
        if not tail.found and now.log.strip():
            self._print(now.log.rstrip() + "\n")
        took = "" if now.duration_s is None else f" after {duration(now.duration_s)}"
        why = (now.message or "").strip().partition("\n")[0]
        self._line(
            f"attempt {now.attempt}: {now.outcome}{took}" + (f": {printable(why, _WIDEST)}" if why else "")
        )

    def _now(self, tried: AttemptRecord) -> AttemptRecord:
        same = [each for each in self._store.attempts(tried.point) if each.attempt == tried.attempt]
        return same[-1] if same else tried

    def _print(self, text: str) -> None:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        self._write(harmless(text))
        self._fresh_line = text.endswith("\n")

    def _line(self, text: str) -> None:
        self._write(f"{'' if self._fresh_line else chr(10)}== {harmless(text)}\n")
        self._fresh_line = True
