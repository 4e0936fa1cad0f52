"""Grid search."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from algorithms.history import HistoryAlgorithm
from algorithms.options import flag, whole
from hpo_steer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_SHUFFLED = 10_000_000


class Grid(HistoryAlgorithm):
    """Every cell of a grid exactly once, the last parameter turning fastest.

    Args:
        space: where points come from.
        objectives: not used by this method.
        seed: fixes the order with `shuffle`.
        resolution: how many values a float without a step gets, both ends included; needed if there is one.
        shuffle: go through the cells in a random order, so that a search cut short has seen all regions.

    Raises:
        ConfigError: a float has neither a step nor a resolution, or the grid is too large to be shuffled.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        resolution: int | None = None,
        shuffle: bool = False,
    ) -> None:
        super().__init__(space, objectives, seed)
        if resolution is not None:
            whole("resolution", resolution, 1)
        self._axes = [p.values(resolution) for p in space]
        self._cell_count = math.prod(len(axis) for axis in self._axes)
        self._order: np.ndarray[Any, np.dtype[np.int64]] | None = None
        if flag("shuffle", shuffle):
            if self._cell_count > _SHUFFLED:
                raise ConfigError(
                    "algorithm.shuffle",
                    f"{self._cell_count:,} cells are too many to be shuffled ({_SHUFFLED:,} at most); "
                    "lower the resolution, or use random",
                )
            self._order = np.random.default_rng(seed & 0xFFFF_FFFF_FFFF_FFFF).permutation(self._cell_count)
        self._place = 0

    def reset(self) -> None:
        """Forgets everything but the configuration."""
        super().reset()
        self._place = 0

    def propose(self, n: int) -> list[Params]:
        """The next `n` cells; sets `ended` after the last one."""
        found: list[Params] = []
        while len(found) < n and self._place < self._cell_count:
            params = self._cell(self._place)
            self._place += 1
            if params is not None and self.claim(params):
                found.append(params)
        if len(found) < n:
            self.ended = f"grid exhausted: all {len(self.points) + len(found)} points were proposed"
        return found

    def _end(self) -> None:
        self.ended = self.ended or f"grid exhausted: all {len(self.points)} points were proposed"

    def _cell(self, place: int) -> Params | None:
        """The cell at a place; None where an inactive parameter would only repeat another cell."""
        index = place if self._order is None else int(self._order[place])
        row: Params = {}
        first: dict[str, bool] = {}
        for p, axis in zip(reversed(self.space.parameters), reversed(self._axes), strict=True):
            index, i = divmod(index, len(axis))
            row[p.name] = axis[i]
            first[p.name] = i == 0
        params = self.space.without_inactive(row)
        repeats = len(params) < len(row) and not all(first[name] for name in row if name not in params)
        return None if repeats else params
