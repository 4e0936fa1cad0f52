"""Random search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from algorithms.history import HistoryAlgorithm

if TYPE_CHECKING:
    from hpo_steer.space import Params


class Random(HistoryAlgorithm):
    """Independent points, uniform over the unit cube among those that satisfy the constraints.

    The baseline every method has to beat: Bergstra and Bengio, Random Search for Hyper-Parameter
    Optimization, JMLR 13 (2012).
    """

    def propose(self, n: int) -> list[Params]:
        """`n` new points."""
        return self.draw(n)
