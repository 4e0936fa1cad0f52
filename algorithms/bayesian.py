"""Bayesian optimisation with Gaussian processes, in batches and aware of pending points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from algorithms.candidates import Candidates
from algorithms.feasibility import (
    Feasibility,
    Limit,
    leading,
    outcome_limit,
    slacks_of,
    validity_limit,
    variances,
    with_violations,
)
from algorithms.gaussian_process import Posterior, some
from algorithms.improvement import climb, descend
from algorithms.local_search import LocalSearch
from algorithms.modelled import Modelled
from algorithms.neighbours import around, throughout
from algorithms.pruned import guessed
from algorithms.scrambled import MAX_DIMENSION, ScrambledSobol
from algorithms.surrogate import surrogates
from hpo_steer.errors import ConfigError
from hpo_steer.outcomes import OutcomeConstraint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from algorithms.kernel import Array
    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_SCENARIOS = 64
_INCUMBENTS = 16
_KEPT = 800  # of very many outcomes so many are enough, and an ask costs their number cubed
_BOLD = 4  # one point in so many is where a model expects the best value, however sure it is
_STARTS = 4


@dataclass(frozen=True)
class Known:
    """What an ask knows.

    Attributes:
        params: of n points with values.
        features: theirs, ``n x f``.
        outcomes: of the objective, to be minimised, ``n``.
        noise: their variances, NaN where unknown; None: all are.
        slacks: how far inside each outcome constraint they are, ``n x c``.
        slack_noises: as `noise`, for each constraint.
    """

    params: list[Params]
    features: Array
    outcomes: Array
    noise: Array | None
    slacks: Array
    slack_noises: list[Array | None]


class Bayesian(Modelled):
    """Noisy expected improvement on Gaussian processes; a batch is chosen point by point.

    1. The first `initial_points` are the middle of the space and then a scrambled Sobol sequence.
    2. Up to three Gaussian processes model the outcomes over the unit cube: those that explain them best among several
       kernels and scales (`algorithms.surrogate.surrogates`). They choose the points of a batch in turn.
    3. The first points of a batch are where each model expects the lowest value (one in four points at most): what
       models disagree about is found out there, and what they agree about is refined.
    4. Pending points get imagined values, drawn jointly in 64 scenarios: nothing near them is proposed.
    5. The point of the highest expected improvement, averaged over the scenarios, is found among candidates
       all over the cube and around the best points, and refined by its gradient. It joins the pending ones,
       and so on until the batch is full (sequential greedy: Wilson, Hutter and Deisenroth, Maximizing
       Acquisition Functions for Bayesian Optimization, NeurIPS 2018).

    Unordered choices enter the model as one feature each; single steps and other choices are tried beside the gradient.
    Candidates that break a constraint of the space are dropped. The improvement is weighed with the chance to keep the
    outcome constraints, which have models of their own, as has the chance that a point is `invalid` where some were
    (`algorithms.feasibility`). A failed point is not proposed again; one that was pruned counts as about as bad as its
    last report (`algorithms.pruned`). Of more than 800 outcomes the models see the best
    half, and as many of the others.

    Args:
        space: where points come from.
        objectives: exactly one.
        seed: fixes the initial points and the scenarios.
        initial_points: before the model is used; default: 2 d + 2 in d dimensions, up to 22, or
            the first ask if that is more.
        candidates: spread over the cube in every ask; half as many more around the best points.
        outcome_constraints: on metrics that are told beside the objective, such as ``latency_ms <= 20``.

    Raises:
        ConfigError: there are several objectives, an option is out of range, or a constraint cannot be read.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        initial_points: int | None = None,
        candidates: int = 1024,
        outcome_constraints: Sequence[str | OutcomeConstraint] = (),
    ) -> None:
        super().__init__(space, objectives, seed, initial_points, candidates, outcome_constraints)
        if len(self.objectives) != 1:
            raise ConfigError(
                "algorithm.name",
                f'"bayesian" takes one objective, and there are {len(self.objectives)}; '
                "use mobo, or keep one of them",
            )

    # ---------------------------------------------------------------- a batch

    def batch(self, n: int, more_pending: list[Params]) -> list[Params]:
        """Points of the models in turn, each kept away from by those after it."""
        known = self._known()
        models = surrogates(known.features, known.outcomes, known.noise)
        limits = self._limits(known)
        rng = self.rng()
        posteriors = [model.posterior() for model in models]
        mean = posteriors[0].moments(known.features)[0][:, 0]
        leaders, kept = leading(mean, known.slacks, limits, known.features, _INCUMBENTS)
        pool = self._pool([known.params[i] for i in leaders.tolist()[:8]], rng)
        if not pool:
            return []
        pending = self._features.of([self.points[i] for i in self.pending] + more_pending)
        places = np.vstack([known.features[leaders], pending])
        normals = _normals(len(places) + n, rng)
        features = self._features.of(pool)
        feasibility = None
        more_normals = [_normals(len(places) + n, rng) for _ in limits]
        if limits:
            held = np.concatenate([kept, np.zeros(len(pending), dtype=bool)])
            first = [numbers[: len(places)] for numbers in more_normals]
            feasibility = Feasibility(limits, features, places, held, first)
        batch = [
            Candidates(pool, features, model.posterior(), places, normals[: len(places)], feasibility)
            for model in models
        ]
        rest = np.stack([numbers[len(places) :] for numbers in [normals, *more_normals]], axis=1)
        return self._choose(batch, posteriors, rest)

    def _known(self) -> Known:
        """What the models learn from: all points with values, or enough of very many."""
        goal = self.objectives[0]
        done = self.completed()
        done += [
            (params, guess)
            for params, guess in guessed(self.pruned(), done, goal)
            if all(each.metric in (guess.values or {}) for each in self._constraints)
        ]
        raw = goal.sign * np.array([float((o.values or {})[goal.name]) for _, o in done])
        observations = [observation for _, observation in done]
        slacks = slacks_of(self._constraints, observations)
        chosen = some(with_violations(raw, slacks), _KEPT)
        params = [done[i][0] for i in chosen.tolist()]
        kept = [observations[i] for i in chosen.tolist()]
        return Known(
            params,
            self._features.of(params),
            raw[chosen],
            variances(kept, goal.name),
            slacks[chosen],
            [variances(kept, each.metric) for each in self._constraints],
        )

    def _limits(self, known: Known) -> list[Limit]:
        """The outcome constraints, and where points are invalid if some were."""
        limits = [
            outcome_limit(known.features, slacks, noise)
            for slacks, noise in zip(known.slacks.T, known.slack_noises, strict=True)
        ]
        invalid = [params for params, failure in self.failed() if failure.kind == "invalid"]
        if invalid:
            limits.append(validity_limit(known.features, self._features.of(invalid[-_KEPT:])))
        return limits

    def _choose(self, batch: list[Candidates], means: list[Posterior], normals: Array) -> list[Params]:
        """Takes a point for each row of `normals` (``n x q x s``), from one model after the other.

        Args:
            batch: the candidates under each model.
            means: the models without scenarios.
            normals: for each point those of the objective, and then those of each limit.
        """
        found: list[Params] = []
        bold = min(len(means), len(normals) // _BOLD)
        feasibility = batch[0].feasibility
        for i, z in enumerate(normals):
            params = self._lowest(batch[i], means[i]) if i < bold else None
            params = params or self._most_promising(batch[i % len(batch)])
            if params is None:
                break
            at = self._features.of([params])
            held = None if feasibility is None else feasibility.take(at, z[1:])
            for candidates in batch:
                candidates.take(at, z[0], held)
            found.append(params)
        return found

    def _lowest(self, candidates: Candidates, posterior: Posterior) -> Params | None:
        """Where a model expects the lowest value, claimed; None if that is no new point."""

        def score(at: Array) -> Array:
            values = -posterior.moments(at)[0][:, 0]
            return values if feasibility is None else values + feasibility.encouraged(at)

        def polish(at: Array, free: NDArray[np.bool_]) -> Array:
            return descend(posterior, at, free, 60, feasibility)

        feasibility = candidates.feasibility
        values = score(candidates.features)
        starts = np.argsort(-values, kind="stable")[:_STARTS].tolist()
        options, reached = LocalSearch(self._features, score, polish).run(
            [candidates.pool[i] for i in starts]
        )
        ranked: list[int] = np.argsort(-reached, kind="stable").tolist()
        for i in ranked:
            if reached[i] >= values[starts[0]] and self.claim(options[i]):
                return options[i]
        return None

    def _most_promising(self, candidates: Candidates) -> Params | None:
        """Where a model expects the most improvement, claimed; None if every candidate is spent."""

        def polish(at: Array, free: NDArray[np.bool_]) -> Array:
            return climb(candidates.posterior, candidates.best, at, free, 25, candidates.feasibility)

        origins = [candidates.pool[i] for i in candidates.leaders(_STARTS)]
        options, values = LocalSearch(self._features, candidates.score, polish).run(origins)
        ranked: list[int] = np.argsort(-values, kind="stable").tolist()
        for params in [options[i] for i in ranked]:
            if self.claim(params):
                return params
        for i in candidates.leaders(len(candidates.pool)):
            if self.claim(candidates.pool[i]):
                return candidates.pool[i]
        return None

    def _pool(self, leaders: list[Params], rng: np.random.Generator) -> list[Params]:
        """New points to choose from: all over the cube, and around the best."""
        wide = throughout(len(self.space), self._candidates, rng)
        base = self.space.encode_many(leaders)
        near = around(base, self._candidates // 2, self._features.unordered, rng)
        pool = [self.space.decode(row) for row in np.vstack([wide, near]).tolist()]
        return [params for params in pool if self.is_new(params)]


def _normals(count: int, rng: np.random.Generator) -> Array:
    """Quasi-random standard normal numbers, ``count x s``."""
    uniform = ScrambledSobol(min(count, MAX_DIMENSION), rng).rows(0, _SCENARIOS).T
    normals: Array = ndtri(np.clip(uniform, 1e-9, 1.0 - 1e-9))
    return normals
