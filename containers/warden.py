"""Kills a worker's children when the worker itself has been killed.

Standard library only; one process a worker.

The warden reads a pipe from its worker: ``+123`` for a process group that began, ``-123`` for one that ended.
When the pipe ends without a goodbye, the worker is dead, and every group that is left is killed, and so is
every process that carries the worker's mark in its environment (a child that was born in the worker's last
moment, or that has left its group). A process on its own can do this after ``kill -9`` of the worker; death
signals (PR_SET_PDEATHSIG) would reach the children only, not theirs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "HPO_STEER_WORKER"


class Warden:
    """A worker's side of its warden.

    Args:
        mark: the worker's id, which all its children carry in the environment as `MARK`.
    """

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def began(self, group: int) -> None:
        """A process group began."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def ended(self, group: int) -> None:
        """A process group is killed, and will be reaped next."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Sends the warden away; what is still running then is killed."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5.0)
            self._process = None

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()
            line = "".join(f"+{group}\n" for group in self._groups)
        stdin = self._process.stdin if self._process else None
        if stdin is not None:
            with contextlib.suppress(OSError):
                stdin.write(line.encode())

    def _start(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,
        )


def _watch(mark: str) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        group = int(line[1:])
        if line.startswith(b"+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    for _ in range(20):
        if not _kill_marked(f"{MARK}={mark}".encode()):
            return
        time.sleep(0.05)


def _kill_marked(mark: bytes) -> bool:
    """Kills what carries the mark, where environments can be seen (Linux); whether there was any."""
    found = False
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found = True
                os.kill(int(folder.name), signal.SIGKILL)
    return found


if __name__ == "__main__":
    _watch(sys.argv[1])
