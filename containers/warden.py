"""Kills a worker's children, or those of an algorithm's process, when that itself has been killed.

Standard library only; one process a worker.

The warden reads a pipe from its worker: ``+123`` for a process group that began, ``-123`` for one that ended;
``+123 ["podman", "rm", …]`` for one that leaves something behind, a container mostly, with what removes that.
When the pipe ends without a goodbye, the worker is dead, and every group that is left is killed, and so is
every process that carries the worker's mark in its environment (a child that was born in the worker's last
moment, or that has left its group). A process on its own can do this after ``kill -9`` of the worker; death
signals (PR_SET_PDEATHSIG) would reach the children only, not theirs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

MARK = "HPO_STEER_WORKER"


class Warden:
    """A worker's side of its warden.

    Args:
        mark: the worker's id, which all its children carry in the environment as `MARK`.
    """

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self._groups: dict[int, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def began(self, group: int, removal: Sequence[str] | None = None) -> None:
        """A process group began.

        Args:
            group: its id.
            removal: what removes the container that it runs, or the folder that it leaves, if there is one.
        """
        self._groups[group] = line = (
            f"+{group}\n" if removal is None else f"+{group} {json.dumps([*removal])}\n"
        )
        self._tell(line)

    def ended(self, group: int) -> None:
        """A process group is killed, and will be reaped next."""
        self._groups.pop(group, None)
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
            line = "".join(self._groups.values())
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
    groups: dict[int, list[str] | None] = {}
    for line in sys.stdin.buffer:
        group, _, removal = line[1:].partition(b" ")
        if line.startswith(b"+"):
            groups[int(group)] = json.loads(removal) if removal else None
        else:
            groups.pop(int(group), None)
    removals = [_remove(group, removal) for group, removal in groups.items() if removal is not None]
    for group, removal in groups.items():
        if removal is None:
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGKILL)
    for process in removals:
        process.wait()
    for _ in range(20):
        if not _kill_marked(f"{MARK}={mark}".encode()):
            return
        time.sleep(0.05)


def _remove(group: int, removal: Sequence[str]) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", "-S", str(Path(__file__).with_name("removal.py")), str(group), *removal]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL)


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
