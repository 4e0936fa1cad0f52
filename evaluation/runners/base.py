"""What every runner offers: start an attempt, look whether it has ended, end it."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluation.attempt import log_tail
from hpo_steer.child import clean
from hpo_steer.messages import FailureInfo, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from evaluation.attempt import AttemptFolder


@dataclass(frozen=True)
class Task:
    """An attempt, as a runner gets it.

    Attributes:
        work: the point.
        slot: the worker's slot it runs in, from 0.
        folder: its folder.
        log: where its output goes.
    """

    work: Work
    slot: int
    folder: AttemptFolder
    log: Path


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: one of the two.

    Attributes:
        metrics: finite numbers by name.
        failure: why there are none.
        duration_s: how long it took, where its process has measured that.
        load_s: how long its process took beforehand to load the user's function, if it did so for this attempt alone.
        terminated: it was ended by a SIGTERM that did not come from its handle.
        rest: what is still to be done for it before its checkpoint is saved; it may block, so not in the loop.
    """

    metrics: Mapping[str, float] | None = None
    failure: FailureInfo | None = None
    duration_s: float | None = None
    load_s: float | None = None
    terminated: bool = False
    rest: Callable[[], None] | None = None


class Handle(ABC):
    """A running attempt. No method blocks."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The process that runs it."""

    @abstractmethod
    def fds(self) -> tuple[int, ...]:
        """Descriptors; when one is readable `poll` may have news. They stay the same to the end."""

    @abstractmethod
    def poll(self, now: float) -> Outcome | None:
        """Its outcome, once there is one; then the handle is spent and its processes are gone or free again.

        Call it also every tenth of a second or so, as it kills processes whose grace is over.
        """

    @property
    def ready(self) -> bool:
        """Whether `poll` has news though no descriptor says so."""
        return False

    @abstractmethod
    def stop(self) -> None:
        """Asks its processes to end; they are killed after a grace of some seconds."""

    def preempt(self, grace_s: float) -> None:  # noqa: B027 - where `hpo_steer.report` says it, nothing else need
        """Asks its processes to save and end, as the worker has to leave; they are killed after the grace."""

    @abstractmethod
    def kill(self) -> None:
        """Kills its processes."""

    @property
    @abstractmethod
    def log(self) -> tuple[Path, int]:
        """The file that it prints to, and where in that its part begins, in bytes."""

    def log_tail(self) -> str:
        """The last lines of what it has printed."""
        return log_tail(*self.log)


class Runner(ABC):
    """Starts attempts."""

    @abstractmethod
    def start(self, task: Task) -> Handle:
        """Starts an attempt.

        Raises:
            OSError: the process cannot be started.
        """

    def warm(self, slots: int) -> None:  # noqa: B027 - not all can
        """Prepares for attempts in that many slots, where that saves time."""

    def foresee(self, tasks: Sequence[Task]) -> None:  # noqa: B027 - not all can
        """Hands attempts over that will be started next, in this order, in the slot that is busy now.

        Each is still started by `start`, unless `forget` comes before.
        """

    def forget(self) -> None:  # noqa: B027 - not all can
        """What was foreseen and not started will not be started."""

    @abstractmethod
    def close(self) -> None:
        """Ends every process; spent and running handles are void."""


def terminated(code: int) -> bool:
    """Whether an exit code says SIGTERM, of the process itself or as a shell or a container tells it."""
    return code in (-signal.SIGTERM, 128 + signal.SIGTERM)


def failed(kind: str, message: str) -> Outcome:
    """A failure as an outcome."""
    return Outcome(failure=FailureInfo.model_validate({"kind": kind, "message": clean(message)}))


def read_answer(answer: Mapping[str, Any]) -> Outcome:
    """What a child or `check_metrics` says, as an outcome."""
    if "metrics" in answer:
        return Outcome(metrics=answer["metrics"], duration_s=answer.get("duration_s"))
    return failed(answer["failure"]["kind"], answer["failure"]["message"])
