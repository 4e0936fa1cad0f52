"""Signals as a count that a loop looks at, and a descriptor that wakes it."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

ENOUGH = 2
"""From this count on, nothing is finished any more."""


class Signals:
    """Counts SIGINT; SIGHUP counts twice, unless it is ignored (nohup). SIGTERM, however often, counts as one.

    Outside the main thread no handlers are installed; then somebody calls `count`.

    Attributes:
        number: how many have come.
        preempted: SIGTERM was among them: the worker has to leave.
    """

    def __init__(self) -> None:
        self.number = 0
        self.preempted = False
        self._read_end, self._write_end = os.pipe()
        for fd in (self._read_end, self._write_end):
            os.set_blocking(fd, False)
        self._handlers: dict[int, Any] = {}
        self._old_fd: int | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(ValueError):  # not the main thread
            self._old_fd = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._old_fd is not None:
            signal.set_wakeup_fd(self._old_fd)
        os.close(self._read_end)
        os.close(self._write_end)

    def fileno(self) -> int:
        """Readable when one has come, until `clear`."""
        return self._read_end

    def clear(self) -> None:
        """Makes the descriptor unreadable again; the count stays."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_end, 1024)

    def count(self) -> None:
        """Counts one more and wakes the loop; from any thread."""
        self.number += 1
        with contextlib.suppress(OSError):
            os.write(self._write_end, b"\0")

    def _handle(self, number: int, _frame: object) -> None:
        if number == signal.SIGTERM:
            self.preempted, self.number = True, max(self.number, 1)
        else:
            self.number += ENOUGH if number == signal.SIGHUP else 1
