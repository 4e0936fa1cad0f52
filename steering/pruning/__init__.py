"""Which trainings are ended early. A new method is a file with a `Pruner` and a line in `_make`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steering.pruning.halving import SuccessiveHalving
from steering.pruning.hyperband import Hyperband
from steering.pruning.patience import Patience
from steering.pruning.percentile import Percentile
from steering.pruning.threshold import Threshold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.config import Pruning
    from hpo_steer.objectives import Objective
    from steering.pruning.base import Pruner


def make_pruner(rules: Pruning, goals: Sequence[Objective]) -> Pruner:
    """The pruner of one model.

    Args:
        rules: the section ``pruning`` of the config.
        goals: the objectives.
    """
    metrics = rules.metrics(goals)
    warmup = rules.warmup_steps or 0
    match rules.method:
        case "asha":
            return SuccessiveHalving(metrics, rules.reduction or 3, rules.lowest, rules.max_steps)
        case "hyperband":
            return Hyperband(metrics, rules.reduction or 3, rules.lowest, rules.max_steps or 1)
        case "median" | "percentile":
            return Percentile(metrics, rules.percentile or 50.0, warmup, rules.min_points or 1)
        case "threshold":
            return Threshold(metrics, rules.lower, rules.upper, warmup)
        case "patience":
            return Patience(metrics, rules.steps or 1, rules.min_delta or 0.0, warmup)
