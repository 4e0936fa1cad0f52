"""Who is among the best of points with one loss or several."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TypeAlias

Losses: TypeAlias = tuple[float, ...]
"""What points are ranked by, all of it to be minimised."""


class Ranking:
    """The losses of points that are compared with each other, such as those at one rung.

    One loss is ranked by its size; equal ones share their rank. Several are ranked by nondominated sorting, and within
    a front by the order of an epsilon-net: the best in the first loss comes first, then always the one farthest from
    all chosen before. Schmucker, Donini, Zafar, Salinas and Archambeau, Multi-objective Asynchronous Successive
    Halving, arXiv:2106.12639 (2021).
    """

    def __init__(self) -> None:
        self._losses: dict[int, Losses] = {}
        self._sorted: list[float] = []
        """The first losses; with several they are not enough to rank by."""

    def __len__(self) -> int:
        return len(self._losses)

    def put(self, point: int, losses: Losses) -> None:
        """Enters a point, or changes its losses."""
        if (before := self._losses.get(point)) is not None:
            del self._sorted[bisect_left(self._sorted, before[0])]
        self._losses[point] = losses
        insort(self._sorted, losses[0])

    def among_best(self, point: int, count: int) -> bool:
        """Whether a point that was entered is one of the best `count`."""
        losses = self._losses[point]
        if len(losses) == 1:
            return bisect_left(self._sorted, losses[0]) < count
        return self._among_fronts(point, count)

    def best(self, count: int) -> list[int]:
        """The best `count` points in order, or all if there are fewer; of equal ones the first."""
        ordered = sorted(self._losses, key=lambda each: (self._losses[each], each))
        if not ordered or len(self._losses[ordered[0]]) == 1:
            return ordered[: max(count, 0)]
        import moocore
        import numpy as np

        ranks = moocore.pareto_rank(np.array([self._losses[each] for each in ordered], dtype=np.float64))
        found: list[int] = []
        for rank in sorted(set(ranks.tolist())):
            front = {
                each: self._losses[each] for each, own in zip(ordered, ranks, strict=True) if own == rank
            }
            found += epsilon_net(front, count - len(found))
            if len(found) >= count:
                break
        return found

    def _among_fronts(self, point: int, count: int) -> bool:
        import moocore
        import numpy as np

        points = sorted(self._losses, key=lambda each: (self._losses[each], each))
        ranks = moocore.pareto_rank(np.array([self._losses[each] for each in points], dtype=np.float64))
        mine = ranks[points.index(point)]
        better = int((ranks < mine).sum())
        front = [each for each, rank in zip(points, ranks, strict=True) if rank == mine]
        if better + len(front) <= count:
            return True
        return point in epsilon_net({each: self._losses[each] for each in front}, count - better)


def epsilon_net(front: dict[int, Losses], count: int) -> list[int]:
    """Points of a front, so chosen that they cover it.

    Args:
        front: points with their losses, by the first loss.
        count: how many are wanted; none, if it is below 1.

    Returns:
        The chosen ones: the first, then always the one farthest from those before (each loss in units of its range).
    """
    import numpy as np

    if count < 1:
        return []
    points = list(front)
    rows = np.array([front[each] for each in points], dtype=np.float64)
    span = np.ptp(rows, axis=0)
    rows = rows / np.where(span > 0, span, 1.0)
    chosen = [0]
    away = np.linalg.norm(rows - rows[0], axis=1)
    away[0] = -1.0
    while len(chosen) < min(count, len(points)):
        farthest = int(np.argmax(away))
        chosen.append(farthest)
        away = np.minimum(away, np.linalg.norm(rows - rows[farthest], axis=1))
        away[chosen] = -1.0
    return [points[i] for i in chosen]
