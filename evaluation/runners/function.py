"""Runs the user's function in child processes that see `hpo_steer` alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from containers.process import ProcessGroup, Surroundings, died
from evaluation.attempt import open_log, point_of, remove_if_empty
from evaluation.runners.base import Handle, Outcome, Runner, Task, failed, read_answer
from hpo_steer.child import BOOTSTRAP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MAX_ANSWER = 8_000_000
_MAX_REQUEST = 65_536
"""A longer request goes through a file, so that sending it never waits for the child."""
_MOST_BEFOREHAND = 16_384
"""What a child's socket takes at once even while the child does not read."""
_EXIT_GRACE_S = 10.0
"""How long a child may take to end after its function has returned."""
_MAX_SLOT_LOG = 16 * 2**20
_KEPT_LOG_S = 0.3


@dataclass(frozen=True)
class FunctionTarget:
    """Which function, and where it runs.

    Attributes:
        file: the file it is in; None: `module` is found by the interpreter.
        module: the module's name.
        name: the function's.
        path: folders that go to the front of the child's ``sys.path``.
        python: the interpreter.
        link: a folder that holds nothing but `hpo_steer`.
        objectives: metrics that the function must return.
        reuse: one child takes many points.
    """

    file: Path | None
    module: str
    name: str
    path: Sequence[Path]
    python: Path
    link: Path
    objectives: Sequence[str]
    reuse: bool = False


class FunctionRunner(Runner):
    """Runs a function: a child for each attempt, or warm ones that take many.

    Args:
        target: the function.
        around: the children's surroundings.
        logs: where warm children's logs go.
    """

    def __init__(self, target: FunctionTarget, around: Surroundings, logs: Path) -> None:
        self._target, self._around, self._logs = target, around, logs
        self._warm: dict[int, _Child] = {}
        self._dying: list[_Child] = []
        self._running: dict[int, _Child] = {}

    def start(self, task: Task) -> Handle:
        """Starts an attempt; raises as `Runner.start`."""
        if self._target.reuse:
            return self._start_warm(task)
        child = _Child(self._target, self._around, task.log, once=True, slot=task.slot)
        self._running[task.slot] = child
        with contextlib.suppress(OSError):  # it has died already, which the first poll finds
            child.send(_request(task))
        return _OneShot(self, child, task)

    def warm(self, slots: int) -> None:
        """Starts a child for each slot, if they are used again."""
        if self._target.reuse:
            for slot in range(slots):
                self._warm[slot] = self._new_warm(slot)

    def close(self) -> None:
        """Ends every child."""
        children = (*self._warm.values(), *self._dying, *self._running.values())
        for child in children:
            child.group.kill()
        for child in children:
            child.end()
        self._warm.clear()
        self._dying.clear()
        self._running.clear()

    def ended(self, slot: int) -> None:
        """The child of one attempt has been reaped."""
        self._running.pop(slot, None)

    def retire(self, child: _Child, slot: int) -> None:
        """Ends a warm child; the slot's next attempt gets a new one."""
        if self._warm.get(slot) is child:
            del self._warm[slot]
        child.group.kill()
        self._dying.append(child)
        self._bury()

    def _start_warm(self, task: Task) -> Handle:
        self._bury()
        child = self._warm.get(task.slot)
        if child is not None and child.group.exited():
            self.retire(child, task.slot)
            child = None
        if child is None:
            child = self._warm[task.slot] = self._new_warm(task.slot)
        handle = _Warm(self, child, task)
        child.hand_over([task])
        return handle

    def foresee(self, tasks: Sequence[Task]) -> None:
        """Hands attempts to a warm child beforehand; see `Runner.foresee`."""
        child = self._warm.get(tasks[0].slot) if tasks else None
        if child is not None and len(child.handed) <= len(tasks) // 2:
            child.hand_over(tasks)

    def forget(self) -> None:
        """A child that was handed attempts beforehand is replaced after the one it is busy with."""
        for child in self._warm.values():
            child.stale = len(child.handed) > 1

    def _new_warm(self, slot: int) -> _Child:
        mark = self._around.warden.mark
        return _Child(
            self._target, self._around, self._logs / f"worker-{mark}-slot-{slot}.log", once=False, slot=slot
        )

    def _bury(self) -> None:
        for child in [c for c in self._dying if c.group.exited()]:
            self._dying.remove(child)
            child.end()


