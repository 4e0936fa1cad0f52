"""How points look to a model of their outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from algorithms.local_search import steps
from hpo_steer.parameters import Categorical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from algorithms.kernel import Array
    from hpo_steer.space import Params, SearchSpace

_RELAXED = 20  # a parameter of more values than this is treated as a continuum until it is rounded


class Features:
    """How points look to the model: the unit cube, with one feature for each choice of three or more.

    Args:
        space: whose points.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.unordered: NDArray[np.bool_] = np.array(
            [isinstance(p, Categorical) and p.count > 2 for p in space], dtype=bool
        )
        parents = {parent for p in space for parent in p.when}
        self._columns: list[slice] = []
        width = 0
        for p, spread in zip(space, self.unordered, strict=True):
            size = p.count if spread and p.count is not None else 1
            self._columns.append(slice(width, width + size))
            width += size
        self.width = width
        self._middle = {p.name: p.decode(0.5) for p in space}
        self._movable = [
            not isinstance(p, Categorical)
            and (p.count is None or p.count > _RELAXED)
            and p.name not in parents
            for p in space
        ]

    def of(self, points: Sequence[Params]) -> Array:
        """Features ``n x f`` of points; 0.5, and no choice at all, where a parameter is switched off."""
        unit = self.space.encode_many(points)
        if not self.unordered.any():
            return unit
        features = np.zeros((len(points), self.width))
        for j, (p, columns) in enumerate(zip(self.space, self._columns, strict=True)):
            if not self.unordered[j]:
                features[:, columns.start] = unit[:, j]
                continue
            for i, params in enumerate(points):
                if p.name in params:
                    assert isinstance(p, Categorical)  # noqa: S101 - only these are unordered
                    features[i, columns.start + p.index(params[p.name])] = 1.0
        return features

    def free(self, points: Sequence[Params]) -> NDArray[np.bool_]:
        """Which features of each point a gradient may move, ``n x f``."""
        free = np.zeros((len(points), self.width), dtype=bool)
        for movable, p, columns in zip(self._movable, self.space, self._columns, strict=True):
            if movable:
                free[:, columns.start] = [p.name in params for params in points]
        return free

    def neighbours(self, params: Params) -> list[Params]:
        """Points that differ in one parameter that no gradient may move, by a step or in the choice.

        What that switches on has the value in the middle of its range; constraints are kept.
        """
        found = []
        for movable, p in zip(self._movable, self.space, strict=True):
            if movable or p.name not in params:
                continue
            for value in steps(p, params[p.name]):
                near = params | {p.name: value}
                if self.space.conditional:
                    near = self.space.without_inactive(self._middle | near)
                if self.space.broken(near) is None:
                    found.append(near)
        return found

    def point(self, features: Array, origin: Params) -> Params:
        """The point that a place stands for, with what cannot move taken from `origin`."""
        params = dict(origin)
        for movable, p, columns in zip(self._movable, self.space, self._columns, strict=True):
            if movable and p.name in params:
                params[p.name] = p.decode(float(features[columns.start]))
        return params
