"""Runs trainings in child processes that take points as lines: a function of the user's, or a service."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evaluation.bounded_log import KEPT_BYTES, BoundedLog
from evaluation.resources.memory import held_mib
from evaluation.runners.base import Handle, Outcome, Runner, Task, failed, terminated
from evaluation.runners.pipe import Child, key_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from containers.process import Surroundings
    from evaluation.runners.targets import Target
    from hpo_steer.config.worker_life import Reuse

_EXIT_GRACE_S = 10.0
"""How long a child may take to end after its function has returned."""

_UNHARMED = (None, "invalid", "pruned")
"""The failures that a child says itself and is none the worse for; one that had to be ended is not among them."""
_KEPT_LOG_S = 0.3
_FLOOD_S = 0.01
"""Nobody prints much in less; what was printed nevertheless goes with the next attempt."""
_MEMORY_EVERY_S = 0.5


class ChildRunner(Runner):
    """Runs a function or a service: a child for each attempt, or warm ones that take many.

    Args:
        target: what the children run.
        around: their surroundings.
        logs: where warm children's logs go.
        keep: bytes of an attempt's output that are kept.
        renewal: when a warm child is replaced by a new one; None: only if it has to be.
    """

    def __init__(
        self,
        target: Target,
        around: Surroundings,
        logs: Path,
        *,
        keep: int = KEPT_BYTES,
        renewal: Reuse | None = None,
    ) -> None:
        self._target, self._around, self._logs = target, around, logs
        self.keep, self._renewal = keep, renewal
        self._warm: dict[int, Child] = {}
        self._dying: list[Child] = []
        self._running: dict[int, Child] = {}

    def start(self, task: Task) -> Handle:
        """Starts an attempt; raises as `Runner.start`."""
        if self._target.reuse:
            return self._start_warm(task)
        child = Child(self._target, self._around, task.log, once=True, slot=task.slot)
        self._running[task.slot] = child
        child.send(task)
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

    def retire(self, child: Child, slot: int) -> None:
        """Ends a warm child; the slot's next attempt gets a new one."""
        if self._warm.get(slot) is child:
            del self._warm[slot]
        child.group.kill()
        self._dying.append(child)
        self._bury()

    def served(self, child: Child, slot: int, now: float) -> None:
        """A warm child has answered once more: it may be time for a new one, once it has nothing more to do."""
        child.served += 1
        rules = self._renewal
        if rules is None:
            return
        if rules.points is not None and child.served >= rules.points:
            child.spent = True
        elif rules.memory_mib is not None and now - child.weighed_at >= _MEMORY_EVERY_S:
            child.weighed_at = now
            child.spent = held_mib(child.group.pid, rules.memory_mib) > rules.memory_mib
        if child.spent and not child.handed:
            self.renew(child, slot)

    def renew(self, child: Child, slot: int) -> None:
        """Lets a warm child end in peace; the slot's next attempt gets a new one."""
        if self._warm.get(slot) is child:
            del self._warm[slot]
        child.hang_up(time.monotonic() + _EXIT_GRACE_S)
        self._dying.append(child)

    def _start_warm(self, task: Task) -> Handle:
        self._bury()
        child = self._warm.get(task.slot)
        if child is not None and child.group.exited():
            self.retire(child, task.slot)
            child = None
        elif child is not None and child.spent and not child.handed:
            self.renew(child, task.slot)
            child = None
        if child is None:
            child = self._warm[task.slot] = self._new_warm(task.slot)
        handle = _Warm(self, child, task)
        child.hand_over([task])
        return handle

    def foresee(self, tasks: Sequence[Task]) -> None:
        """Hands attempts to a warm child beforehand; see `Runner.foresee`."""
        child = self._warm.get(tasks[0].slot) if tasks else None
        if child is None or child.spent:
            return
        if self._renewal is not None and self._renewal.points is not None:
            tasks = tasks[: max(self._renewal.points - child.served - 1, 0)]  # one is on its way
        if tasks and len(child.handed) <= len(tasks) // 2:
            child.hand_over(tasks)

    def forget(self) -> None:
        """A child that was handed attempts beforehand is replaced after the one it is busy with."""
        for child in self._warm.values():
            child.stale = len(child.handed) > 1

    def _new_warm(self, slot: int) -> Child:
        mark = self._around.warden.mark
        return Child(
            self._target, self._around, self._logs / f"worker-{mark}-slot-{slot}.log", once=False, slot=slot
        )

    def _bury(self) -> None:
        now = time.monotonic()
        for child in list(self._dying):
            if child.group.exited():
                self._dying.remove(child)
                child.end()
            elif child.leave_by is not None and now >= child.leave_by:
                child.group.kill()


