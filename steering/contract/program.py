"""What is tried: a steering that is asked for points, given any history."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from hpo_steer.algorithm import Failure, Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params

Known: TypeAlias = tuple["Params", float | Failure | None]
"""A point, and what came of it: its loss (smaller is better), why it has none, or None while it is evaluated."""


@dataclass(frozen=True)
class Reply:
    """What an ask was answered with.

    Attributes:
        points: as they came; they may lie outside the space.
        ended: why there are no more, if the steering says so.
        took_s: how long it took, with the program's start.
    """

    points: Sequence[Params]
    ended: str | None
    took_s: float


class Program(ABC):
    """A steering, started anew for every ask, so that one mistake has no further ones.

    Attributes:
        counts_pending: a hint for one that takes points on their way for new ones.
        counts_failed: a hint for one that takes failed points for such that are on their way.
        unbounded: why it cannot know how many points there may be in all; None: it is told.
    """

    counts_pending: ClassVar[str] = ""
    counts_failed: ClassVar[str] = ""
    unbounded: str | None = None

    @abstractmethod
    def ask(self, known: Sequence[Known], n: int, max_points: int | None = None) -> Reply:
        """Asks for points.

        Args:
            known: every point so far, in the order they were proposed.
            n: how many are wanted.
            max_points: how many there may be in all.

        Raises:
            HpoSteerError: it failed; the lines after the first are what it printed last.
        """

    def more(self, known: Sequence[Known], n: int) -> Iterator[tuple[str, Callable[[], str]]]:  # noqa: ARG002
        """Checks of its own kind: subjects, and functions that return what holds or raise `Breach`."""
        yield from ()


def observations(known: Sequence[Known], objectives: Sequence[Objective]) -> list[Observation]:
    """What came of points, as it is told; every objective gets the loss, in its own direction."""
    found = []
    for number, (params, result) in enumerate(known):
        if isinstance(result, Failure):
            found.append(Observation(number, failure=result, params=params))
        elif result is not None:
            values = {goal.name: goal.sign * result for goal in objectives}
            found.append(Observation(number, values, params=params))
    return found
