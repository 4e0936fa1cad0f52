"""What keeps slots from training: a trigger that waits for the slowest, and imports before each point."""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.config import Experiment
    from steering.fleet import Fleet
    from steering.ledger import Notify

_FEWEST = 8
"""Trainings that must have ended; and a whole iteration."""
_MOST = 256
"""Of so many of the last trainings the spread is taken."""
_SHORTEST_S = 2.0
"""Of shorter trainings little is lost."""
_BUSY, _WORTH = 0.7, 0.08
"""Nothing is said of a trigger that keeps this share busy, as the default does, nor of one that gains less."""
_FRACTIONS = (0.75, 0.5)
_POINTS = 4000
_LOADS = 4
"""Trainings of which the imports are looked at; the first ones may find cold disks."""
_LONG_S, _LARGE = 1.0, 0.05
"""Nothing is said of imports that take less time, or a smaller share of a training's."""


class IdleAdvice:
    """Says once in a session how much a fraction trigger leaves idle, and which one would leave less.

    Args:
        experiment: its config.
        fleet: whose slots are to be kept busy.
        notify: hears it.
    """

    def __init__(self, experiment: Experiment, fleet: Fleet, notify: Notify) -> None:
        rules = experiment.steering
        self._fraction = rules.trigger.fraction if len(experiment.models) == 1 else None
        self._size = rules.points_per_iteration
        self._fleet, self._notify = fleet, notify
        self._durations: deque[float] = deque(maxlen=_MOST)
        self._ended = 0

    def ended(self, duration_s: float) -> None:
        """A training has ended with values."""
        fraction = self._fraction
        if fraction is None:
            return
        self._durations.append(duration_s)
        self._ended += 1
        if self._ended < max(_FEWEST, self._size):
            return
        self._fraction = None  # it is said once
        if sum(self._durations) >= _SHORTEST_S * len(self._durations):
            self._advise(fraction)

    def _advise(self, fraction: float) -> None:
        slots = self._fleet.slots
        durations = list(self._durations)
        busy = busy_share(durations, slots, self._size, fraction)
        if busy >= _BUSY or slots > self._size:  # more slots than points: the remedy is another
            return
        better = [
            (smaller, share)
            for smaller in _FRACTIONS
            if smaller < fraction
            and (share := busy_share(durations, slots, self._size, smaller)) > busy + _WORTH
        ]
        others = [f"{smaller:g} about {100 * share:.0f} %" for smaller, share in better]
        self._notify(
            "warning",
            f"trigger fraction {fraction:g} keeps about {100 * busy:.0f} % of the slots busy at this spread of "
            f"training times; {', '.join([*others, 'top_up nearly all'])} (steering.trigger)",
        )


class LoadAdvice:
    """Says once in a session how much of each training goes into loading the user's code, if it is much.

    Args:
        notify: hears it.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._seen: list[tuple[float, float]] = []

    def ended(self, duration_s: float, load_s: float | None) -> None:
        """A training has ended with values.

        Args:
            duration_s: how long it took.
            load_s: how much of that its imports; None: they are not paid for each point.
        """
        if load_s is None or len(self._seen) == _LOADS:
            return
        self._seen.append((load_s, duration_s))
        if len(self._seen) < _LOADS:
            return
        loads, durations = zip(*self._seen, strict=True)
        load, share = statistics.median(loads), sum(loads) / max(sum(durations), 1e-9)
        if load >= _LONG_S and share >= _LARGE:
            self._notify(
                "warning",
                f"each point begins with {load:.1f} s of imports, {100 * min(share, 1.0):.0f} % of its time: "
                "evaluation.reuse: true pays them once for each slot",
            )


def busy_share(
    durations: Sequence[float],
    slots: int,
    size: int,
    fraction: float,
    *,
    points: int = _POINTS,
    seed: int = 0,
) -> float:
    """The share of its slots that a search keeps busy, by trying it out on a clock of its own.

    The next iteration starts when the share `fraction` of the current one has ended; asks take no time.

    Args:
        durations: of trainings, s; each one is drawn from these.
        slots: how many train at once.
        size: points of an iteration.
        fraction: of an iteration that must have ended.
        points: how many to try it with.
        seed: of the draws.

    Returns:
        From 0 to 1.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret
    needed = math.ceil(fraction * size - 1e-9)
    running: list[tuple[float, int]] = []  # when each ends, and of which iteration
    queued, now, spent = 0, 0.0, 0.0
    current, ended, made, begun = 0, needed, 0, 0
    first_of: list[int] = []
    while True:
        if ended >= needed and made < points:
            current, ended = current + 1, 0
            first_of.append(made)
            made, queued = made + size, queued + size
        while queued and len(running) < slots:
            iteration = current
            while begun < first_of[iteration - 1]:
                iteration -= 1
            duration = draw.choice(durations)
            heapq.heappush(running, (now + duration, iteration))
            spent, queued, begun = spent + duration, queued - 1, begun + 1
        if made >= points and not queued:  # what is left runs out, which says nothing of the trigger
            left = sum(end - now for end, _ in running)
            return (spent - left) / (now * slots) if now else 1.0
        now, iteration = heapq.heappop(running)
        ended += iteration == current
