"""Local search in spaces of all kinds: the gradient moves numbers, single steps and other choices the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpo_steer.parameters import Categorical, Int

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from algorithms.features import Features
    from algorithms.kernel import Array
    from hpo_steer.parameters import Parameter, Value
    from hpo_steer.space import Params

_ROUNDS = 4
_MOST = 64
"""Neighbours of a point that are looked at."""


class LocalSearch:
    """Raises a function over a space from several points at once.

    Moves along the gradient alternate with the best of single changes: every other choice of a categorical, the
    values next to that of an integer or a step (Ru et al., Bayesian Optimisation over Multiple Continuous and
    Categorical Inputs, ICML 2020; Daulton et al., Bayesian Optimization over Discrete and Mixed Spaces via
    Probabilistic Reparameterization, NeurIPS 2022).

    Args:
        features: of the space.
        score: the function at ``m x f`` places.
        polish: moves the features that are free (``m x f`` booleans) of as many places along the gradient.
    """

    def __init__(
        self,
        features: Features,
        score: Callable[[Array], Array],
        polish: Callable[[Array, NDArray[np.bool_]], Array],
    ) -> None:
        self._features, self._score, self._polish = features, score, polish

    def run(self, starts: list[Params]) -> tuple[list[Params], Array]:
        """All points that were looked at, and the function there."""
        seen: list[Params] = []
        values: list[Array] = []

        def valued(points: list[Params]) -> Array:
            found = self._score(self._features.of(points))
            seen.extend(points)
            values.append(found)
            return found

        current, worth = starts, valued(starts)
        for _ in range(_ROUNDS):
            ends = self._polish(self._features.of(current), self._features.free(current))
            moved = [self._features.point(end, origin) for end, origin in zip(ends, current, strict=True)]
            worth_moved = valued(moved)
            better = worth_moved > worth
            current = [new if b else old for new, old, b in zip(moved, current, better, strict=True)]
            worth = np.where(better, worth_moved, worth)
            around = [self._features.neighbours(params)[:_MOST] for params in current]
            beside = [params for group in around for params in group]
            if not beside:
                break
            owners = np.repeat(np.arange(len(around)), [len(group) for group in around])
            worth_beside = valued(beside)
            current, worth = _stepped(beside, worth_beside, owners, worth)
            if not current:
                break
        return seen, np.concatenate(values)


def _stepped(
    beside: list[Params], worth_beside: Array, owners: NDArray[np.intp], worth: Array
) -> tuple[list[Params], Array]:
    """The best neighbour of every point that has a better one."""
    found: list[int] = []
    for i, level in enumerate(worth):
        own = np.flatnonzero(owners == i)
        if len(own) and worth_beside[best := own[np.argmax(worth_beside[own])]] > level:
            found.append(int(best))
    return [beside[i] for i in found], worth_beside[found]


def steps(parameter: Parameter, value: Value) -> list[Value]:
    """The other choices of a categorical, the values next to that of an integer or a float with a step."""
    if isinstance(parameter, Categorical):
        return [choice for i, choice in enumerate(parameter.choices) if i != parameter.index(value)]
    if isinstance(parameter, Int):
        near = [value - parameter.step, value + parameter.step]
        return [v for v in near if parameter.low <= v <= parameter.high]
    if parameter.count is None:
        return []
    place, share = parameter.encode(value), 1.0 / parameter.count
    return [parameter.decode(u) for u in (place - share, place + share) if 0.0 < u < 1.0]
