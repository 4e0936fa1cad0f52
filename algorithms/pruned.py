"""What a model of one objective may learn from points that were ended early."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpo_steer.algorithm import Observation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params

Outcome = tuple["Params", Observation]


def guessed(pruned: Sequence[Outcome], completed: Sequence[Outcome], goal: Objective) -> list[Outcome]:
    """Pruned points with a value that stands in for the one they never had.

    Without any the model would know nothing of a place where points were pruned, and propose the next one right there.
    The last value that a point reported is taken for a bound on how bad it is, but never for better than the median of
    the completed points, nor for worse than the worst of them: an early loss may lie far outside their range.

    Args:
        pruned: points that were ended early.
        completed: points with values.
        goal: the objective.

    Returns:
        Those of the pruned points that reported the objective, with all metrics of their last report; none before
        there is a completed point.
    """
    if not completed or not pruned:
        return []
    losses = goal.sign * np.array([float((each.values or {})[goal.name]) for _, each in completed])
    least, most = float(np.median(losses)), float(losses.max())
    found = []
    for params, observation in pruned:
        reports = [metrics for _, metrics in observation.curve or () if goal.name in metrics]
        if reports:
            loss = min(max(goal.sign * float(reports[-1][goal.name]), least), most)
            values = {**reports[-1], goal.name: goal.sign * loss}
            found.append((params, Observation(observation.point_id, values)))
    return found
