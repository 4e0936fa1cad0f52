"""One call of a program: it runs to its end, and what it printed last is kept."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from containers.process import ProcessGroup, Surroundings
from steering.outside.place import LOG_FD

if TYPE_CHECKING:
    from containers.launch import Mount

TAIL_LINES = 20
_TAIL_BYTES = 8_192
_LOGGED = 1_048_576
"""So much of what a call prints goes to the log; the end of it is kept all the same."""


@dataclass(frozen=True)
class Ended:
    """How a call ended.

    Attributes:
        wrong: a sentence about what went wrong; None if nothing did.
        said: the last lines it printed.
    """

    wrong: str | None
    said: str


def call(
    argv: Sequence[str],
    around: Surroundings,
    *,
    timeout_s: float | None = None,
    mounts: Sequence[Mount] = (),
    log_fd: int = LOG_FD,
) -> Ended:
    """Runs a program to its end, and kills it and all it has started if that takes too long.

    Args:
        argv: program and arguments.
        around: where it runs.
        timeout_s: how long it may take.
        mounts: what its container sees besides the working folder.
        log_fd: where what it prints goes.

    Raises:
        OSError: it cannot be started.
    """
    read_fd, write_fd = os.pipe()
    try:
        group = ProcessGroup(argv, around, log_fd=write_fd, mounts=mounts)
    finally:
        os.close(write_fd)
    until = None if timeout_s is None else time.monotonic() + timeout_s
    tail, logged, late = bytearray(), 0, False
    os.set_blocking(read_fd, False)
    try:
        while True:
            exited = group.exited()
            logged = _drain(read_fd, tail, logged, log_fd)
            if exited:
                break
            if not late and until is not None and time.monotonic() >= until:
                late = True
                group.kill()
            select.select([read_fd, *group.fds()], [], [], 0.1)
        code = group.reap()
        _drain(read_fd, tail, logged, log_fd)
    except BaseException:
        group.kill()
        group.reap()
        raise
    finally:
        os.close(read_fd)
    said = "\n".join(bytes(tail).decode("utf-8", "replace").replace("\0", "").splitlines()[-TAIL_LINES:])
    if late:
        return Ended(f"has not ended within {timeout_s:g} s (timeout_s)", said)
    return Ended(group.died(code) if code else None, said)


def _drain(fd: int, tail: bytearray, logged: int, log_fd: int) -> int:
    """Reads what there is; returns how much of it has gone to the log so far."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(256):
            data = os.read(fd, 65_536)
            if not data:
                time.sleep(0.01)  # closed by a program that goes on
                break
            tail += data
            del tail[:-_TAIL_BYTES]
            if logged < _LOGGED:
                with contextlib.suppress(OSError):  # a full disk ends no search
                    os.write(log_fd, data[: _LOGGED - logged])
                logged += len(data)
    return logged