class _OneShot(Handle):
    """An attempt with a child of its own."""

    def __init__(self, runner: ChildRunner, child: Child, task: Task) -> None:
        self._runner, self._child, self._task = runner, child, task
        self._answer: Mapping[str, Any] | None = None
        self._leave_by = 0.0
        self._bounded = BoundedLog(task.log, 0, runner.keep)

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
            self._bounded.look(now)
            if self._answer is not None and now >= self._leave_by:
                group.kill()
            group.tick(now)
            return None
        self._runner.ended(self._task.slot)
        code = self._child.end()
        self._bounded.finish()
        if self._answer is None:
            outcome = failed("error", f"the training {self._child.group.died(code, 'before it returned')}")
            return replace(outcome, terminated=terminated(code))
        outcome = self._child.target.outcome(self._answer)
        # its start and end count too, so the time it has measured is not all
        return replace(outcome, duration_s=None, load_s=self._answer.get("load_s"))

    def stop(self) -> None:
        self._child.group.terminate()

    def preempt(self, grace_s: float) -> None:
        if not self._child.target.trusted:
            self._child.group.terminate(grace_s)

    def kill(self) -> None:
        self._child.group.kill()

    @property
    def log(self) -> tuple[Path, int]:
        return self._task.log, 0


class _Warm(Handle):
    """An attempt in a warm child."""

    def __init__(self, runner: ChildRunner, child: Child, task: Task) -> None:
        self._runner, self._child, self._task = runner, child, task
        self._began = time.monotonic()
        self._foreseen = key_of(task) in child.handed
        self._told_to_end = False
        self._log_start = os.fstat(child.log_fd).st_size
        if self._log_start > runner.keep:
            os.truncate(child.log, 0)
            self._log_start = 0
        self._bounded = BoundedLog(child.log, self._log_start, runner.keep)

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
                self._bounded.look(now)
                return None
            answer = self._answer()
        gone = answer is None
        if answer is None:
            code = child.group.reap()
            outcome = failed("error", f"the training {child.group.died(code, 'before it returned')}")
            outcome = replace(outcome, terminated=terminated(code))
        else:
            outcome = child.target.outcome(answer)
            if not self._foreseen:
                outcome = replace(outcome, duration_s=None)
        kind = outcome.failure.kind if outcome.failure else None
        took_s = now - self._began
        if kind or took_s > _FLOOD_S:
            self._bounded.finish()
        if kind or took_s > _KEPT_LOG_S:
            self._keep_log()
        spoilt = kind not in _UNHARMED and child.target.trusted  # a service speaks for itself
        if gone or self._told_to_end or child.stale or spoilt:
            self._runner.retire(child, self._task.slot)
        else:
            self._runner.served(child, self._task.slot, now)
        return outcome

    @property
    def ready(self) -> bool:
        return self._child.ready

    def _answer(self) -> Mapping[str, Any] | None:
        """The child's answer to this attempt; those to attempts that were cancelled come before it."""
        while (answer := self._child.receive()) is not None:
            self._child.handed.pop(answer["key"], None)
            if answer["key"] == key_of(self._task):
                return answer
        return None

    def stop(self) -> None:
        self._told_to_end = True
        self._child.group.terminate()

    def preempt(self, grace_s: float) -> None:
        self._told_to_end = True
        if not self._child.target.trusted:
            self._child.group.terminate(grace_s)

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
