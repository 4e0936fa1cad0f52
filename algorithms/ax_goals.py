"""Objectives and outcome constraints as Ax takes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from algorithms.ax_library import Data, Metric, optimization_config_from_string
from hpo_steer.errors import ConfigError
from hpo_steer.outcomes import OutcomeConstraint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpo_steer.algorithm import Observation
    from hpo_steer.objectives import Objective

_KEY = "outcome_constraints"


class Goals:
    """Translates objectives, references and outcome constraints.

    Metrics have names of our own in Ax, so that they may hold any character. Ax takes no constraint over an
    objective: one in the objective's direction (``loss <= 2`` where the loss is minimised) is its threshold where
    there are several objectives, and follows from the search itself where there is one; one in the other
    direction is over a copy of the metric.

    Args:
        objectives: one or several.
        constraints: over any metric.

    Attributes:
        constrained: metrics that results need beside the objectives.

    Raises:
        ConfigError: the constraints leave a metric no room.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[OutcomeConstraint]) -> None:
        self._objectives = tuple(objectives)
        self._objective_keys = {goal.name: f"m{i}" for i, goal in enumerate(objectives)}
        self._thresholds = {g.name: g.reference for g in objectives if g.reference is not None}
        lower: dict[str, float] = {}
        upper: dict[str, float] = {}
        for each in constraints:
            if not self._is_threshold(each):
                bounds, tighter = (upper, min) if each.upper else (lower, max)
                bounds[each.metric] = tighter(bounds.get(each.metric, each.bound), each.bound)
        for metric in lower.keys() & upper.keys():
            if lower[metric] >= upper[metric]:
                text = f"{metric} between {lower[metric]:g} and {upper[metric]:g}"
                raise ConfigError(
                    _KEY, f"Ax needs some room between two bounds, and {text} has none; widen them"
                )
        self._bounds = [(metric, "<=", bound) for metric, bound in upper.items()]
        self._bounds += [(metric, ">=", bound) for metric, bound in lower.items()]
        named = dict.fromkeys(metric for metric, _, _ in self._bounds)
        self._constraint_keys = {metric: f"c{i}" for i, metric in enumerate(named)}
        self.constrained = tuple(dict.fromkeys(each.metric for each in constraints))

    def _is_threshold(self, constraint: OutcomeConstraint) -> bool:
        """Whether a constraint bounds an objective from its bad side; takes it in if it does."""
        goal = next((g for g in self._objectives if g.name == constraint.metric), None)
        if goal is None or constraint.upper != (goal.direction == "minimize"):
            return False
        tighter = min if constraint.upper else max
        known = self._thresholds.get(goal.name, constraint.bound)
        self._thresholds[goal.name] = tighter(known, constraint.bound)
        return True

    def metrics(self) -> list[Metric]:
        """Ax's metrics, new ones each time."""
        made = [
            Metric(name=self._objective_keys[goal.name], lower_is_better=goal.direction == "minimize")
            for goal in self._objectives
        ]
        return made + [Metric(name=key) for key in self._constraint_keys.values()]

    def config(self) -> Any:
        """Ax's optimisation config."""
        signs = {"minimize": "-", "maximize": ""}
        objective = ", ".join(
            f"{signs[goal.direction]}{self._objective_keys[goal.name]}" for goal in self._objectives
        )
        texts = [f"{self._constraint_keys[metric]} {sign} {bound!r}" for metric, sign, bound in self._bounds]
        if len(self._objectives) > 1:
            for goal in self._objectives:
                if goal.name in self._thresholds:
                    sign = "<=" if goal.direction == "minimize" else ">="
                    texts.append(f"{self._objective_keys[goal.name]} {sign} {self._thresholds[goal.name]!r}")
        return optimization_config_from_string(objective, texts or None)

    def data(self, results: Mapping[tuple[int, str], Observation]) -> Data:
        """Ax's data, from what came of completed trials by their number and the name of their arm.

        Standard errors of a metric are passed on if all results have one: Ax cannot take some.
        """
        import pandas as pd

        keys = [*self._objective_keys.items(), *self._constraint_keys.items()]
        known = {m for m, _ in keys if all(m in (result.sem or {}) for result in results.values())}
        rows = [
            {
                "trial_index": trial,
                "arm_name": arm,
                "metric_name": key,
                "metric_signature": key,
                "mean": float((result.values or {})[metric]),
                "sem": float((result.sem or {})[metric]) if metric in known else math.nan,
            }
            for (trial, arm), result in results.items()
            for metric, key in keys
        ]
        return Data(df=pd.DataFrame(rows))

    def lacking(self, values: Mapping[str, float]) -> str | None:
        """The first metric of a constraint that a result lacks, or that is not finite."""
        return next((m for m in self.constrained if not math.isfinite(values.get(m, math.nan))), None)
