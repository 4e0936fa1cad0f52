"""How long a worker works: so many points, so long without one, until its machine is taken away."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpo_steer.config.worker_life import WorkerLife

if TYPE_CHECKING:
    from collections.abc import Mapping

SLURM_END = "SLURM_JOB_END_TIME"
"""Slurm's own word for when the job ends, in seconds since the epoch."""
_RECENT = 50


@dataclass(frozen=True)
class Terms:
    """What bounds a worker's life.

    Attributes:
        rules: the config's.
        ends_at: when its machine is taken away, in seconds since the epoch; None: never.
        stays: it has been started by steering, which would start another one: it does not leave for want of points or
            of time.
        saves: trainings are carried on elsewhere from their checkpoints, so that none is begun in vain.
        timeout_s: how long a training may take at most; None: nobody knows.
    """

    rules: WorkerLife = field(default_factory=WorkerLife)
    ends_at: float | None = None
    stays: bool = False
    saves: bool = False
    timeout_s: float | None = None


def terms(
    rules: WorkerLife,
    environment: Mapping[str, str],
    began: float,
    *,
    stays: bool = False,
    saves: bool = False,
    timeout_s: float | None = None,
) -> Terms:
    """The terms of a worker on this machine.

    Args:
        rules: the config's.
        environment: where a batch system says when its job ends.
        began: from when `max_time_s` counts, in seconds since the epoch.
        stays: as in `Terms`.
        saves: as in `Terms`.
        timeout_s: as in `Terms`.
    """
    ends = [] if rules.max_time_s is None else [began + rules.max_time_s]
    told = environment.get(SLURM_END, "")
    if told.isascii() and told.isdigit():
        ends.append(float(told))
    return Terms(rules, min(ends, default=None), stays, saves, timeout_s)


class Life:
    """Counts points and watches the clock.

    Args:
        terms: what bounds the worker's life.
        now: by the monotonic clock, as all times here.
    """

    def __init__(self, terms: Terms, now: float) -> None:
        self._terms, self._rules = terms, terms.rules
        self._ends = math.inf if terms.ends_at is None else now + terms.ends_at - time.time()
        self._done = 0
        self._busy_at = now
        # where not even the whole time is enough for the longest training, some will be shorter
        self._unknown_s = terms.timeout_s or 0.0
        if now + self._unknown_s > self._ends - terms.rules.grace_s:
            self._unknown_s = 0.0
        self._durations: deque[float] = deque(maxlen=_RECENT)

    def ended(self, duration_s: float) -> None:
        """A training has ended, whatever came of it."""
        self._done += 1
        self._durations.append(duration_s)

    def left(self, running: int) -> int | None:
        """How many more points it may begin; None: any number."""
        most = self._rules.max_points
        return None if most is None else max(most - self._done - running, 0)

    def closing(self, now: float, running: int) -> str | None:
        """Why it takes no more points, as part of a sentence; None: it does."""
        if running:
            self._busy_at = now
        if self.left(running) == 0:
            return f"max_points ({self._rules.max_points}) reached"
        if self._ends < math.inf and (late := self._late(now)) is not None:
            return late
        idle_s = self._rules.idle_exit_s
        if idle_s is not None and not self._terms.stays and now - self._busy_at >= idle_s:
            return f"no point for {idle_s:g} s (idle_exit_s)"
        return None

    def stays(self, now: float, running: int) -> bool:
        """Whether it waits for its end though it takes no more points."""
        return self._terms.stays and self.left(running) != 0 and self._late(now) is not None

    def over(self, now: float) -> str | None:
        """Why what runs has to be given up now, as part of a sentence; None: there is time."""
        return f"its time ends at {self._clock}" if now >= self._ends - self._rules.grace_s else None

    @property
    def wake(self) -> float:
        """When to look again, at the latest."""
        idle_s = self._rules.idle_exit_s
        idle = math.inf if idle_s is None or self._terms.stays else self._busy_at + idle_s
        return min(idle, self._ends - self._rules.grace_s)

    def _late(self, now: float) -> str | None:
        left_s = self._ends - self._rules.grace_s - now
        if self._terms.saves:
            return f"its time ends at {self._clock}" if left_s <= 0 else None
        expected_s = max(self._durations, default=self._unknown_s)
        if left_s > expected_s:
            return None
        if left_s <= 0:
            return f"its time ends at {self._clock}"
        return f"its time ends at {self._clock}, and points take up to {expected_s:.3g} s"

    @property
    def _clock(self) -> str:
        return time.strftime("%H:%M", time.localtime(self._terms.ends_at))
