"""How many points to choose ahead of need, so that no slot waits while an algorithm takes its time to choose."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import lru_cache

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

    Args:
        models: how many there are.
    """

    def __init__(self, models: int) -> None:
        self._ends: deque[float] = deque(maxlen=_ENDS)
        self._asks: deque[float] = deque(maxlen=max(_ASKS, models))

    def answered(self, ask_s: float) -> None:
        """An algorithm has chosen points."""
        self._asks.append(ask_s)

    def ended(self, now: float) -> None:
        """A point has ended, by the monotonic clock."""
        self._ends.append(now)

    def needed(self, now: float, slots: int) -> int:
        """How many points should wait in the queue for `slots` to stay busy during asks."""
        if len(self._ends) < _FEWEST_ENDS or not self._asks or slots < 1:
            return 0
        passed = max(now - self._ends[0], 1e-9)
        meanwhile = (len(self._ends) - 1) / passed * sum(self._asks) / len(self._asks)
        return waiting(float(f"{meanwhile:.2g}"), slots)


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
        return slots
    short, below = mean, 0.0
    for queue in range(slots):
        if short <= allowed:
            return queue
        below += math.exp(queue * math.log(mean) - mean - math.lgamma(queue + 1))
        short -= 1.0 - below
    return slots
