"""An algorithm that has one idea."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_steer import Observation, SearchAlgorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.space import Params


class Constant(SearchAlgorithm):
    def ask(self, n: int) -> Sequence[Params]:
        return [{"x": 1.0, "y": "a"}] * n

    def tell(self, observations: Sequence[Observation]) -> None:
        pass
