"""A child process with all that it starts: a session of its own, killed whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from containers.warden import Warden

GRACE_S = 5.0
"""How long a process may take to end after SIGTERM."""


@dataclass(frozen=True)
class Surroundings:
    """What every child of a worker gets.

    Attributes:
        env: its environment.
        cwd: its working directory.
        warden: kills it if the worker is killed.
    """

    env: Mapping[str, str]
    cwd: Path
    warden: Warden


class ProcessGroup:
    """A running child and what it has started.

    Args:
        argv: the program and its arguments.
        around: its surroundings.
        env: further environment variables.
        log_fd: where its stderr goes, and its stdout unless `stdout_fd` is given.
        stdout_fd: where its stdout goes.
        pass_fds: descriptors it inherits.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        around: Surroundings,
        *,
        log_fd: int,
        env: Mapping[str, str] | None = None,
        stdout_fd: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._warden = around.warden
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log_fd if stdout_fd is None else stdout_fd,
            stderr=log_fd,
            cwd=around.cwd,
            env={**around.env, **(env or {})},
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self._warden.began(self.pid)
        self._fd = _open_pidfd(self.pid)
        self._kill_at: float | None = None
        self._killed = False

    @property
    def pid(self) -> int:
        """The child's id, and its group's."""
        return self._process.pid

    def fds(self) -> tuple[int, ...]:
        """A descriptor that is readable once the child has ended; none where the system has no such thing."""
        return () if self._fd is None else (self._fd,)

    def exited(self) -> bool:
        """Whether the child itself has ended; it stays a zombie, so that its group's id stays its own."""
        if self._process.returncode is not None:
            return True
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def terminate(self) -> None:
        """Asks the group to end; `tick` kills it after `GRACE_S`."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + GRACE_S
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the group at once."""
        if not self._killed:
            self._killed = True
            self._signal(signal.SIGKILL)

    def tick(self, now: float) -> None:
        """Kills the group if its grace is over."""
        if self._kill_at is not None and now >= self._kill_at:
            self.kill()

    def reap(self) -> int:
        """Kills what is left of the group of a child that has exited, and forgets it.

        Returns:
            The child's exit code; negative: the signal that ended it.
        """
        if self._process.returncode is None:
            self._signal(signal.SIGKILL)
        self._warden.ended(self.pid)
        code = self._process.wait()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        return code

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is not None:  # reaped: the id may be somebody else's by now
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def died(code: int, when: str = "") -> str:
    """A sentence about a process that ended, such as ``was killed by SIGSEGV before it returned``."""
    when = f" {when}" if when else ""
    if code >= 0:
        return f"ended with exit code {code}{when}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (perhaps the machine or its job ran out of memory)" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{when}{hint}"


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
