"""Models of all objectives and outcome constraints in the same scenarios, and what a point is worth to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from algorithms.feasibility import HOPELESS
from algorithms.hypervolume import Boxes, Cells, Slopes, improvement
from algorithms.imagined import Imagined, Tangent
from algorithms.improvement import minimized
from algorithms.scalarization import Chebyshev

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from algorithms.feasibility import Limit
    from algorithms.gaussian_process import Posterior
    from algorithms.kernel import Array

    Booleans = NDArray[np.bool_]

_BLOCK = 1_500_000
"""So many numbers an array may have, about."""
_LEAST = 1e-300
_CAUTION = 100.0
"""One hundredth of the variance being noise halves what doubt counts."""


class Acquisition(Protocol):
    """What is expected to be gained in each scenario.

    Attributes:
        size: how many numbers it takes for each place.
    """

    size: int

    def gain(self, means: Sequence[Array], deviations: Sequence[Array]) -> Array:
        """``n x s`` numbers, from means ``n x s`` and deviations ``n`` of each objective."""
        ...

    def gain_and_slopes(self, means: Sequence[Array], deviations: Sequence[Array]) -> tuple[Array, Slopes]:
        """As `gain`, with derivatives."""
        ...


class Ensemble:
    """One model of each objective and of each constrained metric, with points taken one by one.

    Where values are noisy, models stay unsure even of points that they have seen, and would look at these again and
    again if they are not among `places`: then what is gained by doubt alone counts the less, the more of an
    objective's variance is noise.

    A point counts in a scenario if no imagined metric there breaks its bound. In scenarios in which no point counts so
    far, a point that does is worth as much as a box from the reference point to the best values.

    Args:
        objectives: models given the outcomes.
        limits: of the outcome constraints.
        places: incumbents and pending points, ``p x f``.
        normals: ``p x s`` standard normal numbers for each model, objectives first.
        reference: the worst values that count, ``m``, in units of the models.
        pool: features of the candidates, ``n x f``.
        validity: where points are valid; None: everywhere.
        cautious: whether doubt counts less where values are noisy.
    """

    def __init__(
        self,
        objectives: Sequence[Posterior],
        limits: Sequence[Limit],
        places: Array,
        normals: Sequence[Array],
        reference: Array,
        pool: Array,
        validity: Limit | None,
        *,
        cautious: bool = True,
    ) -> None:
        self.pool = np.arange(len(pool))
        self._features = pool
        self._daring = [1.0 / (1.0 + _CAUTION * model.noise) if cautious else 1.0 for model in objectives]
        every = [
            Imagined(model, places, z, pool)
            for model, z in zip([*objectives, *(each.posterior for each in limits)], normals, strict=True)
        ]
        self.objectives, self.constraints = every[: len(objectives)], every[len(objectives) :]
        self._limits, self._validity, self.reference = [each.bound for each in limits], validity, reference
        self.values = np.stack([each.values for each in self.objectives], axis=2)
        self.counted: Booleans = self._within(
            [each.values for each in self.constraints], self.values.shape[:2]
        )
        self._log_success = self._log_chance(pool)
        self._boxes: list[Boxes] = []

    # ---------------------------------------------------------------- what is wanted

    def hypervolume(self) -> Acquisition:
        """The growth of the hypervolume."""
        if not self._boxes:
            for s in range(self.values.shape[1]):
                boxes = Boxes(self.reference)
                boxes.add(self.values[self.counted[:, s], s])
                self._boxes.append(boxes)
        met = np.asarray(self.counted.any(0))
        return _Hypervolume(self._boxes, met, float(np.prod(self._ranges())))

    def scalarized(self, weights: Array) -> Acquisition:
        """The improvement of a scalarisation with ``m`` weights that sum to 1."""
        ideal = self.reference - self._ranges()
        return Chebyshev(weights / self._ranges(), ideal, self.values, self.counted)

    def _ranges(self) -> Array:
        """From the best values to the reference point."""
        best = np.where(self.counted[:, :, None], self.values, np.inf).min((0, 1))
        best = np.where(np.isfinite(best), best, self.values.min((0, 1)))
        ranges: Array = np.maximum(self.reference - best, 1e-9)
        return ranges

    # ---------------------------------------------------------------- what points are worth

    def leaders(self, wanted: Acquisition, count: int) -> list[int]:
        """The candidates that promise most, best first, by their numbers in the pool as it was."""
        means = [each.mean for each in self.objectives + self.constraints]
        deviations = [np.sqrt(each.variance) for each in self.objectives + self.constraints]
        step = max(_BLOCK // wanted.size, 1)
        parts = [
            self._worth(wanted, [m[i : i + step] for m in means], [d[i : i + step] for d in deviations])
            for i in range(0, len(self.pool), step)
        ]
        scores = np.concatenate(parts) + self._log_success
        return [int(i) for i in self.pool[np.argsort(-scores, kind="stable")[:count]]]

    def keep(self, numbers: Sequence[int]) -> None:
        """Leaves only some of the candidates, by their numbers in the pool as it was."""
        rows = np.searchsorted(self.pool, np.sort(np.array(numbers, dtype=np.intp)))
        self.pool, self._log_success = self.pool[rows], self._log_success[rows]
        for each in self.objectives + self.constraints:
            each.keep(rows)

    def score(self, wanted: Acquisition, at: Array) -> Array:
        """The logarithm of the gain, times the chances of success, at ``n x f`` places."""
        outlooks = [Tangent(each.posterior, at) for each in self.objectives + self.constraints]
        means, deviations = [each.mean for each in outlooks], [each.deviation for each in outlooks]
        return self._worth(wanted, means, deviations) + self._log_chance(at)

    def climb(self, wanted: Acquisition, starts: Array, free: Booleans, steps: int) -> Array:
        """Ascends the logarithm of the gain from several places at once; returns ``n x f`` places.

        Args:
            wanted: what is ascended.
            starts: ``n x f``.
            free: which features may move, ``n x f`` booleans.
            steps: iterations at most.
        """

        def value(at: Array) -> tuple[float, Array]:
            found, gradient = self.slope(wanted, at)
            return -float(found.sum()), -gradient

        return minimized(value, starts, free, {"maxiter": steps, "maxfun": 2 * steps})

    def slope(self, wanted: Acquisition, at: Array) -> tuple[Array, Array]:
        """The logarithm of the gain times the chance to keep the bounds, and its gradient: ``n`` and ``n x f``."""
        outlooks = [Tangent(each.posterior, at) for each in self.objectives + self.constraints]
        goals, bounds = outlooks[: len(self.objectives)], outlooks[len(self.objectives) :]
        gain, slopes = wanted.gain_and_slopes(
            [o.mean for o in goals], self._dared([o.deviation for o in goals])
        )
        tails = [
            improvement((limit - o.mean) / o.deviation[:, None])
            for limit, o in zip(self._limits, bounds, strict=True)
        ]
        chance = np.multiply.reduce([np.ones_like(gain), *(cdf for _, cdf, _ in tails)])
        total = np.maximum((gain * chance).mean(1), _LEAST)
        share = chance / total[:, None] / gain.shape[1]
        gradient = np.zeros_like(at)
        by_deviations = self._dared([(share * each).sum(1) for each in slopes.by_deviation])
        for o, by_mean, by_deviation in zip(goals, slopes.by_mean, by_deviations, strict=True):
            gradient += o.pull(share * by_mean, by_deviation)
        for limit, o, (_, cdf, pdf) in zip(self._limits, bounds, tails, strict=True):
            by_mean = -gain * share * pdf / np.maximum(cdf, _LEAST) / o.deviation[:, None]
            gradient += o.pull(by_mean, (by_mean * (limit - o.mean)).sum(1) / o.deviation)
        return np.log(total), gradient

    def take(self, at: Array, normals: Sequence[Array]) -> None:
        """Imagines what comes of one more pending point, ``1 x f``."""
        every = self.objectives + self.constraints
        found = [each.take(at, z) for each, z in zip(every, normals, strict=True)]
        goals, bounds = found[: len(self.objectives)], found[len(self.objectives) :]
        value = np.stack(goals, axis=1)
        counted = self._within([each[None, :] for each in bounds], (1, len(value)))
        self.values = np.concatenate([self.values, value[None]])
        self.counted = np.concatenate([self.counted, counted])
        for s, boxes in enumerate(self._boxes):
            if counted[0, s]:
                boxes.add(value[s : s + 1])

    # ---------------------------------------------------------------- inside

    def _worth(self, wanted: Acquisition, means: list[Array], deviations: list[Array]) -> Array:
        m = len(self.objectives)
        total = wanted.gain(means[:m], self._dared(deviations[:m]))
        for limit, mean, deviation in zip(self._limits, means[m:], deviations[m:], strict=True):
            total = total * improvement((limit - mean) / deviation[:, None])[1]
        found: Array = np.log(np.maximum(total.mean(1), _LEAST))
        return found

    def _dared(self, deviations: list[Array]) -> list[Array]:
        """Numbers for each objective, times the share of its doubt that counts."""
        return [share * each for share, each in zip(self._daring, deviations, strict=True)]

    def _within(self, found: list[Array], shape: tuple[int, ...]) -> Booleans:
        within = np.ones(shape, dtype=bool)
        for limit, values in zip(self._limits, found, strict=True):
            within &= values <= limit
        return within

    def _log_chance(self, at: Array) -> Array:
        """Of not being invalid; hopeless places come last, however much they promise."""
        if self._validity is None:
            return np.zeros(len(at))
        chance = np.log(np.maximum(self._validity.chance(at), _LEAST))
        return np.where(chance < HOPELESS, chance - 1e6, chance)


class _Hypervolume:
    """`Cells`, and a fixed gain in scenarios in which nothing counts so far.

    Args:
        boxes: of each scenario.
        met: in which of them a point counts.
        first: what the first such point is worth in the others.
    """

    def __init__(self, boxes: Sequence[Boxes], met: Booleans, first: float) -> None:
        self._cells, self._unmet, self._first = Cells(boxes), ~met, first
        self.size = self._cells.size

    def gain(self, means: Sequence[Array], deviations: Sequence[Array]) -> Array:
        gain = self._cells.gain(means, deviations)
        gain[:, self._unmet] = self._first
        return gain

    def gain_and_slopes(self, means: Sequence[Array], deviations: Sequence[Array]) -> tuple[Array, Slopes]:
        gain, slopes = self._cells.gain_and_slopes(means, deviations)
        gain[:, self._unmet] = self._first
        for each in (*slopes.by_mean, *slopes.by_deviation):
            each[:, self._unmet] = 0.0
        return gain, slopes
