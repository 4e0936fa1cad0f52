"""CMA-ES for results that come in any number and any order."""

from __future__ import annotations

import math
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from algorithms.strategy import Strategy

if TYPE_CHECKING:
    from algorithms.strategy import Array, Results
    from hpo_steer.space import SearchSpace

_WIDTH = 0.3  # the standard deviation a run begins with
_WIDEST = 1.0 / 3.0  # wider draws would mostly end on the surface of the cube
_FINEST = 1e-8  # a continuous parameter that varies less than this has converged
_ILL = 1e14  # the condition number of a covariance matrix that is of no more use
_STALE = 2  # so many generations old may a result be
_REDRAWS = 2  # more of them keep the search away from the faces of the cube, where optima often are


class CovarianceAdaptation(Strategy):
    """A normal distribution that follows the better half of the results: CMA-ES with restarts.

    1. Results are collected until there are `population` of them, and half as many as points still run: what is
       drawn now comes back that many results later, and a distribution that has shrunk several times meanwhile
       converges on old news. All that have come by then, however many, are one generation: its weights and learning
       rates are those of its own size.
    2. The distribution is moved and reshaped by it (`Distribution.update`). Results of points that were drawn
       from an earlier distribution, or at random, are as good as others: those far out are pulled in.
    3. A run that has converged, degenerated or stood still is followed by another one from a random place, of
       twice the population. Results of older points are left out of it.

    Nothing here depends on which points were asked for in between, so that the state follows from the
    sequence of results alone.

    Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772 (2016); results of other points: Hansen,
    Injecting External Solutions Into CMA-ES, arXiv 1110.4181 (2011); restarts: Auger and Hansen, A Restart CMA
    Evolution Strategy With Increasing Population Size, CEC 2005.

    Args:
        space: numeric and without conditions; parameters of one value are left out.
        population: results of the first run's generations at least.
    """

    def __init__(self, space: SearchSpace, population: int) -> None:
        self._d = len(space)
        self._columns = [j for j, p in enumerate(space) if p.count != 1]
        finest = np.array([_FINEST if p.count is None else 0.25 / p.count for p in space])
        self._finest = finest[self._columns]
        self._population = population
        self._begin(np.full(len(self._columns), 0.5))

    def _begin(self, mean: Array, first: int = 0) -> None:
        self._distribution = Distribution(mean, _WIDTH)
        self._waiting: list[tuple[float, Array]] = []
        patience = 10 + math.ceil(30 * len(mean) / self._population)
        self._leading: deque[float] = deque(maxlen=patience)
        self._first = first

    @property
    def ready(self) -> bool:
        """Whether there was a generation, in this run or an earlier one."""
        return self._distribution.generation > 0 or self._first > 0

    def learn(self, results: Results, known: int, running: int, rng: np.random.Generator) -> None:
        """Takes in results; `rng` places the next run."""
        for point_id, genome, loss in zip(results.ids, results.genomes, results.losses[:, 0], strict=True):
            if point_id >= self._first:
                self._waiting.append((float(loss), genome[self._columns]))
        if len(self._waiting) < max(self._population, running // _STALE):
            return
        ranked = sorted(self._waiting, key=lambda result: result[0])
        self._waiting = []
        self._leading.append(ranked[0][0])
        self._distribution.update(np.array([genome for _, genome in ranked]))
        self._distribution.limit(_WIDEST)
        if self._spent():
            self._population *= 2
            self._begin(rng.random(len(self._columns)), known)

    def _spent(self) -> bool:
        still = len(self._leading) == self._leading.maxlen and min(self._leading) == max(self._leading)
        converged = bool(np.all(self._distribution.spread < self._finest))
        return still or converged or self._distribution.condition > _ILL / 10.0

    def candidates(self, n: int, rng: np.random.Generator) -> Array:
        """`n` draws; what lies outside the cube is drawn again, and moved to its surface at last."""
        drawn = self._distribution.draw(n, rng)
        for _ in range(_REDRAWS):
            outside = np.flatnonzero(((drawn < 0.0) | (drawn > 1.0)).any(axis=1))
            drawn[outside] = self._distribution.draw(len(outside), rng)
        places = np.full((n, self._d), 0.5)
        places[:, self._columns] = np.clip(drawn, 0.0, 1.0)
        return places


class Distribution:
    """A normal distribution in d dimensions that is moved and reshaped by ranked points.

    Symbols and equations are those of Hansen's tutorial (arXiv 1604.00772).

    Args:
        mean: where it begins, ``d``.
        sigma: its standard deviation in every direction.

    Attributes:
        mean: m, ``d``.
        sigma: the step size; the covariance is ``sigma^2 C``.
        generation: how many updates there were.
    """

    def __init__(self, mean: Array, sigma: float) -> None:
        d = len(mean)
        self.mean, self.sigma, self.generation = mean, sigma, 0
        self._covariance = np.eye(d)
        self._axes, self._lengths = np.eye(d), np.ones(d)
        self._sigma_path, self._path = np.zeros(d), np.zeros(d)
        self._usual = math.sqrt(d) * (1.0 - 1.0 / (4.0 * d) + 1.0 / (21.0 * d * d))  # E ||N(0, I)||
        self._reach = math.sqrt(d) + 2.0 * d / (d + 2.0)

    @property
    def spread(self) -> Array:
        """The standard deviation of each coordinate, ``d``."""
        spread: Array = self.sigma * np.sqrt(np.diag(self._covariance))
        return spread

    @property
    def condition(self) -> float:
        """The condition number of C."""
        return float((self._lengths.max() / self._lengths.min()) ** 2)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """`n` points of the distribution, ``n x d``."""
        normals = rng.standard_normal((n, len(self.mean)))
        drawn: Array = self.mean + self.sigma * (normals * self._lengths) @ self._axes.T
        return drawn

    def update(self, ranked: Array) -> None:
        """One generation.

        Args:
            ranked: ``k x d`` points, the best one first, k 4 or more. A point further from the mean than
                draws ever are, at a Mahalanobis distance of ``sqrt(d) + 2 d / (d + 2)``, counts as one at
                that distance in its direction.
        """
        k, d = ranked.shape
        rates = Rates.of(d, k)
        steps = (ranked - self.mean) / self.sigma
        white = steps @ self._axes / self._lengths
        norms = np.linalg.norm(white, axis=1, keepdims=True)
        nearer = np.minimum(1.0, self._reach / np.maximum(norms, 1e-300))
        steps, white, norms = steps * nearer, white * nearer, norms * nearer
        weights = rates.weights
        positive = np.maximum(weights, 0.0)
        step = positive @ steps
        self.mean = self.mean + self.sigma * step
        self.generation += 1
        length = self._lengthen(step, self._axes @ (positive @ white), rates)
        leaning = np.where(weights >= 0.0, weights, weights * d / np.maximum(norms[:, 0] ** 2, 1e-12))
        kept = 1.0 - rates.rank_one - rates.rank_mu * weights.sum()
        if self._stalled(length, rates):
            kept += rates.rank_one * rates.path * (2.0 - rates.path)
        self._covariance = (
            kept * self._covariance
            + rates.rank_one * np.outer(self._path, self._path)
            + rates.rank_mu * (leaning[:, None] * steps).T @ steps
        )
        self.sigma *= math.exp(min(1.0, rates.sigma_path / rates.damping * (length / self._usual - 1.0)))
        self._decompose()

    def limit(self, widest: float) -> None:
        """Narrows the coordinates that vary more than `widest`, a standard deviation."""
        shares = np.minimum(1.0, widest / self.spread)
        if shares.min() < 1.0:
            self._covariance = self._covariance * np.outer(shares, shares)
            self._decompose()

    def _lengthen(self, step: Array, white_step: Array, rates: Rates) -> float:
        """Adds a step to both paths (equations 43 and 45); the length of the one for the step size."""
        c = rates.sigma_path
        self._sigma_path = (1.0 - c) * self._sigma_path + math.sqrt(c * (2.0 - c) * rates.mass) * white_step
        length = float(np.linalg.norm(self._sigma_path))
        c = rates.path
        self._path = (1.0 - c) * self._path
        if not self._stalled(length, rates):
            self._path = self._path + math.sqrt(c * (2.0 - c) * rates.mass) * step
        return length

    def _stalled(self, length: float, rates: Rates) -> bool:
        """Whether the path is too long for the covariance to follow it: ``h_sigma`` is 0."""
        share = math.sqrt(1.0 - (1.0 - rates.sigma_path) ** (2 * self.generation))
        return length / share >= (1.4 + 2.0 / (len(self.mean) + 1.0)) * self._usual

    def _decompose(self) -> None:
        squares, axes = np.linalg.eigh((self._covariance + self._covariance.T) / 2.0)
        squares = np.maximum(squares, squares.max() / _ILL)  # rounding may have made one of them negative
        self._axes, self._lengths = axes, np.sqrt(squares)
        self._covariance = (axes * squares) @ axes.T


class Rates:
    """Weights and learning rates of a generation of k points in d dimensions (tutorial, table 1).

    Attributes:
        weights: ``k``, the best point's first; those of the better half add up to 1, others are below 0.
        mass: the variance-effective number of the better half, ``mu_eff``.
        rank_one, rank_mu: how quickly the covariance changes, ``c_1`` and ``c_mu``.
        path, sigma_path: how quickly the paths change, ``c_c`` and ``c_sigma``.
        damping: of the step size, ``d_sigma``.
    """

    def __init__(self, d: int, k: int) -> None:
        raw = math.log((k + 1) / 2) - np.log(np.arange(1, k + 1))
        good, bad = raw[raw > 0.0], raw[raw <= 0.0]
        mass = self.mass = float(good.sum() ** 2 / (good**2).sum())
        against = float(bad.sum() ** 2 / (bad**2).sum())
        self.rank_one = 2.0 / ((d + 1.3) ** 2 + mass)
        wanted = 2.0 * (0.25 + mass + 1.0 / mass - 2.0) / ((d + 2.0) ** 2 + mass)
        self.rank_mu = min(1.0 - self.rank_one, wanted)
        total = min(
            1.0 + self.rank_one / self.rank_mu,
            1.0 + 2.0 * against / (mass + 2.0),
            (1.0 - self.rank_one - self.rank_mu) / (d * self.rank_mu),
        )
        self.weights: Array = np.where(raw > 0.0, raw / good.sum(), total * raw / np.abs(bad).sum())
        self.path = (4.0 + mass / d) / (d + 4.0 + 2.0 * mass / d)
        self.sigma_path = (mass + 2.0) / (d + mass + 5.0)
        self.damping = 1.0 + 2.0 * max(0.0, math.sqrt((mass - 1.0) / (d + 1.0)) - 1.0) + self.sigma_path

    @staticmethod
    @lru_cache(maxsize=64)
    def of(d: int, k: int) -> Rates:
        """The rates, computed once."""
        return Rates(d, k)
