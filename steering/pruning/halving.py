"""Asynchronous successive halving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_steer.ranking import Ranking
from steering.pruning.base import Losses, Pruner
from steering.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpo_steer.objectives import Objective


class SuccessiveHalving(Pruner):
    """ASHA, the variant that stops: a point that reaches a rung goes on if it is among the best there.

    Rungs lie at ``min_steps * reduction**k`` below `max_steps`. A point reaches one with its first report at that step
    or above it, and goes on if it is among the best ``n / reduction`` (rounded down, at least one) of the n points
    that have reached it so far, itself included. Nobody waits for anybody: the first at a rung always goes on, and one
    that was let through is not called back when better ones come.

    Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar, A System for Massively Parallel
    Hyperparameter Tuning, MLSys (2020), which promotes paused trainings; ending those that would not be promoted
    needs no checkpoints. Several metrics are ranked as `hpo_steer.ranking` says.

    Args:
        metrics: what it looks at.
        reduction: of what has reached a rung, one in so many goes on.
        min_steps: the lowest rung.
        max_steps: how many steps a whole training has; None: there is no highest rung.
    """

    def __init__(
        self, metrics: Sequence[Objective], reduction: int, min_steps: int, max_steps: int | None
    ) -> None:
        super().__init__(metrics)
        self._reduction, self._min_steps, self._max_steps = reduction, min_steps, max_steps
        self._rungs: dict[int, Ranking] = {}
        self._reached: dict[int, dict[int, int]] = {}
        """The step with which each point reached each of its rungs."""

    def report(self, point: int, step: int, losses: Losses) -> str | None:
        """See `Pruner.report`."""
        reached = self._reached.setdefault(point, {})
        reason = None
        for level in self._levels(step):
            if reached.get(level, step) < step:
                continue
            reached[level] = step
            rung = self._rungs.setdefault(level, Ranking())
            rung.put(point, losses)
            most = max(len(rung) // self._reduction, 1)
            if reason is None and not rung.among_best(point, most):
                reason = (
                    f"step {step}: {self.shown(losses)} is not among the best {most} of the "
                    f"{plural(len(rung), 'point')} that have reached step {level}"
                )
        return reason

    def _levels(self, step: int) -> Iterator[int]:
        level = self._min_steps
        while level <= step and (self._max_steps is None or level < self._max_steps):
            yield level
            level *= self._reduction
