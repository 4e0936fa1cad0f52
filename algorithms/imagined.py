"""A model in scenarios: what it expects of candidates as points are taken, and how its expectations pull at places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from algorithms.outlook import Outlook

if TYPE_CHECKING:
    from algorithms.gaussian_process import Posterior
    from algorithms.kernel import Array


class Imagined(Outlook):
    """A posterior with values imagined at incumbents and pending points, and its outlook on a pool of candidates.

    Args:
        posterior: the model given the outcomes; scenarios are imagined on it from here on.
        places: incumbents and pending points, ``p x f``, one or more.
        normals: ``p x s`` standard normal numbers.
        pool: features of the candidates, ``n x f``.

    Attributes:
        values: what was imagined at `places`, ``p x s``.
    """

    def __init__(self, posterior: Posterior, places: Array, normals: Array, pool: Array) -> None:
        self.values = posterior.sample(places, normals)
        posterior.imagine(places, self.values)
        super().__init__(posterior, pool)


class Tangent:
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
