"""Points in place of those that an algorithm owes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_steer.algorithm import Asked, Point

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steering.hosts import Opening
    from steering.store.base import PointRecord


def stand_in(opening: Opening, n: int, points: Sequence[PointRecord]) -> tuple[list[Point], str | None]:
    """New points of a scrambled Sobol sequence.

    Args:
        opening: what the algorithm that does not answer was made from.
        n: how many.
        points: all that its model has had.

    Returns:
        The points, numbered on, and why there are fewer than wanted, if so.
    """
    from algorithms.sobol import Sobol  # SciPy takes its time, and few runs need this

    sobol = Sobol(opening.space, opening.objectives, opening.seed)
    known = [Point(p.number, dict(p.params)) for p in sorted(points, key=lambda p: p.number)]
    if known:
        sobol.restore([Asked(len(known), known, given=True)])
    return sobol.ask(n), sobol.ended
