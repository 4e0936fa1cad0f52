"""Keeps a log that a training writes to small: its first and its last part stay, a line says what was cut.

The training appends to the file itself. So it never waits for the worker, a worker that is killed costs it nothing, and
``tail -f`` shows what it prints. The worker looks at the file's size now and then, and beyond the bound it cuts the
middle out: the file is shortened to its first part, and its last part is written behind that anew. Between two looks
the file can grow beyond its bound by what a training prints in that time.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KEPT_BYTES = 16 * 2**20
"""What is kept where nothing else is said."""
_LOOK_S = 0.1
_CLOSE_LOOK_S = 0.02
"""How often a thread looks at a log that has grown beyond its bound once, until it is quiet for a while."""
_QUIET_LOOKS = 100


class BoundedLog:
    """The part of a log that one attempt writes.

    Args:
        path: of the log; whatever writes to it appends.
        start: where the attempt's part begins, in bytes.
        most: bytes that part may hold.
    """

    def __init__(self, path: Path, start: int, most: int) -> None:
        self._path, self._start, self._most = path, start, most
        self._head: int | None = None
        self._cut = 0
        self._marked = 0
        self._looked = 0.0
        self._thread: threading.Thread | None = None
        self._end = threading.Event()

    def look(self, now: float) -> None:
        """Sees to it that the log stays small; takes microseconds, as what takes longer is done beside the caller.

        Args:
            now: monotonic seconds.
        """
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        if self._too_large() and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._watch_closely, daemon=True, name="bounded log")
            self._thread.start()

    def finish(self) -> None:
        """The attempt has ended: what it printed last is cut, too."""
        if self._thread is not None:
            self._end.set()
            self._thread.join()
        if self._too_large():
            self._shorten()

    def _too_large(self) -> bool:
        try:
            return os.stat(self._path).st_size - self._start > self._most  # noqa: PTH116 - called often
        except OSError:
            return False

    def _watch_closely(self) -> None:
        quiet = 0
        while quiet < _QUIET_LOOKS:
            if self._too_large():
                self._shorten()
                quiet = 0
            else:
                quiet += 1
            if self._end.wait(_CLOSE_LOOK_S):
                return

    def _shorten(self) -> None:
        """Leaves a quarter of the bound from the beginning and a quarter from the end."""
        with contextlib.suppress(OSError):  # no log is worth a training
            file = os.open(self._path, os.O_RDWR | os.O_APPEND)
            try:
                part = self._most // 4
                if self._head is None:
                    self._head = self._start + _to_line_end(os.pread(file, part, self._start))
                size = os.fstat(file).st_size
                begin = max(size - part, self._head + self._marked)
                tail = os.pread(file, size - begin, begin)
                whole = tail[_to_line_start(tail) :]
                self._cut += size - len(whole) - self._head - self._marked
                mark = f"[hpo-steer: {self._cut:,} bytes are cut out here, see evaluation.log_mib]\n".encode()
                os.ftruncate(file, self._head)
                self._marked = len(mark)
                _write(file, mark + whole)
            finally:
                os.close(file)


def _to_line_end(data: bytes) -> int:
    """How much of some output ends with a whole line; all of it if there is none."""
    return data.rfind(b"\n") + 1 or len(data)


def _to_line_start(data: bytes) -> int:
    """Where the first whole line begins; 0 if there is none."""
    found = data.find(b"\n") + 1
    return found if found < len(data) else 0


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
