"""An algorithm that takes its time, by a clock that is turned by hand."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from steering.hosts import AlgorithmHost, InProcessHost, Opening, Proposal, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.algorithm import Observation, Step
    from tests.unit.steering.simulation import HandClock


class SlowHost(AlgorithmHost):
    """A search beside the loop that answers an ask after a time, one ask after the other.

    Args:
        clock: the time.
        ask_s: how long it takes.
    """

    def __init__(self, clock: HandClock, ask_s: float) -> None:
        self._clock, self._ask_s = clock, ask_s
        self._inner = InProcessHost()
        self._later: list[tuple[float, Reply]] = []
        self._pipe = os.pipe()
        os.write(self._pipe[1], b".")

    @property
    def due(self) -> float:
        """When the next answer comes."""
        return self._later[0][0] if self._later else math.inf

    def open(self, opening: Opening) -> None:
        self._inner.open(opening)
        self._later += [(self._clock.now, reply) for reply in self._inner.replies()]

    def restore(self, model: str, history: Sequence[Step]) -> None:
        self._inner.restore(model, history)

    def tell(self, model: str, observations: Sequence[Observation]) -> None:
        self._inner.tell(model, observations)

    def ask(self, model: str, n: int) -> None:
        """It chooses by what it knows now, as a process does that reads what it is told after its answer."""
        begin = max([self._clock.now, *(at for at, _ in self._later)])
        self._inner.ask(model, n)
        for reply in self._inner.replies():
            due = begin + self._ask_s
            answer = replace(reply, ask_s=due - self._clock.now) if isinstance(reply, Proposal) else reply
            self._later.append((due, answer))

    def replies(self) -> list[Reply]:
        found = [reply for at, reply in self._later if at <= self._clock.now]
        self._later = [each for each in self._later if each[0] > self._clock.now]
        return found

    def fileno(self) -> int:
        return self._pipe[0]

    def close(self) -> None:
        for fd in self._pipe:
            os.close(fd)
