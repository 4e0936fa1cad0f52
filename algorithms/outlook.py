"""What a model expects of many places, kept up to date as further values are imagined one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from algorithms.gaussian_process import Posterior
    from algorithms.kernel import Array


class Outlook:
    """Means and variances at fixed places; another imagined value changes them by a rank-one update.

    Args:
        posterior: the model; values are imagined on it from here on.
        features: the places, ``m x f``.

    Attributes:
        mean: of the noise-free function, ``m x s``.
        variance: ``m`` numbers.
    """

    def __init__(self, posterior: Posterior, features: Array) -> None:
        self.posterior, self.features = posterior, features
        self._explained = posterior.explained(features)
        self.mean, self.variance = posterior.moments(features)

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Leaves only some of the places."""
        self.features, self._explained = self.features[rows], self._explained[rows]
        self.mean, self.variance = self.mean[rows], self.variance[rows]

    def take(self, at: Array, normals: Array) -> Array:
        """Imagines a value at ``1 x f`` in each of `s` scenarios, from as many normal numbers; returns the values."""
        mean, variance = self.posterior.moments(at)
        value: Array = mean + np.sqrt(variance)[:, None] * normals
        known = self.posterior.explained(at)
        shared = self.posterior.kernel(self.features, at) - self._explained @ known.T
        self.mean = self.mean + shared / variance * (value - mean)
        self.variance = np.maximum(self.variance - shared[:, 0] ** 2 / variance, 1e-12)
        self._explained = np.hstack([self._explained, shared / np.sqrt(variance)])
        self.posterior.imagine(at, value)
        taken: Array = value[0]
        return taken
