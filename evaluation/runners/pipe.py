"""A child process and the lines to and from it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import TYPE_CHECKING, Any

from containers.process import ProcessGroup, Surroundings
from evaluation.attempt import open_log, point_of, remove_if_empty
from evaluation.runners.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evaluation.runners.base import Task
    from evaluation.runners.targets import Target

_MAX_ANSWER = 8_000_000
_MAX_REQUEST = 65_536
"""A longer request to our own program goes through a file."""
_MOST_BEFOREHAND = 16_384
"""What a child's socket takes at once even while the child does not read."""
_RECEIVED = 262_144
_RECEIVED_AT_ONCE = 16
"""Nobody who floods us with lines holds the loop up."""


class Child:
    """A child process and the socket to it. No method blocks.

    Args:
        target: what it runs.
        around: its surroundings.
        log: where its output goes.
        once: whether it ends after one point.
        slot: the worker's slot it runs in.

    Raises:
        OSError: it cannot be started.
        ContainerError: something is asked for that its container cannot have.
    """

    def __init__(self, target: Target, around: Surroundings, log: Path, *, once: bool, slot: int) -> None:
        self.log, self.target = log, target
        ours, theirs = socket.socketpair()
        self.log_fd = open_log(log)
        fd = theirs.fileno()
        try:
            self.group = ProcessGroup(
                target.argv(None if target.stdio else fd, once=once),
                around,
                seat=around.seat(slot),
                log_fd=self.log_fd,
                stdin_fd=fd if target.stdio else None,
                stdout_fd=fd if target.stdio else None,
                pass_fds=() if target.stdio else (fd,),
                mounts=target.mounts,
            )
        except BaseException:
            ours.close()
            os.close(self.log_fd)
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self.socket = ours
        self.handed: dict[str, None] = {}  # attempts that it has not answered yet
        self.stale = False
        self.served = 0
        self.spent = False
        self.weighed_at = 0.0
        self.leave_by: float | None = None
        self._lines = Lines()
        self._unsent = b""

    # ------------------------------------------------------------ requests

    def send(self, task: Task) -> None:
        """Sends an attempt; what does not fit now goes out with the next looks at its answers."""
        self.handed[key_of(task)] = None
        self._push(_request(task, self.target))

    def hand_over(self, tasks: Sequence[Task]) -> None:
        """Sends those attempts that were not sent before, as far as they are sure to fit into its socket."""
        data = b""
        for task in tasks:
            key = key_of(task)
            if key not in self.handed:
                request = _request(task, self.target)
                if self.handed and (not self.target.trusted or len(data) + len(request) > _MOST_BEFOREHAND):
                    break
                self.handed[key] = None
                data += request
        self._push(data)

    def _push(self, data: bytes = b"") -> None:
        self._unsent += data
        with contextlib.suppress(
            OSError
        ):  # it does not read, or has died this moment, which the next poll finds
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]

    # ------------------------------------------------------------ answers

    @property
    def ready(self) -> bool:
        """Whether an answer was received already."""
        return bool(self._lines)

    def receive(self) -> Mapping[str, Any] | None:
        """The next answer, once it is there whole. Lines that are none go to the log."""
        if self._unsent:
            self._push()
        if not self._lines:
            self._fetch()
        stray = []
        try:
            while (line := self._lines.next()) is not None:
                if (answer := self._read(line)) is not None:
                    return answer
                stray.append(line)
        finally:
            if stray:
                with contextlib.suppress(OSError):
                    os.write(self.log_fd, b"\n".join((*stray, b"")))
        return None

    def _read(self, line: bytes) -> Mapping[str, Any] | None:
        if self.target.trusted:
            return dict(json.loads(line))
        if b"{" not in line:
            return None
        with contextlib.suppress(ValueError, RecursionError, TypeError):  # TypeError: a key that is a list
            answer: Any = json.loads(line)
            if isinstance(answer, dict) and answer.get("key") in self.handed:
                return answer
        return None

    def _fetch(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            for _ in range(_RECEIVED_AT_ONCE):
                data = self.socket.recv(_RECEIVED)
                if not data:
                    return
                self._lines.feed(data)
                if self._lines.unfinished > _MAX_ANSWER:
                    self.group.kill()
                    self._lines.drop()
                    return
                if not self._lines.unfinished:
                    return

    # ------------------------------------------------------------ its life

    def fds(self) -> tuple[int, ...]:
        """What becomes readable when there is news."""
        return (self.socket.fileno(), *self.group.fds())

    def hang_up(self, leave_by: float) -> None:
        """Lets it end by itself: there is no further request.

        Args:
            leave_by: when it is to be killed if it does not.
        """
        self.leave_by = leave_by
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def end(self) -> int:
        """Reaps a child that has ended or has been killed; its exit code."""
        code = self.group.reap()
        self.socket.close()
        os.close(self.log_fd)
        remove_if_empty(self.log)
        return code


def key_of(task: Task) -> str:
    """What an attempt's request and answer are known by."""
    return f"{task.work.run}/{task.work.point}/{task.work.attempt}"


def _request(task: Task, target: Target) -> bytes:
    request = {
        "key": key_of(task),
        "point": point_of(task.work),
        "dir": task.folder.path,
        "params": task.work.params,
    }
    data = json.dumps(request).encode() + b"\n"
    if len(data) > _MAX_REQUEST and target.trusted:
        file = task.folder.make() / "request.json"
        file.write_bytes(data)
        data = json.dumps({"request": str(file)}).encode() + b"\n"
    return data
