"""The candidates of one ask, and what a model thinks of them as points are taken one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr

from algorithms.improvement import log_nei, log_nei_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from algorithms.gaussian_process import Posterior
    from algorithms.kernel import Array
    from hpo_steer.space import Params

_HOPELESS = -1.6  # the logarithm of a one in five chance of success


class Candidates:
    """Places to choose from, with their expected improvement under one model, kept up to date as points are taken.

    Args:
        pool: the points, m of them.
        features: theirs, ``m x f``.
        posterior: the model given the outcomes; scenarios are imagined on it from here on.
        places: incumbents and pending points, ``p x f``.
        normals: ``p x s`` standard normal numbers for the scenarios.
        feasibility: a model of where points are invalid; None: nowhere.

    Attributes:
        best: the lowest value in each scenario, ``s`` numbers.
        hopeless: which candidates are probably invalid, ``m`` booleans.
    """

    def __init__(
        self,
        pool: list[Params],
        features: Array,
        posterior: Posterior,
        places: Array,
        normals: Array,
        feasibility: Posterior | None,
    ) -> None:
        self.pool, self.features, self.posterior = pool, features, posterior
        imagined = posterior.sample(places, normals)
        posterior.imagine(places, imagined)
        self.best: Array = imagined.min(0)
        self._feasibility = feasibility
        self._log_chance = self._log_success(features)
        self.hopeless: NDArray[np.bool_] = self._log_chance < _HOPELESS
        self._explained = posterior.explained(features)
        self._mean, self._variance = posterior.moments(features)

    def leaders(self, count: int) -> list[int]:
        """The candidates of the highest expected improvement, best first."""
        scores = log_nei_of(self._mean, self._variance, self.best) + self._log_chance
        return [int(i) for i in np.argsort(-scores, kind="stable")[:count]]

    def score(self, at: Array) -> Array:
        """The log of improvement times chance of success at ``m x f`` places."""
        return log_nei(self.posterior, self.best, at) + self._log_success(at)

    def _log_success(self, at: Array) -> Array:
        if self._feasibility is None:
            return np.zeros(len(at))
        mean, variance = self._feasibility.moments(at)
        chance: Array = log_ndtr(-mean[:, 0] / np.sqrt(variance))
        # Late in a batch all improvements are tiny, and hopeless places would win by their improvement alone.
        return np.where(chance < _HOPELESS, chance - 1e6, chance)

    def take(self, at: Array, normals: Array) -> None:
        """Imagines a value of one more pending point (``1 x f``) in each scenario."""
        mean, variance = self.posterior.moments(at)
        value = mean + np.sqrt(variance)[:, None] * normals
        known = self.posterior.explained(at)
        shared = self.posterior.kernel(self.features, at) - self._explained @ known.T
        self._mean += shared / variance * (value - mean)
        self._variance = np.maximum(self._variance - shared[:, 0] ** 2 / variance, 1e-12)
        self._explained = np.hstack([self._explained, shared / np.sqrt(variance)])
        self.posterior.imagine(at, value)
        self.best = np.minimum(self.best, value[0])
