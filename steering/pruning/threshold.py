"""Bounds that a metric has to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steering.pruning.base import Losses, Pruner
from steering.words import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.objectives import Objective


class Threshold(Pruner):
    """Ends a point whose metric leaves its bounds.

    Args:
        metrics: the one metric.
        lower: the smallest value allowed; None: any.
        upper: the largest value allowed; None: any.
        warmup_steps: below this step no point is ended.
    """

    def __init__(
        self, metrics: Sequence[Objective], lower: float | None, upper: float | None, warmup_steps: int
    ) -> None:
        super().__init__(metrics)
        self._lower, self._upper, self._warmup = lower, upper, warmup_steps

    def report(self, point: int, step: int, losses: Losses) -> str | None:
        """See `Pruner.report`; each report is judged by itself."""
        del point
        if step < self._warmup:
            return None
        value = self.metrics[0].sign * losses[0]
        if self._lower is not None and value < self._lower:
            return f"step {step}: {self.shown(losses)} is below {number(self._lower)}"
        if self._upper is not None and value > self._upper:
            return f"step {step}: {self.shown(losses)} is above {number(self._upper)}"
        return None
