"""Keeps a log that a training writes to small: its first and its last part stay, a line says what was cut.

The training appends to the file itself. So it never waits for the worker, a worker that is killed costs it nothing, and
``tail -f`` shows what it prints. The worker looks at the file now and then, and has the disk take back its middle
(a hole; nothing moves that is being written). Once the attempt has ended, the file is put together from what is
left. On file systems without holes the middle is cut out at once, by writing the last part anew behind the first; a
line that is printed in that moment may be lost with it. Between two looks a file can grow by what is printed then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
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
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
"""Modes of Linux's ``fallocate``."""
_BLOCK = 512
"""The unit of ``st_blocks``."""


class BoundedLog:
    """The part of a log that one attempt writes.

    Args:
        path: of the log; whatever writes to it appends.
        start: where the attempt's part begins, in bytes.
        most: bytes that part may hold.
        holes: try to make holes.
    """

    def __init__(self, path: Path, start: int, most: int, *, holes: bool = True) -> None:
        self._path, self._start, self._most, self._holes = path, start, most, holes
        self._head: int | None = None
        self._cut = self._marked = 0
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
        """The attempt has ended: what is left of the log is put together."""
        if self._thread is not None:
            self._end.set()
            self._thread.join()
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_size - self._start > self._most:  # noqa: PTH116 - called often
                self._shorten(running=False)

    def _too_large(self) -> bool:
        """Whether its part takes more of the disk than it may."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - called often
        except OSError:
            return False
        return min(found.st_size, found.st_blocks * _BLOCK) - self._start > self._most

    def _watch_closely(self) -> None:
        quiet = 0
        while quiet < _QUIET_LOOKS:
            if self._too_large():
                self._shorten(running=True)
                quiet = 0
            else:
                quiet += 1
            if self._end.wait(_CLOSE_LOOK_S):
                return

    def _shorten(self, *, running: bool) -> None:
        """Leaves a quarter of the bound from the beginning and a quarter from the end."""
        with contextlib.suppress(OSError):  # no log is worth a training
            file = os.open(self._path, os.O_RDWR | os.O_APPEND)
            try:
                part = self._most // 4
                if self._head is None:
                    self._head = self._start + _to_line_end(os.pread(file, part, self._start))
                size = os.fstat(file).st_size
                if running and self._holes:
                    self._holes = _punch(file, self._head, size - part)
                if not (running and self._holes):
                    self._rewrite(file, self._head, size)
            finally:
                os.close(file)

    def _rewrite(self, file: int, head: int, size: int) -> None:
        """Puts the last part behind the first, with a line between them."""
        begin = max(size - self._most // 4, head + self._marked)
        tail = os.pread(file, size - begin, begin)
        whole = tail[_to_line_start(tail) :]
        self._cut += size - len(whole) - head - self._marked
        mark = f"[hpo-steer: {self._cut:,} bytes are cut out here, see evaluation.log_mib]\n".encode()
        self._marked = len(mark)
        os.ftruncate(file, head)
        view = memoryview(mark + whole)
        while view:
            view = view[os.write(file, view) :]


def _punch(file: int, begin: int, end: int) -> bool:
    """Gives a part of a file back to the disk, which then reads as zeros; whether the file system can do that."""
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):  # not Linux
        return False
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if end <= begin or fallocate(file, _PUNCH_HOLE | _KEEP_SIZE, begin, end - begin) == 0:
        return True
    return ctypes.get_errno() == errno.EINTR


def _to_line_end(data: bytes) -> int:
    """How much of some output ends with a whole line; all of it if there is none."""
    return data.rfind(b"\n") + 1 or len(data)


def _to_line_start(data: bytes) -> int:
    """Where the first whole line begins; 0 if there is none."""
    found = data.find(b"\n") + 1
    return found if found < len(data) else 0
