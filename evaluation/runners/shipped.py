"""Runs each point with the code bundle that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.runners.base import Handle, Outcome, Runner, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


class ShippedRunner(Runner):
    """A runner for each code bundle; one of an earlier bundle is closed once nothing runs with it."""

    def __init__(self) -> None:
        self._makers: dict[str, Callable[[], Runner]] = {}
        self._runners: dict[str, Runner] = {}
        self._busy: dict[str, int] = {}
        self._latest: str | None = None
        self._slots = 0

    def add(self, bundle: str, make: Callable[[], Runner]) -> None:
        """Has points of a bundle run; raises what `make` raises.

        Args:
            bundle: its SHA-256.
            make: makes a runner for it, again if points of it come after those of another one.
        """
        self._makers[bundle], self._latest = make, bundle
        self._tidy()
        if bundle not in self._runners:
            runner = self._runners[bundle] = make()
            runner.warm(self._slots)

    def start(self, task: Task) -> Handle:
        """Starts an attempt; raises as `Runner.start`."""
        bundle = task.work.bundle or ""
        if bundle not in self._runners:
            self._runners[bundle] = self._makers[bundle]()
        handle = self._runners[bundle].start(task)
        self._busy[bundle] = self._busy.get(bundle, 0) + 1
        return _Watched(handle, lambda: self._ended(bundle))

    def warm(self, slots: int) -> None:
        """Prepares once there is code."""
        self._slots = slots

    def foresee(self, tasks: Sequence[Task]) -> None:
        """Hands attempts over beforehand, if they and what runs are of the latest bundle."""
        latest = self._latest
        if (
            latest is not None
            and set(self._busy) <= {latest}
            and {task.work.bundle for task in tasks} == {latest}
        ):
            self._runners[latest].foresee(tasks)

    def forget(self) -> None:
        """See `Runner.forget`."""
        for runner in self._runners.values():
            runner.forget()

    def close(self) -> None:
        """Ends every process."""
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()

    def _ended(self, bundle: str) -> None:
        self._busy[bundle] -= 1
        if not self._busy[bundle]:
            del self._busy[bundle]
            self._tidy()

    def _tidy(self) -> None:
        for bundle in [b for b in self._runners if b != self._latest and b not in self._busy]:
            self._runners.pop(bundle).close()


class _Watched(Handle):
    """A handle that tells when it is spent."""

    def __init__(self, handle: Handle, ended: Callable[[], None]) -> None:
        self._handle = handle
        self._ended: Callable[[], None] | None = ended

    @property
    def pid(self) -> int:
        return self._handle.pid

    def fds(self) -> tuple[int, ...]:
        return self._handle.fds()

    def poll(self, now: float) -> Outcome | None:
        outcome = self._handle.poll(now)
        if outcome is not None and self._ended is not None:
            ended, self._ended = self._ended, None
            ended()
        return outcome

    @property
    def ready(self) -> bool:
        return self._handle.ready

    def stop(self) -> None:
        self._handle.stop()

    def preempt(self, grace_s: float) -> None:
        self._handle.preempt(grace_s)

    def kill(self) -> None:
        self._handle.kill()

    @property
    def log(self) -> tuple[Path, int]:
        return self._handle.log

    def log_tail(self) -> str:
        return self._handle.log_tail()
