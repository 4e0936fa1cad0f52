"""Bayesian optimisation with Gaussian processes, in batches and aware of pending points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from algorithms.candidates import Candidates
from algorithms.features import Features
from algorithms.gaussian_process import Posterior, fit, one_thread, some
from algorithms.history import HistoryAlgorithm
from algorithms.improvement import climb, descend
from algorithms.options import whole
from algorithms.sobol import SobolSequence, sobol_points
from algorithms.surrogate import Surrogate, surrogates
from hpo_steer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from algorithms.kernel import Array
    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_SCENARIOS = 64
_INCUMBENTS = 16
_KEPT = 800  # of very many outcomes so many are enough, and an ask costs their number cubed
_BOLD = 4  # one point in so many is where a model expects the best value, however sure it is
_STARTS = 4
_WIDTHS = (0.003, 0.02, 0.08, 0.25)
"""How far candidates around the best points lie from them, in units of the cube."""


class Bayesian(HistoryAlgorithm):
    """Noisy expected improvement on Gaussian processes; a batch is chosen point by point.

    1. The first `initial_points` come from a scrambled Sobol sequence.
    2. Up to three Gaussian processes model the outcomes over the unit cube: those that explain them best among several
       kernels and scales (`algorithms.surrogate.surrogates`). They choose the points of a batch in turn.
    3. The first points of a batch are where each model expects the lowest value (one in four points at most): what
       models disagree about is found out there, and what they agree about is refined.
    4. Pending points get imagined values, drawn jointly in 64 scenarios: nothing near them is proposed.
    5. The point of the highest expected improvement, averaged over the scenarios, is found among candidates
       all over the cube and around the best points, and refined by its gradient. It joins the pending ones,
       and so on until the batch is full (sequential greedy: Wilson, Hutter and Deisenroth, Maximizing
       Acquisition Functions for Bayesian Optimization, NeurIPS 2018).

    Unordered choices enter the model as one feature each. Candidates that break a constraint are dropped.
    A failed point is not proposed again, and where points failed as `invalid` the improvement is weighed with
    the chance of success that a further model learns from them. Of more than 800 outcomes the models see the best half,
    and as many of the others.

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
                "use mobo, or keep one of them",
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
        """Initial points while there are too few, then the models'."""
        known = len(self.completed())
        initial = max(self._initial - len(self.points), 0)
        if known < min(3, self._initial) or not self.points:
            initial = n
        found, self._place = sobol_points(self, self._sequence, self._place, min(initial, n))
        if len(found) < n and known >= 1:
            with one_thread():
                found += self._batch(n - len(found), found)
        return found

    # ---------------------------------------------------------------- a batch

    def _batch(self, n: int, more_pending: list[Params]) -> list[Params]:
        params, models = self._models()
        rng = self.rng()
        posteriors = [model.posterior() for model in models]
        mean, _ = posteriors[0].moments(models[0].features)
        leaders = np.argsort(mean[:, 0], kind="stable")[:_INCUMBENTS]
        pool = self._pool([params[i] for i in leaders.tolist()[:8]], rng)
        if not pool:
            return []
        pending = self._features.of([self.points[i] for i in self.pending] + more_pending)
        places = np.vstack([models[0].features[leaders], pending])
        normals = _normals(len(places) + n, rng)
        features, feasibility = self._features.of(pool), self._feasibility(models[0].features)
        batch = [
            Candidates(pool, features, model.posterior(), places, normals[: len(places)], feasibility)
            for model in models
        ]
        return self._choose(batch, posteriors, normals[len(places) :])

    def _models(self) -> tuple[list[Params], list[Surrogate]]:
        """The points that the models learn from, and the models, the best first."""
        goal = self.objectives[0]
        done = self.completed()
        raw = goal.sign * np.array([float((o.values or {})[goal.name]) for _, o in done])
        kept = some(raw, _KEPT)
        done, raw = [done[i] for i in kept.tolist()], raw[kept]
        sems = [o.sem.get(goal.name) if o.sem else None for _, o in done]
        known = None if any(sem is None for sem in sems) else np.array(sems, dtype=np.float64) ** 2
        params = [each for each, _ in done]
        return params, surrogates(self._features.of(params), raw, known)

    def _choose(self, batch: list[Candidates], means: list[Posterior], normals: Array) -> list[Params]:
        """Takes a point for each row of `normals` (``n x s``), from one model after the other."""
        found: list[Params] = []
        bold = min(len(means), len(normals) // _BOLD)
        for i, z in enumerate(normals):
            params = self._lowest(batch[i], means[i]) if i < bold else None
            params = params or self._most_promising(batch[i % len(batch)])
            if params is None:
                break
            at = self._features.of([params])
            for candidates in batch:
                candidates.take(at, z)
            found.append(params)
        return found

    def _lowest(self, candidates: Candidates, posterior: Posterior) -> Params | None:
        """Where a model expects the lowest value, claimed; None if that is no new point."""
        values = posterior.moments(candidates.features)[0][:, 0]
        values = np.where(candidates.hopeless, np.inf, values)
        starts = np.argsort(values, kind="stable")[:_STARTS].tolist()
        origins = [candidates.pool[i] for i in starts]
        ends = descend(posterior, candidates.features[starts], self._features.free(origins), steps=60)
        options = [self._features.point(end, origin) for end, origin in zip(ends, origins, strict=True)]
        reached = posterior.moments(self._features.of(options))[0][:, 0]
        ranked: list[int] = np.argsort(reached, kind="stable").tolist()
        for i in ranked:
            params = options[i]
            if reached[i] <= values[starts[0]] and self.claim(params):
                return params
        return None

    def _most_promising(self, candidates: Candidates) -> Params | None:
        """Where a model expects the most improvement, claimed; None if every candidate is spent."""
        starts = candidates.leaders(_STARTS)
        origins = [candidates.pool[i] for i in starts]
        free = self._features.free(origins)
        ends = climb(candidates.posterior, candidates.best, candidates.features[starts], free, steps=25)
        refined = [self._features.point(end, origin) for end, origin in zip(ends, origins, strict=True)]
        options = [params for params in refined if self.is_new(params)] + origins
        values = candidates.score(self._features.of(options))
        ranked: list[int] = np.argsort(-values, kind="stable").tolist()
        for params in [options[i] for i in ranked]:
            if self.claim(params):
                return params
        for i in candidates.leaders(len(candidates.pool)):
            if self.claim(candidates.pool[i]):
                return candidates.pool[i]
        return None

    def _feasibility(self, succeeded: Array) -> Posterior | None:
        """A model of where points fail as `invalid` (1) or succeed (-1); None if none ever failed so."""
        invalid = [params for params, failure in self.failed() if failure.kind == "invalid"]
        if not invalid:
            return None
        at = np.vstack([succeeded, self._features.of(invalid[-_KEPT:])])
        labels = np.repeat([-1.0, 1.0], [len(succeeded), len(at) - len(succeeded)])
        return Posterior(fit(at, labels), at, labels)

    def _pool(self, leaders: list[Params], rng: np.random.Generator) -> list[Params]:
        """New points to choose from: all over the cube, and around the best."""
        d = len(self.space)
        wide = qmc.Sobol(d, rng=rng).random_base2(max(int(self._candidates - 1).bit_length(), 4))
        base = self.space.encode_many(leaders)
        count = self._candidates // 2
        near = base[rng.integers(len(base), size=count)]
        moved = rng.random((count, d)) < np.maximum(rng.choice([0.2, 0.5, 1.0], size=(count, 1)), 1.5 / d)
        width = rng.choice(_WIDTHS, size=(count, 1))
        jump = np.where(
            self._features.unordered, rng.random((count, d)), near + width * rng.normal(size=(count, d))
        )
        near = np.where(moved, np.clip(jump, 0.0, 1.0), near)
        pool = [self.space.decode(row) for row in np.vstack([wide, near]).tolist()]
        return [params for params in pool if self.is_new(params)]


def _normals(count: int, rng: np.random.Generator) -> Array:
    """Quasi-random standard normal numbers, ``count x s``."""
    uniform = qmc.Sobol(min(count, qmc.Sobol.MAXDIM), rng=rng).random(_SCENARIOS).T
    normals: Array = ndtri(np.clip(uniform, 1e-9, 1.0 - 1e-9))
    return normals
