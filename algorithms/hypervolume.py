"""The region that no point of a front dominates, cut into boxes, and how much of it a further point may gain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfcx

from algorithms.kernel import Array

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Integers = NDArray[np.intp]

_ROOT_2PI = float(np.sqrt(2.0 * np.pi))
_ROOT_HALF_PI = float(np.sqrt(0.5 * np.pi))
_ROOT_HALF = float(np.sqrt(0.5))


def nondominated(values: Array) -> NDArray[np.bool_]:
    """Which rows of ``n x m`` values, to be minimised, no other row dominates; of equal rows all are."""
    keep = np.ones(len(values), dtype=bool)
    for i, row in enumerate(values):
        if keep[i]:
            worse = (row <= values).all(1) & (row < values).any(1)
            keep &= ~worse
    return keep


def layers(values: Array) -> Iterator[Integers]:
    """The numbers of the rows of the front, then those of the front of the rest, and so on."""
    left = np.arange(len(values))
    while len(left):
        front = nondominated(values[left])
        yield left[front]
        left = left[~front]


def spread_out(values: Array, most: int) -> Integers:
    """The numbers of `most` rows of ``n x m`` values that are far from each other: the best of each column, and so on.

    From these on, the row farthest from all that were taken is taken next.
    """
    n = len(values)
    if n <= most:
        return np.arange(n)
    width = np.ptp(values, axis=0)
    unit = (values - values.min(0)) / np.where(width > 0.0, width, 1.0)
    chosen = list(dict.fromkeys(unit.argmin(0).tolist()))[: max(most, 1)]
    distance = np.min([((unit - unit[i]) ** 2).sum(1) for i in chosen], axis=0)
    distance[chosen] = -1.0
    while len(chosen) < most:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((unit - unit[chosen[-1]]) ** 2).sum(1))
        distance[chosen] = -1.0
    return np.array(chosen, dtype=np.intp)


class Boxes:
    """Disjoint boxes that fill what no point of a front dominates below a reference point.

    A new point cuts every box it reaches into: one for each objective, below the point in that objective and above it
    in those before. So an addition costs a few operations on the boxes that it reaches, in any number of objectives.

    Args:
        reference: ``m`` numbers; values are to be minimised.

    Attributes:
        low: ``k x m``, minus infinity where a box has no end.
        high: ``k x m``.
    """

    def __init__(self, reference: Array) -> None:
        self.low: Array = np.full((1, len(reference)), -np.inf)
        self.high: Array = np.array(reference, dtype=np.float64)[None, :]

    def add(self, points: Array) -> None:
        """Takes what ``n x m`` points dominate out of the boxes."""
        # The fewest boxes come of the points first that take out most.
        room = np.prod(np.maximum(self.high.max(0) - points, 0.0), axis=1) if len(self.high) else points[:, 0]
        for i in np.argsort(-room, kind="stable").tolist():
            self._cut(points[i])

    def _cut(self, point: Array) -> None:
        reached = (point < self.high).all(1)
        if not reached.any():
            return
        low, high = self.low[reached], self.high[reached]
        inner = np.maximum(low, point)
        lows, highs = [self.low[~reached]], [self.high[~reached]]
        for j in range(len(point)):
            below = low[:, j] < inner[:, j]
            start, end = low[below].copy(), high[below].copy()
            start[:, :j] = inner[below, :j]
            end[:, j] = inner[below, j]
            lows.append(start)
            highs.append(end)
        self.low, self.high = np.vstack(lows), np.vstack(highs)


@dataclass(frozen=True)
class Slopes:
    """A gain's derivatives.

    Attributes:
        by_mean: by the mean of each objective in each scenario, an ``n x s`` array for each objective.
        by_deviation: by the standard deviation of each objective, ``n x s`` each, one summand a scenario.
    """

    by_mean: list[Array]
    by_deviation: list[Array]


class Cells:
    """The boxes of several scenarios in arrays of one shape, for expectations of all scenarios at once.

    Args:
        scenarios: their boxes; scenarios without any have no gain.
    """

    def __init__(self, scenarios: Sequence[Boxes]) -> None:
        self.scenarios = len(scenarios)
        self.objectives = scenarios[0].low.shape[1]
        most = max(1, *(len(each.low) for each in scenarios))
        self.ends: list[Array] = []
        self._low: list[Integers] = []
        self._high: list[Integers] = []
        for j in range(self.objectives):
            found = [_places(each.low[:, j], each.high[:, j], most) for each in scenarios]
            width = max(len(ends) for ends, _, _ in found)
            # Of scenario t the places begin at t * width; the first one is minus infinity.
            self.ends.append(np.array([np.pad(ends, (0, width - len(ends))) for ends, _, _ in found]))
            first = width * np.arange(self.scenarios)[:, None]
            self._low.append((np.array([low for _, low, _ in found]) + first).ravel())
            self._high.append((np.array([high for _, _, high in found]) + first).ravel())
        self.size = max(most, *(ends.shape[1] for ends in self.ends)) * self.scenarios

    def gain(self, means: Sequence[Array], deviations: Sequence[Array]) -> Array:
        """The expected growth of the dominated volume in each scenario, ``n x s``.

        For objectives that are independent given a scenario it is a sum over boxes, of products over objectives of
        differences of one-dimensional expected improvements. Yang, Emmerich, Deutz and Baeck, Efficient Computation of
        Expected Hypervolume Improvement Using Box Decomposition Algorithms, Journal of Global Optimization 75 (2019).

        Args:
            means: of each objective, ``n x s``.
            deviations: of each objective, ``n`` numbers.
        """
        product: Array | None = None
        for j, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
            value = self._improvement(j, mean, deviation)[0]
            side = self._across(j, value)
            product = side if product is None else np.multiply(product, side, out=product)
        assert product is not None  # noqa: S101 - there is an objective
        total: Array = product.reshape(len(product), self.scenarios, -1).sum(2)
        return total

    def gain_and_slopes(self, means: Sequence[Array], deviations: Sequence[Array]) -> tuple[Array, Slopes]:
        """As `gain`, with derivatives."""
        sides, mean_sides, deviation_sides = [], [], []
        for j, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
            value, cdf, pdf = self._improvement(j, mean, deviation)
            sides.append(self._across(j, value))
            mean_sides.append(self._across(j, -cdf))
            deviation_sides.append(self._across(j, pdf))
        shape = (len(sides[0]), self.scenarios, -1)
        others = [_product([side for k, side in enumerate(sides) if k != j]) for j in range(len(sides))]
        by_mean = [(o * d).reshape(shape).sum(2) for o, d in zip(others, mean_sides, strict=True)]
        by_deviation = [(o * d).reshape(shape).sum(2) for o, d in zip(others, deviation_sides, strict=True)]
        total: Array = (others[0] * sides[0]).reshape(shape).sum(2)
        return total, Slopes(by_mean, by_deviation)

    def _improvement(self, j: int, mean: Array, deviation: Array) -> tuple[Array, Array, Array]:
        """Expected improvement on each place of an objective, with the normal's CDF and PDF there: ``n x s x c``."""
        wide = deviation[:, None, None]
        u = (self.ends[j] - mean[:, :, None]) / wide
        value, cdf, pdf = improvement(u)
        value *= wide
        for each in (value, cdf, pdf):
            each[:, :, 0] = 0.0
        return value, cdf, pdf

    def _across(self, j: int, at: Array) -> Array:
        """The differences of values at the two ends of each box: ``n x (s k)``."""
        flat = at.reshape(len(at), -1)
        side: Array = np.take(flat, self._high[j], axis=1)
        side -= np.take(flat, self._low[j], axis=1)
        return side


