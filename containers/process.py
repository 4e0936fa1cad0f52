"""A child process with all that it starts: a session of its own, killed whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from containers.enclosure import Enclosure
    from containers.launch import Mount
    from containers.warden import Warden

GRACE_S = 5.0
"""How long a process may take to end after SIGTERM."""
SLOT = "HPO_STEER_SLOT"
"""Names the variable that tells a child in which of the worker's slots it runs, from 0."""
_KILLED = 137
_CONTAINER_CODES = {
    125: "could not be started: its container could not be made (the log says why)",
    126: "could not be started: the image's program cannot be run",
    127: "could not be started: the image has no such program",
    _KILLED: "was killed by SIGKILL in its container (perhaps it went beyond its memory)",
}
_REMOVAL = str(Path(__file__).with_name("removal.py"))


@dataclass(frozen=True)
class Seat:
    """What the processes in one of a worker's slots may use.

    Attributes:
        env: environment variables, in a container too.
        cores: the cores they run on; none: any.
        memory_mib: a bound on their memory, in MiB; None: none.
        gpus: UUIDs of the GPUs they see.
        gpu_memory_mib: a bound on what they take of that GPU's memory, in MiB; None: none that we see to.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    memory_mib: int | None = None
    gpus: tuple[str, ...] = ()
    gpu_memory_mib: int | None = None


@dataclass(frozen=True)
class Surroundings:
    """What every child of a worker, or of an algorithm's process, gets.

    Attributes:
        env: its environment; in a container, the environment of the program that runs the container.
        cwd: its working directory.
        warden: kills it if its parent is killed.
        enclosure: the container that it runs in; None: none.
        seats: what each slot has; none: all have the same.
    """

    env: Mapping[str, str]
    cwd: Path
    warden: Warden
    enclosure: Enclosure | None = None
    seats: Sequence[Seat] = ()

    def seat(self, slot: int) -> Seat:
        """What a slot has; its number is in the environment."""
        seat = self.seats[slot] if self.seats else Seat()
        return replace(seat, env={**seat.env, SLOT: str(slot)})


class ProcessGroup:
    """A running child and what it has started, in a container or not.

    Args:
        argv: the program and its arguments.
        around: its surroundings.
        seat: what it may use.
        env: further environment variables.
        log_fd: where its stderr goes, and its stdout unless `stdout_fd` is given.
        stdin_fd: where its stdin comes from; else it is empty.
        stdout_fd: where its stdout goes.
        pass_fds: descriptors it inherits (not into a container).
        mounts: what a container sees besides the mounts of its config.

    Raises:
        OSError: it cannot be started.
        ContainerError: something is asked for that the container's runtime cannot do.
    """

    def __init__(
        self,
        argv: Sequence[str],
        around: Surroundings,
        *,
        log_fd: int,
        seat: Seat | None = None,
        env: Mapping[str, str] | None = None,
        stdin_fd: int | None = None,
        stdout_fd: int | None = None,
        pass_fds: Sequence[int] = (),
        mounts: Sequence[Mount] = (),
    ) -> None:
        self._warden = around.warden
        self._removal: Sequence[str] | None = None
        seat = seat or Seat()
        env = {**seat.env, **(env or {})}
        if around.enclosure is None:
            inner = {**around.env, **env}
        else:
            entered = around.enclosure.enter(
                argv, around.cwd, env=env, seat=seat, mounts=mounts, interactive=stdin_fd is not None
            )
            argv, inner, self._removal = entered.argv, {**around.env, **entered.env}, entered.removal
        with _on_cores(seat.cores):
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL if stdin_fd is None else stdin_fd,
                stdout=log_fd if stdout_fd is None else stdout_fd,
                stderr=log_fd,
                cwd=around.cwd,
                env=inner,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        self._warden.began(self.pid, self._removal)
        self._fd = _open_pidfd(self.pid)
        self._kill_at: float | None = None
        self._killed = self._reaped = False
        self._ending: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The child's id, and its group's."""
        return self._process.pid

    def fds(self) -> tuple[int, ...]:
        """A descriptor that is readable once the child has ended; none where the system has no such thing."""
        return () if self._fd is None else (self._fd,)

    def exited(self) -> bool:
        """Whether the child itself has ended; it stays a zombie, so that its group's id stays its own.

        One that runs a container has ended when the container has, too.
        """
        if self._reaped:
            return True
        if not self._left():
            return False
        if self._removal is not None and self._ending is None and self._by_signal():
            self._end_container()
        return self._ending is None or self._ending.poll() is not None

    def _left(self) -> bool:
        """Whether the child's own process is over."""
        if self._process.returncode is not None:
            return True
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _by_signal(self) -> bool:
        """Whether a signal has ended the child, so that its container may go on without it."""
        if self._process.returncode is not None or not hasattr(os, "waitid"):
            return (self._process.poll() or 0) < 0
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return ended is not None and ended.si_code != os.CLD_EXITED

    def terminate(self, grace_s: float = GRACE_S) -> None:
        """Asks the group to end; `tick` kills it after the grace."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + grace_s
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the group at once."""
        if not self._killed and not self._reaped:
            self._killed = True
            if self._removal is None:
                self._signal(signal.SIGKILL)
            elif self._ending is None:
                self._end_container()

    def tick(self, now: float) -> None:
        """Kills the group if its grace is over."""
        if self._kill_at is not None and now >= self._kill_at:
            self.kill()

    def reap(self) -> int:
        """Kills what is left of the group of a child that has exited, and forgets it.

        Returns:
            The child's exit code; negative: the signal that ended it.
        """
        boxed = self._removal is not None and not self._reaped and self._ending is None
        if boxed and (not self._left() or self._by_signal()):
            self._end_container()
        if self._ending is not None:
            self._ending.wait()
        if self._process.returncode is None:
            self._signal(signal.SIGKILL)
        self._warden.ended(self.pid)
        code = self._process.wait()
        self._reaped = True
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        return code

    def died(self, code: int, when: str = "") -> str:
        """A sentence about how it ended, given its exit code."""
        if self._removal is not None and code in _CONTAINER_CODES:
            return _CONTAINER_CODES[code] + (f" {when}" if when and code == _KILLED else "")
        return died(code, when)

    def _end_container(self) -> None:
        """In a process beside this one: it takes a moment, and no loop waits for it."""
        self._ending = subprocess.Popen(
            [sys.executable, "-I", "-S", _REMOVAL, str(self.pid), *(self._removal or ())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

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


@contextlib.contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
    """A child started meanwhile runs on these cores: it has those of the thread that starts it."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):  # a core was taken from us meanwhile; the others are as good
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
