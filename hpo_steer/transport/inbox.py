"""What an I/O thread hands to the thread that owns an end of a transport."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue with one putting and one taking thread, whose descriptor is readable while it holds something.

    No lock: a byte is written only where the taker has not been woken since it last looked, so a flood of
    messages costs one system call for each `take`. The descriptor may be readable once too often, never once
    too seldom.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._woken = False
        self._read_fd, self._write_fd = (
            os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        )
        self._closed = False

    def put(self, item: T) -> None:
        """Adds an item; called by the putting thread."""
        self._items.append(item)
        if not self._woken:
            self._wake()

    def take(self, limit: int) -> list[T]:
        """At most `limit` items in order; called by the taking thread."""
        if self._closed:
            return []
        self._read()
        self._woken = False
        items = self._items
        taken: list[T] = []
        while items and len(taken) < limit:
            taken.append(items.popleft())
        if items and not self._woken:
            self._wake()
        return taken

    def fileno(self) -> int:
        """Readable while there may be something to take."""
        return self._read_fd

    def close(self) -> None:
        """Gives the descriptor back, once the putting thread has ended; what was not taken is forgotten."""
        if not self._closed:
            self._closed = True
            self._items.clear()
            os.close(self._read_fd)
            os.close(self._write_fd)

    def _wake(self) -> None:
        self._woken = True
        if not self._closed:
            with contextlib.suppress(BlockingIOError):  # full, so it is readable already
                os.write(self._write_fd, b"\0")

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_fd, 4096)


def _pipe() -> tuple[int, int]:
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    return read_fd, write_fd
