"""The Pareto front of several objectives, and the hypervolume that it dominates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from steering.words import number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpo_steer.objectives import Objective
    from steering.store.base import PointRecord

Costs = tuple[float, ...]
"""The values of a point in the order of the objectives, all of them to be minimised."""
_MARGIN = 0.1


@dataclass(frozen=True)
class Reference:
    """The point from which a hypervolume is measured.

    Attributes:
        values: objective to value, in its own direction.
        inferred: the objectives whose value was inferred, as the config gives none.
    """

    values: dict[str, float]
    inferred: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(
            f"{name} {number(value)}{' (inferred)' if name in self.inferred else ''}"
            for name, value in self.values.items()
        )
        if len(self.inferred) == len(self.values):
            shown = shown.replace(" (inferred)", "") + ", inferred"
        return f"reference {shown}"


@dataclass(frozen=True)
class Volume:
    """The hypervolume that a front dominates.

    Attributes:
        value: in the product of the objectives' units.
        reference: from where it is measured.
    """

    value: float
    reference: Reference

    def __str__(self) -> str:
        return f"hypervolume {number(self.value)}{' (inferred reference)' if self.reference.inferred else ''}"


def front(points: Sequence[PointRecord], costs: Callable[[PointRecord], Costs]) -> list[PointRecord]:
    """The points that none other dominates, by their first cost; of equal ones the first.

    Args:
        points: done ones.
        costs: a point's values, all to be minimised.
    """
    if not points:
        return []
    import moocore
    import numpy as np

    rows = sorted(((costs(p), p.id, p) for p in points), key=lambda row: row[:2])
    kept = moocore.is_nondominated(np.array([row for row, _, _ in rows], dtype=np.float64))
    return [point for (_, _, point), good in zip(rows, kept, strict=True) if good]


def reference_of(goals: Sequence[Objective], rows: Sequence[Costs]) -> Reference:
    """The reference that the config gives; where it gives none, one beyond the front.

    An inferred value is the worst on the front, and a tenth of the front's range beyond it. A front without any range
    in an objective takes a tenth of the value instead.

    Args:
        goals: the objectives.
        rows: the costs of the front, one at least.
    """
    values: dict[str, float] = {}
    inferred: list[str] = []
    for goal, column in zip(goals, zip(*rows, strict=True), strict=True):
        if goal.reference is not None:
            values[goal.name] = goal.reference
            continue
        worst = max(column)
        values[goal.name] = goal.sign * (worst + _MARGIN * (worst - min(column) or abs(worst) or 1.0))
        inferred.append(goal.name)
    return Reference(values, tuple(inferred))


@lru_cache(maxsize=64)
def measure(goals: tuple[Objective, ...], rows: tuple[Costs, ...]) -> Volume | None:
    """The hypervolume of a front; None with one objective, or without a point.

    Points that are no better than the reference in every objective add nothing.

    Args:
        goals: the objectives.
        rows: costs; dominated ones change nothing but an inferred reference.
    """
    if len(goals) < 2 or not rows:
        return None
    reference = reference_of(goals, rows)
    return Volume(hypervolume(goals, rows, reference), reference)


def hypervolume(goals: Sequence[Objective], rows: Sequence[Costs], reference: Reference) -> float:
    """The hypervolume between rows of costs and a reference."""
    import moocore
    import numpy as np

    bound = np.array([goal.sign * reference.values[goal.name] for goal in goals])
    return float(moocore.hypervolume(np.array(rows, dtype=np.float64).reshape(-1, len(goals)), ref=bound))
