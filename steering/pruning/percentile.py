"""The median stopping rule, and the same with another percentile."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from steering.pruning.base import Losses, Pruner
from steering.words import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.objectives import Objective


class Percentile(Pruner):
    """Ends a point whose best value so far is worse than the percentile of the others' running averages.

    At each step that a point reports, the others are the points that have reported the same step, whether they still
    run, have ended or were pruned later. The average of a point runs over its steps up to that one. Golovin, Solnik,
    Moitra, Kochanski, Karro and Sculley, Google Vizier: A Service for Black-Box Optimization, KDD (2017), compare with
    completed points only; the ones that still run are counted here too, as the first of them may take days.

    With several metrics a point is ended if each of them says so: one that is good at anything goes on.

    Args:
        metrics: what it looks at.
        percentile: between 0 and 100; the best so many percent are good enough.
        warmup_steps: below this step no point is ended.
        min_points: so many others must have reported a step.
    """

    def __init__(
        self, metrics: Sequence[Objective], percentile: float, warmup_steps: int, min_points: int
    ) -> None:
        super().__init__(metrics)
        self._percentile, self._warmup, self._min_points = percentile, warmup_steps, min_points
        self._curves: dict[int, _Curve] = {}
        self._averages: dict[int, list[list[float]]] = {}
        """By step: of each metric the sorted averages of all points."""

    def report(self, point: int, step: int, losses: Losses) -> str | None:
        """See `Pruner.report`."""
        curve = self._curves.setdefault(point, _Curve())
        sorted_ = self._averages.setdefault(step, [[] for _ in losses])
        for averages, before in zip(sorted_, curve.taken_back(step), strict=False):
            del averages[bisect_left(averages, before)]
        bests, mine = curve.put(step, losses)
        others = len(sorted_[0])
        limits = [_percentile(averages, self._percentile) for averages in sorted_] if others else []
        for averages, average in zip(sorted_, mine, strict=True):
            insort(averages, average)
        if others < self._min_points or step < self._warmup:
            return None
        if not all(best > limit for best, limit in zip(bests, limits, strict=True)):
            return None
        what = "median" if self._percentile == 50.0 else f"{number(self._percentile)} % best"
        return f"step {step}: at best {self.shown(bests)}; the {what} of {others} others: {self.shown(tuple(limits))}"


class _Curve:
    """The steps of one point in their order, each with the best and the sum of the losses up to it."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._losses: list[Losses] = []
        self._bests: list[Losses] = []
        self._sums: list[Losses] = []
        self._entered: dict[int, Losses] = {}

    def taken_back(self, step: int) -> Losses:
        """The averages that this step was entered with, if it was; empty otherwise."""
        return self._entered.pop(step, ())

    def put(self, step: int, losses: Losses) -> tuple[Losses, Losses]:
        """Enters a step; returns the best values and the averages up to it."""
        place = bisect_left(self._steps, step)
        if place < len(self._steps):  # a later attempt: what lies above stays, to be overtaken step by step
            known = self._steps[place] == step
            self._steps[place : place + known] = [step]
            self._losses[place : place + known] = [losses]
            del self._bests[place:], self._sums[place:]
        else:
            self._steps.append(step)
            self._losses.append(losses)
        for each in self._losses[len(self._bests) : place + 1]:
            if self._bests:
                self._bests.append(tuple(map(min, self._bests[-1], each)))
                self._sums.append(tuple(a + b for a, b in zip(self._sums[-1], each, strict=True)))
            else:
                self._bests.append(each)
                self._sums.append(each)
        averages = tuple(total / (place + 1) for total in self._sums[place])
        self._entered[step] = averages
        return self._bests[place], averages


def _percentile(values: Sequence[float], percent: float) -> float:
    """The percentile of sorted values, between two of them by linear interpolation."""
    place = (len(values) - 1) * percent / 100.0
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])
