"""Early stopping in the sense of training: no progress for a while."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from steering.pruning.base import Losses, Pruner
from steering.words import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.objectives import Objective


class Patience(Pruner):
    """Ends a point that has not got better for a number of steps, whatever the others do.

    With several metrics, a better value of any of them is progress.

    Args:
        metrics: what it looks at.
        steps: so many steps without a better value end the point.
        min_delta: by how much a value must be better to count.
        warmup_steps: below this step no point is ended.
    """

    def __init__(self, metrics: Sequence[Objective], steps: int, min_delta: float, warmup_steps: int) -> None:
        super().__init__(metrics)
        self._steps, self._min_delta, self._warmup = steps, min_delta, warmup_steps
        self._progress: dict[int, list[tuple[int, Losses]]] = {}
        """Of each point: the steps that brought progress, with the best values by then."""

    def report(self, point: int, step: int, losses: Losses) -> str | None:
        """See `Pruner.report`. What a later attempt has to say again is forgotten from there on."""
        progress = self._progress.setdefault(point, [])
        del progress[bisect_left(progress, (step,)) :]
        if not progress:
            progress.append((step, losses))
            return None
        last, bests = progress[-1]
        if any(loss < best - self._min_delta for loss, best in zip(losses, bests, strict=True)):
            progress.append((step, tuple(map(min, losses, bests))))
            return None
        if step < self._warmup or step - last < self._steps:
            return None
        return f"step {step}: no progress for {plural(step - last, 'step')}; at best {self.shown(bests)}"
