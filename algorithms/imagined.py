"""A model in scenarios: what it expects of candidates as points are taken, and how its expectations pull at places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from algorithms.gaussian_process import Posterior
    from algorithms.kernel import Array


class Imagined:
    """A posterior with values imagined at incumbents and pending points, kept up to date on a pool of candidates.

    Args:
        posterior: the model given the outcomes; scenarios are imagined on it from here on.
        places: incumbents and pending points, ``p x f``, one or more.
        normals: ``p x s`` standard normal numbers.
        pool: features of the candidates, ``n x f``.

    Attributes:
        values: what was imagined at `places`, ``p x s``.
        mean: of the candidates in each scenario, ``n x s``.
        variance: of the candidates, ``n``.
    """

    def __init__(self, posterior: Posterior, places: Array, normals: Array, pool: Array) -> None:
        self.posterior, self._pool = posterior, pool
        self.values = posterior.sample(places, normals)
        posterior.imagine(places, self.values)
        self._explained = posterior.explained(pool)
        self.mean, self.variance = posterior.moments(pool)

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Leaves only some of the candidates."""
        self._pool, self._explained = self._pool[rows], self._explained[rows]
        self.mean, self.variance = self.mean[rows], self.variance[rows]

    def take(self, at: Array, normals: Array) -> Array:
        """Imagines the value of one more pending point (``1 x f``) in each scenario: ``s`` numbers."""
        mean, variance = self.posterior.moments(at)
        value = mean + np.sqrt(variance)[:, None] * normals
        known = self.posterior.explained(at)
        shared = self.posterior.kernel(self._pool, at) - self._explained @ known.T
        self.mean += shared / variance * (value - mean)
        self.variance = np.maximum(self.variance - shared[:, 0] ** 2 / variance, 1e-12)
        self._explained = np.hstack([self._explained, shared / np.sqrt(variance)])
        self.posterior.imagine(at, value)
        taken: Array = value[0]
        return taken


class Outlook:
    """Means and deviations of a model at some places, and the way back from slopes by these to slopes by the places.

    Args:
        posterior: with the scenarios imagined.
        at: places, ``n x f``.

    Attributes:
        mean: ``n x s``.
        deviation: ``n``.
    """

    def __init__(self, posterior: Posterior, at: Array) -> None:
        self._posterior, self._at = posterior, at
        k = posterior.kernel(at, posterior.places)
        self._root = k @ posterior.inverse_root.T
        self.mean: Array = posterior.prior_mean + k @ posterior.weights
        self.deviation: Array = np.sqrt(np.maximum(1.0 - (self._root * self._root).sum(1), 1e-12))

    def pull(self, by_mean: Array, by_deviation: Array) -> Array:
        """The gradient by the places, ``n x f``.

        Args:
            by_mean: derivatives by the means, ``n x s``.
            by_deviation: by the deviations, ``n``.
        """
        posterior = self._posterior
        by_root = (by_deviation / self.deviation)[:, None] * self._root
        by_k = by_mean @ posterior.weights.T - by_root @ posterior.inverse_root
        return posterior.kernel.pull(self._at, posterior.places, by_k)
