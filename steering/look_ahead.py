"""How many points to choose ahead of need, so that no slot waits while an algorithm takes its time to choose."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from hpo_steer.config.steering import Trigger
    from steering.clock import Clock
    from steering.fleet import Fleet
    from steering.tuned import Tuned

_ENDS = 32
"""Of how many of the last points the pace is taken."""
_FEWEST_ENDS = 4
_ASKS = 5
"""Of how many of the last asks the mean time is taken, or of one for each model, if there are more."""
_IDLE = 0.01
"""The share of the slots that may wait for an algorithm."""
_CYCLES = 1.5
"""Asks that a point's successor takes: that of its own, and what was left of the one under way when it ended."""


@dataclass(frozen=True)
class Spare:
    """What is out beyond the slots, and what should be.

    Attributes:
        needed: points that should wait in the queue.
        there: points out or asked for, of all models, less the slots; below 0 if some slots have none.
    """

    needed: int = 0
    there: int = 0


class LookAhead:
    """Measures how fast points end and how long asks take, over all models: they share the slots.

    What comes of it is the size of an ask, which is written down with its points; so a run is repeated without it.

    Args:
        trigger: top-up alone looks ahead; the others say themselves when an iteration starts.
        models: whose asks they are.
        fleet: whose slots are to be kept busy.
        clock: the time.
    """

    def __init__(self, trigger: Trigger, models: Collection[Tuned], fleet: Fleet, clock: Clock) -> None:
        self._top_up = trigger.top_up
        self._models, self._fleet, self._clock = models, fleet, clock
        self._ends: deque[float] = deque(maxlen=_ENDS)
        self._asks: deque[float] = deque(maxlen=max(_ASKS, len(models)))
        self._newest = Spare()

    def answered(self, ask_s: float) -> None:
        """An algorithm has chosen points."""
        self._asks.append(ask_s)

    def ended(self) -> None:
        """A point has ended."""
        self._ends.append(self._clock.monotonic())

    def spare(self, tuned: Tuned) -> Spare:
        """What waits in the queue and what should, while a model's next points are chosen.

        Nothing should where the algorithm lives in our own process: it has answered before the loop goes on.
        """
        if not self._top_up or tuned.search.asking or tuned.host.fileno() is None:
            return Spare()
        slots = self._fleet.open_slots
        needed = waiting(self._meanwhile(), slots)
        out = sum(each.search.out for each in self._models) if needed else 0
        self._newest = Spare(needed, out - slots)
        return self._newest

    @property
    def chosen(self) -> int:
        """How many points wait in the queue because asks take long; for people."""
        return max(min(self._newest.needed, self._newest.there), 0)

    def _meanwhile(self) -> float:
        """How many points end during an ask, to two digits."""
        if len(self._ends) < _FEWEST_ENDS or not self._asks:
            return 0.0
        passed_s = max(self._clock.monotonic() - self._ends[0], 1e-9)
        ends = (len(self._ends) - 1) / passed_s * sum(self._asks) / len(self._asks)
        return float(f"{ends:.2g}")


@lru_cache(maxsize=4096)
def waiting(meanwhile: float, slots: int) -> int:
    """The shortest queue that leaves but a hundredth of the slots without a point.

    Points that have ended and have no successor yet are taken to be distributed as Poisson's, with a mean of what ends
    in one and a half asks.

    Args:
        meanwhile: how many points end during an ask, on average.
        slots: how many train at once; no more than these can wait for a point.
    """
    mean, allowed = _CYCLES * meanwhile, _IDLE * slots
    if mean >= slots:
        return max(slots, 0)
    short, below = mean, 0.0
    for queue in range(slots):
        if short <= allowed:
            return queue
        below += math.exp(queue * math.log(mean) - mean - math.lgamma(queue + 1))
        short -= 1.0 - below
    return slots
