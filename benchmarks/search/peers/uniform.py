"""Uniform random points: what every method has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.search.contender import Contender

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.search.problem import Outcome, Setting
    from hpo_steer.space import Params


class Uniform(Contender):
    """Independent points, uniform over the unit cube."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._rng = np.random.default_rng(setting.seed)

    def ask(self, n: int) -> list[Params]:
        """Draws them."""
        return self.setting.space.sample(n, self._rng)

    def tell(self, results: Sequence[tuple[int, Outcome]]) -> None:
        """Learns nothing."""

    def adopt(self, points: Sequence[Params]) -> None:
        """Learns nothing."""
