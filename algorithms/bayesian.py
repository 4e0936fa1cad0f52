"""Bayesian optimisation with a Gaussian process, in batches and aware of pending points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_ndtr, ndtri
from scipy.stats import qmc

from algorithms.gaussian_process import Array, Posterior, fit, one_thread
from algorithms.history import HistoryAlgorithm
from algorithms.improvement import climb, descend, log_nei, log_nei_of
from algorithms.options import whole
from algorithms.surrogate import surrogates
from algorithms.sobol import SobolSequence, sobol_points
from hpo_steer.errors import ConfigError
from hpo_steer.parameters import Categorical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_SCENARIOS = 64
_INCUMBENTS = 16
_HOPELESS = -1.6  # the logarithm of a one in five chance of success
_RELAXED = 20  # a parameter of more values than this is treated as a continuum until it is rounded


class Bayesian(HistoryAlgorithm):
    """Noisy expected improvement on a Gaussian process; a batch is chosen point by point.

    1. The first `initial_points` come from a scrambled Sobol sequence.
    2. A Gaussian process (`algorithms.gaussian_process.fit`) models the standardized outcomes over the unit
       cube. Outcomes far worse than the bulk are pulled in first: one diverged training must not flatten
       the rest.
    3. Pending points get imagined values, drawn jointly in 64 scenarios: nothing near them is proposed.
    4. The point of the highest expected improvement, averaged over the scenarios, is found among candidates
       all over the cube and around the best points, and refined by its gradient. It joins the pending ones,
       and so on until the batch is full (sequential greedy: Wilson, Hutter and Deisenroth, Maximizing
       Acquisition Functions for Bayesian Optimization, NeurIPS 2018).

    Unordered choices enter the model as one feature each. Candidates that break a constraint are dropped.
    A failed point is not proposed again, and where points failed as `invalid` the improvement is weighed with
    the chance of success that a second model learns from them.

    Args:
        space: where points come from.
        objectives: exactly one.
        seed: fixes the initial points and the scenarios.
        initial_points: before the model is used; default: ``max(2 d + 2, the first ask)`` in d dimensions.
        candidates: spread over the cube in every ask; half as many more around the best points.

    Raises:
        ConfigError: there are several objectives, or an option is out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        initial_points: int | None = None,
        candidates: int = 1024,
    ) -> None:
        super().__init__(space, objectives, seed)
        if len(self.objectives) != 1:
            raise ConfigError(
                "algorithm.name",
                f'"bayesian" takes one objective, and there are {len(self.objectives)}; '
                "use {name: optuna, sampler: nsgaii}, or keep one of them",
            )
        if initial_points is not None:
            whole("initial_points", initial_points, 1)
        self._initial = initial_points or 2 * len(space) + 2
        self._candidates = whole("candidates", candidates, 16, 65_536)
        self._sequence = SobolSequence(len(space), seed)
        self._place = 0
        self._features = Features(space)

    def reset(self) -> None:
        """Forgets everything but the configuration."""
        super().reset()
        self._place = 0

    def propose(self, n: int) -> list[Params]:
        """Initial points while there are too few, then the model's."""
        known = len(self.completed())
        initial = max(self._initial - len(self.points), 0)
        if known < min(3, self._initial) or not self.points:
            initial = n
        found, self._place = sobol_points(self, self._sequence, self._place, min(initial, n))
        if len(found) < n and known >= 1:
            with one_thread():
                found += self._batch(n - len(found), found)
        return found

    # ---------------------------------------------------------------- the model

    def _batch(self, n: int, more_pending: list[Params]) -> list[Params]:
        completed = self.completed()
        at = self._features.of([params for params, _ in completed])
        raw, noise = self._outcomes([o.values or {} for _, o in completed], [o.sem for _, o in completed])
        models = surrogates(at, raw, noise)
        rng = self.rng()
        first = models[0].posterior()
        leaders = np.argsort(first.moments(at)[0][:, 0], kind="stable")[:_INCUMBENTS]
        pending = self._features.of([self.points[i] for i in self.pending] + more_pending)
        places = np.vstack([at[leaders], pending])
        normals = _normals(len(places) + n, rng)
        pool = self._pool([completed[i][0] for i in leaders.tolist()[:8]], rng)
        if not pool:
            return []
        features = self._features.of(pool)
        feasibility = self._feasibility(at)
        batches, means = [], []
        for model in models:
            posterior = model.posterior()
            means.append(model.posterior())
            imagined = posterior.sample(places, normals[: len(places)])
            posterior.imagine(places, imagined)
            batches.append(_Batch(posterior, imagined.min(0), features, pool, feasibility))
        found: list[Params] = []
        exploit = min(len(models) if n >= 8 else 1, n // 4)
        for i, z in enumerate(normals[len(places) :]):
            params = self._pick_best(batches[i], means[i]) if i < exploit else None
            if params is None:
                params = self._pick(batches[i % len(batches)])
            if params is None:
                break
            for batch in batches:
                batch.take(self._features.of([params]), z)
            found.append(params)
        return found

    def _pick_best(self, batch: _Batch, mean: Posterior) -> Params | None:
        """Where the model expects the best value of all, however sure it is of it; None if that is no new point."""
        value = mean.moments(batch.features)[0][:, 0] - 1e-9 * batch.chance
        value = np.where(batch.chance < _HOPELESS, np.inf, value)
        starts = np.argsort(value, kind="stable")[:4].tolist()
        free = self._features.free([batch.pool[i] for i in starts])
        ends = descend(mean, batch.features[starts], free, steps=60)
        options = [self._features.point(end, batch.pool[i]) for end, i in zip(ends, starts, strict=True)]
        values = mean.moments(self._features.of(options))[0][:, 0]
        for i in np.argsort(values, kind="stable").tolist():
            params: Params = options[i]
            if values[i] <= value[starts[0]] + 1e-12 and self.claim(params):
                return params
        return None

    def _pick(self, batch: _Batch) -> Params | None:
        """The next point of a batch, claimed; None if every candidate is spent."""
        starts = batch.leaders(4)
        free = self._features.free([batch.pool[i] for i in starts])
        ends = climb(batch.posterior, batch.best, batch.features[starts], free, steps=25)
        refined = [self._features.point(end, batch.pool[i]) for end, i in zip(ends, starts, strict=True)]
        refined = [params for params in refined if self.is_new(params)]
        options = refined + [batch.pool[i] for i in starts]
        values = batch.score(self._features.of(options))
        ranked: list[int] = np.argsort(-values, kind="stable").tolist()
        for i in ranked:
            params: Params = options[i]
            if self.claim(params):
                return params
        for i in batch.leaders(len(batch.pool)):
            if self.claim(batch.pool[i]):
                return batch.pool[i]
        return None

    def _feasibility(self, succeeded: Array) -> Posterior | None:
        """A model of where points fail as `invalid` (1) or succeed (-1); None if none ever failed so."""
        invalid = [params for params, failure in self.failed() if failure.kind == "invalid"]
        if not invalid:
            return None
        at = np.vstack([succeeded, self._features.of(invalid)])
        labels = np.repeat([-1.0, 1.0], [len(succeeded), len(invalid)])
        fitted = fit(at, labels)
        return Posterior(fitted, at, labels / fitted.scale)

    def _outcomes(self, values: list[Any], sems: list[Any]) -> tuple[Array, Array | None]:
        """Standardized outcomes to be minimised, and the variances of their noise if all are known."""
        goal = self.objectives[0]
        raw = goal.sign * np.array([v[goal.name] for v in values], dtype=np.float64)
        known = [s.get(goal.name) if s else None for s in sems]
        if any(k is None for k in known):
            return raw, None
        scale = np.abs(raw).max() or 1.0
        return raw, (np.array(known, dtype=np.float64) / scale) ** 2

    def _pool(self, leaders: list[Params], rng: np.random.Generator) -> list[Params]:
        """New points to choose from: all over the cube, and around the best."""
        d = len(self.space)
        wide = qmc.Sobol(d, rng=rng).random_base2(max(int(self._candidates - 1).bit_length(), 4))
        base = self.space.encode_many(leaders)
        count = self._candidates // 2
        near = base[rng.integers(len(base), size=count)]
        moved = rng.random((count, d)) < np.maximum(rng.choice([0.2, 0.5, 1.0], size=(count, 1)), 1.5 / d)
        width = rng.choice([0.003, 0.02, 0.08, 0.25], size=(count, 1))
        jump = np.where(
            self._features.unordered, rng.random((count, d)), near + width * rng.normal(size=(count, d))
        )
        near = np.where(moved, np.clip(jump, 0.0, 1.0), near)
        pool = [self.space.decode(row) for row in np.vstack([wide, near]).tolist()]
        return [params for params in pool if self.is_new(params)]


class _Batch:
    """The candidates of one ask and what the model thinks of them, as points are taken one by one."""

    def __init__(
        self,
        posterior: Posterior,
        best: Array,
        features: Array,
        pool: list[Params],
        feasibility: Posterior | None,
    ) -> None:
        self.posterior, self.best, self.features, self.pool = posterior, best, features, pool
        self._feasibility = feasibility
        self.chance = self._log_chance = self._log_success(features)
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


def _normals(count: int, rng: np.random.Generator) -> Array:
    """Quasi-random standard normal numbers, ``count x s``."""
    uniform = qmc.Sobol(min(count, qmc.Sobol.MAXDIM), rng=rng).random(_SCENARIOS).T
    normals: Array = ndtri(np.clip(uniform, 1e-9, 1.0 - 1e-9))
    return normals


class Features:
    """How points look to the model: the unit cube, with one feature for each choice of three or more.

    Args:
        space: whose points.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.unordered: NDArray[np.bool_] = np.array(
            [isinstance(p, Categorical) and p.count > 2 for p in space], dtype=bool
        )
        parents = {parent for p in space for parent in p.when}
        self._columns: list[slice] = []
        width = 0
        for p, spread in zip(space, self.unordered, strict=True):
            size = p.count if spread and p.count is not None else 1
            self._columns.append(slice(width, width + size))
            width += size
        self.width = width
        self._movable = [
            not isinstance(p, Categorical)
            and (p.count is None or p.count > _RELAXED)
            and p.name not in parents
            for p in space
        ]

    def of(self, points: Sequence[Params]) -> Array:
        """Features ``n x f`` of points; 0.5, and no choice at all, where a parameter is switched off."""
        unit = self.space.encode_many(points)
        if not self.unordered.any():
            return unit
        features = np.zeros((len(points), self.width))
        for j, (p, columns) in enumerate(zip(self.space, self._columns, strict=True)):
            if not self.unordered[j]:
                features[:, columns.start] = unit[:, j]
                continue
            for i, params in enumerate(points):
                if p.name in params:
                    assert isinstance(p, Categorical)  # noqa: S101 - only these are unordered
                    features[i, columns.start + p.index(params[p.name])] = 1.0
        return features

    def free(self, points: Sequence[Params]) -> NDArray[np.bool_]:
        """Which features of each point a gradient may move, ``n x f``."""
        free = np.zeros((len(points), self.width), dtype=bool)
        for movable, p, columns in zip(self._movable, self.space, self._columns, strict=True):
            if movable:
                free[:, columns.start] = [p.name in params for params in points]
        return free

    def point(self, features: Array, origin: Params) -> Params:
        """The point that a place stands for, with what cannot move taken from `origin`."""
        params = dict(origin)
        for movable, p, columns in zip(self._movable, self.space, self._columns, strict=True):
            if movable and p.name in params:
                params[p.name] = p.decode(float(features[columns.start]))
        return params