def improvement(u: Array) -> tuple[Array, Array, Array]:
    """``phi(u) + u Phi(u)`` with `Phi` and `phi`, to full relative precision down to what underflows."""
    a = np.abs(u)
    pdf = np.exp(-0.5 * a * a) / _ROOT_2PI
    ratio = _ROOT_HALF_PI * erfcx(a * _ROOT_HALF)  # Phi(-a) / phi(a)
    tail = pdf * ratio
    value = np.maximum(pdf - a * tail, 0.0) + np.maximum(u, 0.0)
    return value, np.where(u > 0.0, 1.0 - tail, tail), pdf


def _product(factors: list[Array]) -> Array:
    found = factors[0]
    for factor in factors[1:]:
        found = found * factor
    return found


def _places(low: Array, high: Array, most: int) -> tuple[Array, Integers, Integers]:
    """Where boxes begin and end in one objective: the ends in order, and the numbers of each box's two."""
    ends, numbers = np.unique(np.concatenate([low[np.isfinite(low)], high]), return_inverse=True)
    ends = np.concatenate([[0.0], ends])  # the first stands for minus infinity
    lows, highs = np.zeros(most, dtype=np.intp), np.zeros(most, dtype=np.intp)
    bounded = np.isfinite(low).nonzero()[0]
    lows[bounded] = numbers[: len(bounded)] + 1
    highs[: len(high)] = numbers[len(bounded) :] + 1
    return ends, lows, highs
