"""Algorithms that write down what they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from hpo_steer import Observation, SearchAlgorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace


TOLD: list[Observation] = []
"""What the newest algorithm was told."""


class Plain(SearchAlgorithm):
    """Knows nothing of outcome constraints."""

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective], seed: int = 0) -> None:
        super().__init__(space, objectives, seed)
        TOLD.clear()
        self._asked = 0

    def ask(self, n: int) -> Sequence[Params]:
        self._asked += n
        return [{"x": (self._asked - i) / 1000} for i in range(n)]

    def tell(self, observations: Sequence[Observation]) -> None:
        TOLD.extend(observations)


class Constrained(Plain):
    """Handles them itself."""

    given: ClassVar[list[Any]] = []

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        outcome_constraints: Sequence[str] = (),
    ) -> None:
        super().__init__(space, objectives, seed)
        type(self).given = [*outcome_constraints]
