"""Evolutionary search for cheap evaluations in great numbers: NSGA-II, NSGA-III, CMA-ES, a genetic algorithm."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from algorithms.breeding import Breeding
from algorithms.covariance import CovarianceAdaptation
from algorithms.history import HistoryAlgorithm
from algorithms.options import text, whole
from algorithms.strategy import Results, Strategy
from algorithms.survival import Best, Crowding, Directions, Survival, reference_directions
from algorithms.variation import Variation
from hpo_steer.errors import ConfigError, nearest
from hpo_steer.parameters import Categorical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from algorithms.strategy import Array
    from hpo_steer.algorithm import Observation
    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

METHODS = ("cmaes", "ga", "nsga2", "nsga3")
_COARSE = 10  # a number of fewer values is no continuum to CMA-ES
_LARGEST = 1e150  # losses beyond it are this large: their squares are numbers still


class Evolution(HistoryAlgorithm):
    """Evolution strategies that take results in any number and any order.

    1. The first `population` points are a Latin hypercube; so are further ones until results have come.
    2. Results that have come by the time of an ask, of whichever points, are one step of the method.
    3. An ask takes as many candidates as it needs. Those that were proposed before or break a constraint are
       replaced by others, and after many in vain by random new points.

    A failed point does not survive, and is not proposed again. The state is a function of the results and of
    how they were grouped by asks: a recorded history is read in without any ask being computed again. It is as
    large as the population, however many points there are.

    * ``nsga2``: Deb, Pratap, Agarwal and Meyarivan, IEEE Transactions on Evolutionary Computation 6 (2002).
    * ``nsga3``: Deb and Jain, IEEE Transactions on Evolutionary Computation 18 (2014).
    * ``cmaes``: Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772 (2016), with restarts.
    * ``ga``: the best survive; crossover and mutation are those of NSGA-II.

    Args:
        space: where points come from.
        objectives: one or several.
        seed: fixes every random choice.
        method: one of `METHODS`; default: for one objective ``cmaes`` if all parameters are numbers, of 10
            values or more and without conditions, and there are two or more of them, else ``ga``; for two
            ``nsga2``; for more ``nsga3``.
        population: points that survive; for ``cmaes``, results of a generation at least. Default in d
            dimensions with m objectives: ``4 + 3 ln d`` for ``cmaes``, else ``10 + d`` from 20 to 100, times
            ``m / 2`` if m is above 2.

    Raises:
        ConfigError: no such method, one that cannot serve this space or these objectives, or a population out
            of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        method: str | None = None,
        population: int | None = None,
    ) -> None:
        super().__init__(space, objectives, seed)
        m = len(self.objectives)
        self.method = _usual_method(space, m) if method is None else _checked_method(method, space, m)
        least = max(4, m) if self.method == "nsga3" else 4
        if population is None:
            population = _usual_population(self.method, len(space), m)
        self.population = whole("population", population, least, 10_000)
        self._variation = Variation(space)
        self._strategy = self._begun()

    def _begun(self) -> Strategy:
        if self.method == "cmaes":
            return CovarianceAdaptation(self.space, self.population)
        m = len(self.objectives)
        survival: Survival
        if self.method == "nsga3":
            survival = Directions(reference_directions(m, self.population))
        else:
            survival = Crowding() if self.method == "nsga2" else Best()
        return Breeding(self._variation, survival, self.population, m)

    def reset(self) -> None:
        """Forgets everything but the configuration."""
        super().reset()
        self._strategy = self._begun()

    def learn(self, news: Sequence[Observation]) -> None:
        """Hands the points that have values to the strategy."""
        done = [(o.point_id, o.values) for o in news if o.values is not None]
        if not done:
            return
        losses = [[goal.sign * float(values[goal.name]) for goal in self.objectives] for _, values in done]
        results = Results(
            ids=[point_id for point_id, _ in done],
            genomes=self._variation.genomes([self.points[point_id] for point_id, _ in done]),
            losses=np.clip(np.array(losses, dtype=np.float64), -_LARGEST, _LARGEST),
        )
        running = len(self.points) - len(self.told)
        self._strategy.learn(results, self._next_id, running, self.rng(purpose=2))

    def propose(self, n: int) -> list[Params]:
        """Initial points while there are too few, then the strategy's candidates."""
        rng = self.rng()
        initial = min(max(self.population - self._next_id, 0), n) if self._strategy.ready else n
        found = list(self._claimed(_latin_hypercube(initial, len(self.space), rng)))
        found += self.draw(initial - len(found))
        left = 20 * n + 200 if self._strategy.ready else 0
        while len(found) < n and left > 0:
            candidates = self._strategy.candidates(max(n - len(found), 16), rng)
            left -= len(candidates)
            found += islice(self._claimed(candidates), n - len(found))
        return found


def _latin_hypercube(n: int, d: int, rng: np.random.Generator) -> Array:
    """Places ``n x d``, one in each of n slices of every dimension (McKay, Beckman and Conover 1979)."""
    slices = rng.permuted(np.tile(np.arange(n), (d, 1)), axis=1).T
    places: Array = (slices + rng.random((n, d))) / max(n, 1)
    return places


def _usual_population(method: str, d: int, m: int) -> int:
    if method == "cmaes":
        return 4 + math.floor(3 * math.log(d))
    return min(max(20, 10 + d), 100) * max(m, 2) // 2


def _usual_method(space: SearchSpace, m: int) -> str:
    if m > 1:
        return "nsga2" if m == 2 else "nsga3"
    coarse = any(p.count is not None and 1 < p.count < _COARSE for p in space)
    return "ga" if coarse or _unfit(space) else "cmaes"


def _unfit(space: SearchSpace) -> str | None:
    """Why CMA-ES cannot search a space, or None."""
    searched = [p for p in space if p.count != 1]
    for p in searched:
        if isinstance(p, Categorical):
            return f'"{p.name}" is a categorical'
        if p.when:
            return f'"{p.name}" is switched on and off'
    return None if len(searched) >= 2 else "there are fewer than two of them"


def _checked_method(method: str, space: SearchSpace, m: int) -> str:
    key = "algorithm.method"
    if text("method", method) not in METHODS:
        raise ConfigError(key, f'there is no "{method}"; {nearest(method, METHODS)}')
    if method in ("cmaes", "ga") and m > 1:
        raise ConfigError(
            key, f'"{method}" takes one objective, and there are {m}; use {_usual_method(space, m)}'
        )
    if method in ("nsga2", "nsga3") and m == 1:
        raise ConfigError(
            key, f'"{method}" takes several objectives, and there is one; use {_usual_method(space, m)}'
        )
    if method == "cmaes" and (why := _unfit(space)):
        raise ConfigError(key, f'"cmaes" searches numbers without conditions, and {why}; use ga')
    return method
