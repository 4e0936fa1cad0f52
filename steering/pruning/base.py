"""What all pruners have in common.

A pruner is a function of the reports of one model in the order steering took them in: it reads no clock, draws no
random number and touches no store. Given the same reports again it decides the same, so its state is never saved.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from hpo_steer.ranking import Losses as Losses  # noqa: PLC0414 - pruners take it from here
from steering.words import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpo_steer.objectives import Objective


class Pruner(ABC):
    """Decides which points of a model are ended early.

    The steps of an attempt increase. A later attempt at a point may report steps again: what it says takes the place
    of what was said of that step before, and the steps it passes over keep what an earlier attempt had reported.

    Args:
        metrics: what it looks at; one, or several that are weighed by Pareto dominance.
    """

    def __init__(self, metrics: Sequence[Objective]) -> None:
        self.metrics = tuple(metrics)

    @abstractmethod
    def report(self, point: int, step: int, losses: Losses) -> str | None:
        """Takes a report in.

        Args:
            point: counts the points of the model from 0.
            step: epoch or the like.
            losses: see `losses`.

        Returns:
            Why the point is ended; None to let it go on.
        """

    def losses(self, metrics: Mapping[str, float]) -> Losses | None:
        """The metrics of a report as this pruner wants them; None if one of them is missing."""
        if any(metric.name not in metrics for metric in self.metrics):
            return None
        return tuple(metric.sign * metrics[metric.name] for metric in self.metrics)

    def shown(self, losses: Losses) -> str:
        """Losses as the user knows them, such as ``loss 0.31, latency_ms 12``."""
        pairs = zip(self.metrics, losses, strict=True)
        return ", ".join(f"{metric.name} {number(metric.sign * loss)}" for metric, loss in pairs)
