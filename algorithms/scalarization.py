"""Several objectives as one: augmented Chebyshev scalarisations, and the improvement that is expected of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from algorithms.hypervolume import Slopes, improvement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from algorithms.kernel import Array

_AUGMENTED = 0.05
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(24)
_REACH = 6.0


class Chebyshev:
    """The expected improvement of a scalarisation, ``max_j w_j f_j + 0.05 sum_j w_j f_j``, in several scenarios.

    The chance that the maximum is below a number is a product over independent objectives, so that the expectation is
    an integral in one dimension. The augmentation, which is there to break ties, takes part by its mean. Knowles,
    ParEGO: A Hybrid Algorithm With On-Line Landscape Approximation for Expensive Multiobjective Optimization Problems,
    IEEE Transactions on Evolutionary Computation 10 (2006); on modelled objectives: Daulton, Balandat and Bakshy,
    Differentiable Expected Hypervolume Improvement for Parallel Multi-Objective Bayesian Optimization, NeurIPS 2020.

    Args:
        weights: ``m`` positive numbers, divided by the ranges of the objectives.
        ideal: ``m`` numbers, the best values.
        values: imagined at incumbents and pending points, ``p x s x m``.
        counted: which of these count, ``p x s``; where none does, the improvement is 1.
    """

    def __init__(self, weights: Array, ideal: Array, values: Array, counted: NDArray[np.bool_]) -> None:
        self.size = len(_NODES) * values.shape[1]
        self._weights, self._ideal = weights, ideal
        scaled = (values - ideal) * weights
        whole = scaled.max(2) + _AUGMENTED * scaled.sum(2)
        self._best: Array = np.where(counted, whole, np.inf).min(0)

    def gain(self, means: Sequence[Array], deviations: Sequence[Array]) -> Array:
        """The expected improvement, ``n x s``; arguments as of `Cells.gain`."""
        return self.gain_and_slopes(means, deviations)[0]

    def gain_and_slopes(self, means: Sequence[Array], deviations: Sequence[Array]) -> tuple[Array, Slopes]:
        """As `gain`, with derivatives."""
        pairs = list(zip(self._weights, self._ideal, strict=True))
        mean = [w * (each - z) for (w, z), each in zip(pairs, means, strict=True)]
        wide = [w * each[:, None, None] for (w, _), each in zip(pairs, deviations, strict=True)]
        best = np.where(np.isfinite(self._best), self._best, 0.0)
        end = best - _AUGMENTED * sum(mean)
        low = np.minimum(end, np.maximum.reduce(mean)) - _REACH * np.maximum.reduce(wide)[:, :, 0]
        half = 0.5 * (end - low)
        at = (low + half)[:, :, None] + half[:, :, None] * _NODES
        parts = [improvement((at - m[:, :, None]) / d) for m, d in zip(mean, wide, strict=True)]
        chance = [cdf for _, cdf, _ in parts]
        last = [improvement((end - m) / d[:, :, 0])[1] for m, d in zip(mean, wide, strict=True)]
        weigh = half[:, :, None] * _NODE_WEIGHTS
        gain = (np.multiply.reduce(chance) * weigh).sum(2)
        moved = -_AUGMENTED * np.multiply.reduce(last)  # the end of the integral moves with every mean
        by_mean, by_deviation = [], []
        for j, ((w, _), (_, _, pdf)) in enumerate(zip(pairs, parts, strict=True)):
            others = np.multiply.reduce([weigh, *(c for k, c in enumerate(chance) if k != j)])
            density = others * pdf / wide[j]
            by_mean.append(w * (moved - density.sum(2)))
            by_deviation.append(w * -(density * (at - mean[j][:, :, None]) / wide[j]).sum(2))
        unmet = ~np.isfinite(self._best)
        gain[:, unmet] = 1.0
        for each in (*by_mean, *by_deviation):
            each[:, unmet] = 0.0
        return gain, Slopes(by_mean, by_deviation)
