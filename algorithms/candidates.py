"""The candidates of one ask, and what a model thinks of them as points are taken one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from algorithms.improvement import log_nei, log_nei_of
from algorithms.outlook import Outlook

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from algorithms.feasibility import Feasibility
    from algorithms.gaussian_process import Posterior
    from algorithms.kernel import Array
    from hpo_steer.space import Params


class Candidates:
    """Places to choose from, with their expected improvement under one model, kept up to date as points are taken.

    In a scenario without a feasible place, the improvement is counted from the worst value known: until something
    is feasible, the chance decides and the expected value has a say.

    Args:
        pool: the points, m of them.
        features: theirs, ``m x f``.
        posterior: the model given the outcomes; scenarios are imagined on it from here on.
        places: incumbents and pending points, ``p x f``.
        normals: ``p x s`` standard normal numbers for the scenarios.
        feasibility: of the candidates, shared by all models of a batch; None: all are feasible.

    Attributes:
        best: the lowest value of a feasible place in each scenario, ``s`` numbers.
        feasibility: as given.
    """

    def __init__(
        self,
        pool: list[Params],
        features: Array,
        posterior: Posterior,
        places: Array,
        normals: Array,
        feasibility: Feasibility | None,
    ) -> None:
        self.pool, self.features, self.posterior, self.feasibility = pool, features, posterior, feasibility
        worst = float(posterior.residuals.max()) + posterior.prior_mean
        imagined = posterior.sample(places, normals)
        posterior.imagine(places, imagined)
        counted = imagined if feasibility is None else np.where(feasibility.held, imagined, np.inf)
        self.best: Array = counted.min(0)
        self.best = np.where(np.isfinite(self.best), self.best, np.maximum(worst, imagined.max(0)))
        self._outlook = Outlook(posterior, features)

    @property
    def hopeless(self) -> NDArray[np.bool_]:
        """Which candidates are improbable to be feasible, ``m`` booleans."""
        return np.zeros(len(self.pool), dtype=bool) if self.feasibility is None else self.feasibility.hopeless

    def leaders(self, count: int) -> list[int]:
        """The candidates of the highest expected improvement, best first."""
        logs = None if self.feasibility is None else self.feasibility.logs
        scores = log_nei_of(self._outlook.mean, self._outlook.variance, self.best, logs)
        if self.feasibility is not None and logs is not None:
            scores += self.feasibility.discouraged(logs)
        return [int(i) for i in np.argsort(-scores, kind="stable")[:count]]

    def score(self, at: Array) -> Array:
        """The log of the expected improvement at ``m x f`` places."""
        if self.feasibility is None:
            return log_nei(self.posterior, self.best, at)
        logs = self.feasibility.log_chances(at)
        mean, variance = self.posterior.moments(at)
        return log_nei_of(mean, variance, self.best, logs) + self.feasibility.discouraged(logs)

    def take(self, at: Array, normals: Array, held: NDArray[np.bool_] | None = None) -> None:
        """Imagines a value of one more pending point (``1 x f``) in each scenario.

        Args:
            at: the point.
            normals: ``s`` standard normal numbers.
            held: in which scenarios it is feasible; None: in all.
        """
        value = self._outlook.take(at, normals)
        lower = np.minimum(self.best, value)
        self.best = lower if held is None else np.where(held, lower, self.best)
