"""The worst values that count: given by the user, or inferred from what has been seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from algorithms.hypervolume import nondominated

if TYPE_CHECKING:
    from algorithms.kernel import Array

_MARGIN = 0.1


def reference_point(values: Array, given: Array, *, attainable: bool = False) -> Array:
    """A reference point of the hypervolume.

    Where none is given, it lies a tenth of the front's range beyond the front's worst value (Ishibuchi, Akedo and
    Nojima, A Many-Objective Test Problem for Visually Examining Diversity Maintenance Behavior in a Decision Space,
    GECCO 2011). Of the front only that part counts which is better than what is given. Where no point is better than
    all that is given, nor is one in reach, what is given moves out to just beyond the point that comes nearest, so
    that every step towards it is a gain. In reach it stays: a search of the surroundings of the nearest point may
    never leave them, though what is wanted lies elsewhere.

    Args:
        values: ``n x m``, to be minimised, n 1 or more.
        given: ``m`` numbers, NaN where nothing is given.
        attainable: whether a point that is not among `values` may be better than all that is given.

    Returns:
        ``m`` numbers.
    """
    known = np.isfinite(given)
    front = values[nondominated(values)]
    spread = np.ptp(front, axis=0)
    spread = np.where(spread > 0.0, spread, np.ptp(values, axis=0))
    spread = np.where(spread > 0.0, spread, 1.0)
    if known.any():
        excess = ((values[:, known] - given[known]) / spread[known]).max(1)
        if excess.min() < 0.0:
            front = front[(front[:, known] < given[known]).all(1)]
        elif not attainable:
            nearest = values[np.argmin(excess)]
            given = np.where(known, np.maximum(given, nearest + _MARGIN * spread), given)
            counted = (front[:, known] < given[known]).all(1)
            front = front[counted] if counted.any() else nearest[None, :]
    width = np.ptp(front, axis=0)
    inferred = front.max(0) + _MARGIN * np.where(width > 0.0, width, spread)
    found: Array = np.where(known, given, inferred)
    return found
