"""Points that were trained for less than others: values of different budgets are not compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_steer.parameters import Float, Int

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hpo_steer.config import Experiment
    from hpo_steer.space import SearchSpace
    from steering.store.base import PointRecord


@dataclass(frozen=True)
class Budget:
    """The parameter that says how long a point of a model is trained.

    Attributes:
        name: of the parameter.
        full: what a whole training has.
    """

    name: str
    full: float

    def of(self, params: Mapping[str, Any]) -> float:
        """What a point was trained for."""
        return float(params[self.name])


def budget_of(spec: Mapping[str, Any], space: SearchSpace) -> Budget | None:
    """The budget of a search: the number in its space that the algorithm's option ``budget`` names.

    Args:
        spec: the algorithm with its options; its ``max`` may lie below the parameter's high.
        space: of the model.
    """
    name = spec.get("budget")
    if not isinstance(name, str) or name not in space or not isinstance(space[name], (Int, Float)):
        return None
    most = spec.get("max")
    return Budget(name, float(space[name].decode(1.0) if most is None else most))


class Budgets:
    """Which points were trained longest, in each model that has a budget.

    Args:
        experiment: the config.
        points: of its run.
        good: which of them count: those that have values and keep the outcome constraints.
    """

    def __init__(
        self, experiment: Experiment, points: Iterable[PointRecord], good: Callable[[PointRecord], bool]
    ) -> None:
        specs = [(m, experiment.algorithm_of(m)) for m in experiment.models]
        found = {m.name: budget_of(spec, experiment.space(m)) for m, spec in specs if "budget" in spec}
        self._budgets = {name: budget for name, budget in found.items() if budget is not None}
        self._longest: dict[str, float] = {}
        for point in points if self._budgets else ():
            if (budget := self._budgets.get(point.model)) is not None and good(point):
                spent = budget.of(point.params)
                self._longest[point.model] = max(spent, self._longest.get(point.model, spent))

    def name(self, model: str) -> str | None:
        """The parameter that is the budget of a model's points, if one is."""
        budget = self._budgets.get(model)
        return budget.name if budget else None

    def lacking(self, point: PointRecord) -> float:
        """What a point was trained for less than the longest of its model; 0 for those, and without a budget."""
        budget = self._budgets.get(point.model)
        if budget is None:
            return 0.0
        spent = budget.of(point.params)
        return self._longest.get(point.model, spent) - spent