class _Child:
    """A child process and the socket to it."""

    def __init__(
        self, target: FunctionTarget, around: Surroundings, log: Path, *, once: bool, slot: int
    ) -> None:
        self.log = log
        ours, theirs = socket.socketpair()
        self.log_fd = open_log(log)
        setup = {
            "fd": theirs.fileno(),
            "file": str(target.file) if target.file else None,
            "module": target.module,
            "name": target.name,
            "path": [str(folder) for folder in target.path],
            "objectives": list(target.objectives),
            "once": once,
        }
        argv = [str(target.python), "-c", BOOTSTRAP, str(target.link), json.dumps(setup)]
        try:
            self.group = ProcessGroup(
                argv,
                around,
                env={"HPO_STEER_SLOT": str(slot)},
                log_fd=self.log_fd,
                pass_fds=(theirs.fileno(),),
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
        self._buffer = b""

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)

    def hand_over(self, tasks: Sequence[Task]) -> None:
        """Sends those attempts that were not sent before, as far as they are sure to fit into its socket."""
        data = b""
        for task in tasks:
            key = _key(task)
            if key not in self.handed:
                request = _request(task)
                if self.handed and len(data) + len(request) > _MOST_BEFOREHAND:
                    break
                self.handed[key] = None
                data += request
        if data:
            with contextlib.suppress(OSError):  # it has died this moment, which the first poll finds
                self.send(data)

    @property
    def ready(self) -> bool:
        """Whether an answer was received already."""
        return b"\n" in self._buffer

    def receive(self) -> bytes | None:
        """The answer, once it is there whole."""
        if not self.ready:
            self._fetch()
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            return None
        self._buffer = rest
        return line

    def _fetch(self) -> None:
        try:
            while data := self.socket.recv(262_144):
                self._buffer += data
                if len(self._buffer) > _MAX_ANSWER:
                    self.group.kill()
                    self._buffer = b""
                    return
                if data[-1:] == b"\n":
                    break
        except (BlockingIOError, ConnectionResetError):
            pass

    def fds(self) -> tuple[int, ...]:
        return (self.socket.fileno(), *self.group.fds())

    def end(self) -> int:
        """Reaps a child that has ended or has been killed."""
        code = self.group.reap()
        self.socket.close()
        os.close(self.log_fd)
        remove_if_empty(self.log)
        return code


class _OneShot(Handle):
    """An attempt with a child of its own."""

    def __init__(self, runner: FunctionRunner, child: _Child, task: Task) -> None:
        self._runner, self._child, self._task = runner, child, task
        self._answer: bytes | None = None
        self._leave_by = 0.0

    @property
    def pid(self) -> int:
        return self._child.group.pid

    def fds(self) -> tuple[int, ...]:
        return self._child.fds()

    def poll(self, now: float) -> Outcome | None:
        group = self._child.group
        exited = group.exited()  # looked at first: what the child said before is then there to read
        if self._answer is None:
            self._answer = self._child.receive()
            self._leave_by = now + _EXIT_GRACE_S
        if not exited:
            if self._answer is not None and now >= self._leave_by:
                group.kill()
            group.tick(now)
            return None
        self._runner.ended(self._task.slot)
        code = self._child.end()
        if self._answer is None:
            return failed("error", f"the training {died(code, 'before it returned')}")
        return replace(read_answer(json.loads(self._answer)), duration_s=None)  # its start and end count too

    def stop(self) -> None:
        self._child.group.terminate()

    def kill(self) -> None:
        self._child.group.kill()

    @property
    def log(self) -> tuple[Path, int]:
        return self._task.log, 0


class _Warm(Handle):
    """An attempt in a warm child."""

    def __init__(self, runner: FunctionRunner, child: _Child, task: Task) -> None:
        self._runner, self._child, self._task = runner, child, task
        self._began = time.monotonic()
        self._foreseen = _key(task) in child.handed
        self._told_to_end = False
        self._log_start = os.fstat(child.log_fd).st_size
        if self._log_start > _MAX_SLOT_LOG:
            os.truncate(child.log, 0)
            self._log_start = 0

    @property
    def pid(self) -> int:
        return self._child.group.pid

    def fds(self) -> tuple[int, ...]:
        return self._child.fds()

    def poll(self, now: float) -> Outcome | None:
        child = self._child
        answer = self._answer()
        if answer is None:
            if not child.group.exited():
                child.group.tick(now)
                return None
            answer = self._answer()
        if answer is None:
            code = child.group.reap()
            outcome = failed("error", f"the training {died(code, 'before it returned')}")
        else:
            outcome = read_answer(answer)
            if not self._foreseen:
                outcome = replace(outcome, duration_s=None)
        kind = outcome.failure.kind if outcome.failure else None
        if kind or now - self._began > _KEPT_LOG_S:
            self._keep_log()
        if self._told_to_end or child.stale or (kind and kind != "invalid"):
            self._runner.retire(child, self._task.slot)
        return outcome

    @property
    def ready(self) -> bool:
        return self._child.ready

    def _answer(self) -> Mapping[str, Any] | None:
        """The child's answer to this attempt; those to attempts that were cancelled come before it."""
        while (line := self._child.receive()) is not None:
            answer: Mapping[str, Any] = json.loads(line)
            self._child.handed.pop(answer["key"], None)
            if answer["key"] == _key(self._task):
                return answer
        return None

    def stop(self) -> None:
        self._told_to_end = True
        self._child.group.terminate()

    def kill(self) -> None:
        self._told_to_end = True
        self._child.group.kill()

    @property
    def log(self) -> tuple[Path, int]:
        return self._child.log, self._log_start

    def _keep_log(self) -> None:
        """Copies the attempt's part of the child's log to a log of its own."""
        with contextlib.suppress(OSError), self._child.log.open("rb") as source:
            source.seek(self._log_start)
            if start := source.read(65_536):
                with self._task.log.open("wb") as target:
                    target.write(start)
                    shutil.copyfileobj(source, target)


def _key(task: Task) -> str:
    return f"{task.work.run}/{task.work.point}/{task.work.attempt}"


def _request(task: Task) -> bytes:
    request = {
        "key": _key(task),
        "point": point_of(task.work),
        "dir": task.folder.path,
        "params": task.work.params,
    }
    data = json.dumps(request).encode() + b"\n"
    if len(data) > _MAX_REQUEST:
        file = task.folder.make() / "request.json"
        file.write_bytes(data)
        data = json.dumps({"request": str(file)}).encode() + b"\n"
    return data
