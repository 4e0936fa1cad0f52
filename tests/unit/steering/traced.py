"""An algorithm whose every proposal depends on all that it was asked and told, and in which order."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from hpo_steer import Observation, SearchAlgorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace


class Traced(SearchAlgorithm):
    def __init__(self, space: SearchSpace, objectives: Sequence[Objective], seed: int = 0) -> None:
        super().__init__(space, objectives, seed)
        self._trace = hashlib.sha256(str(seed).encode())

    def ask(self, n: int) -> Sequence[Params]:
        self._trace.update(f"ask {n};".encode())
        return [self._point(i) for i in range(n)]

    def _point(self, number: int) -> Params:
        digest = hashlib.sha256(self._trace.digest() + bytes([number])).digest()
        return {p.name: p.decode(digest[i] / 256) for i, p in enumerate(self.space)}

    def tell(self, observations: Sequence[Observation]) -> None:
        for seen in observations:
            outcome = seen.failure.kind if seen.failure is not None else sorted((seen.values or {}).items())
            self._trace.update(f"tell {seen.point_id} {outcome};".encode())
