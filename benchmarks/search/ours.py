"""Our own methods, by `hpo_steer.create_algorithm`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from benchmarks.search.contender import Contender
from hpo_steer import Failure, Observation, Point, create_algorithm
from hpo_steer.algorithm import Asked
from hpo_steer.registry import algorithm_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.search.problem import Outcome, Setting
    from hpo_steer.space import Params


class Ours(Contender):
    """One of our algorithms with the options a user would give it: none, unless they are asked for.

    Outcome constraints go to algorithms that take `outcome_constraints`, with the slacks among the values. For
    the others, a point that breaks one is invalid.

    Args:
        setting: the space, the seed, and what else may be known.
        name: of the algorithm.
        options: of the algorithm.
    """

    def __init__(self, setting: Setting, name: str, options: dict[str, Any]) -> None:
        super().__init__(setting)
        accepted = inspect.signature(algorithm_class(name)).parameters
        self._constrained = "outcome_constraints" in accepted
        if setting.slacks and self._constrained:
            options = options | {"outcome_constraints": [f"{slack} >= 0" for slack in setting.slack_names]}
        objectives: dict[str, Any] = dict.fromkeys(setting.names, "minimize")
        for goal, reference in zip(setting.names, setting.references, strict=False):
            objectives[goal] = {"direction": "minimize", "reference": reference}
        self._search = create_algorithm(name, setting.space, objectives, setting.seed, **options)
        self._sem = dict(zip(setting.names, setting.noise, strict=True)) if setting.noise else None
        self._ids: list[int] = []

    def ask(self, n: int) -> list[Params]:
        """Asks the algorithm."""
        params = []
        proposed: Sequence[Point | Params] = self._search.ask(n)
        for i, asked in enumerate(proposed, len(self._ids)):
            point = asked if isinstance(asked, Point) else Point(i, dict(asked))
            self._ids.append(point.id)
            params.append(point.params)
        return params

    def tell(self, results: Sequence[tuple[int, Outcome]]) -> None:
        """Tells the algorithm."""
        self._search.tell([self._observation(self._ids[number], outcome) for number, outcome in results])

    def adopt(self, points: Sequence[Params]) -> None:
        """Has the algorithm restored as if it had proposed them."""
        asked = [Point(i, params) for i, params in enumerate(points)]
        self._search.restore([Asked(len(asked), asked)])
        self._ids = [point.id for point in asked]

    def _observation(self, point_id: int, outcome: Outcome) -> Observation:
        if outcome.values is None:
            return Observation(point_id, failure=Failure("invalid", outcome.failure or ""))
        if not self._constrained and not outcome.feasible:
            return Observation(point_id, failure=Failure("invalid", "an outcome constraint does not hold"))
        names = self.setting.names + self.setting.slack_names
        values = dict(zip(names, (*outcome.values, *outcome.slacks), strict=True))
        return Observation(point_id, values, sem=self._sem)
