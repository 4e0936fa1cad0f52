"""Multi-objective Bayesian optimisation with Gaussian processes, in batches and aware of pending points."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, ndtri

from algorithms.ensemble import Acquisition, Ensemble
from algorithms.feasibility import Limit, keeping, outcome_limit, slacks_of, validity_limit, variances
from algorithms.hypervolume import layers, spread_out
from algorithms.local_search import LocalSearch
from algorithms.modelled import Modelled
from algorithms.neighbours import around, between, throughout
from algorithms.reference import reference_point
from algorithms.scrambled import MAX_DIMENSION, ScrambledSobol
from algorithms.surrogate import Surrogate, surrogates
from hpo_steer.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from algorithms.gaussian_process import Posterior
    from algorithms.kernel import Array
    from hpo_steer.algorithm import Observation
    from hpo_steer.objectives import Objective
    from hpo_steer.outcomes import OutcomeConstraint
    from hpo_steer.space import Params, SearchSpace

    Booleans = NDArray[np.bool_]
    Integers = NDArray[np.intp]

_MOST_OBJECTIVES = 6
_BY_VOLUME = 4  # with more objectives the boxes are too many
_ACQUISITIONS = ("hypervolume", "parego")
_SCENARIOS = {2: 32, 3: 16, 4: 8}
_INCUMBENTS = {2: 64, 3: 48, 4: 32}
_FEWEST_INCUMBENTS = 32
_NOISY_INCUMBENTS = {2: 128, 3: 96, 4: 64}
_ATTAINABLE = 1e-3
"""A candidate with such a chance to be better than the reference keeps the reference where it is."""
_KEPT = 600  # of very many outcomes so many are enough, and an ask costs their number cubed
_TEAMS = 2
_SHORTLIST = 384
_STARTS = 5
_STEPS = 30


@dataclass(frozen=True)
class _Data:
    """What the models learn from.

    Attributes:
        params: the points.
        features: theirs, ``n x f``.
        losses: ``n x m``, to be minimised.
        slacks: how far inside each outcome constraint they are, ``n x c``; NaN where it is not known.
        observations: what was told of them.
    """

    params: list[Params]
    features: Array
    losses: Array
    slacks: Array
    observations: list[Observation]

    def noise(self, metric: str) -> Array | None:
        """The variances of a metric, NaN where they are unknown; None if all are."""
        return variances(self.observations, metric)


class Mobo(Modelled):
    """Noisy expected hypervolume improvement on Gaussian processes; a batch is chosen point by point.

    1. The first `initial_points` are the middle of the space and then a scrambled Sobol sequence.
    2. Every objective has Gaussian processes of its own, those that explain it best, and so has every metric
       with an outcome constraint.
    3. Values at the points of the front and at pending points are imagined jointly in some scenarios. In each, what
       no point dominates is cut into boxes, and the growth of the dominated volume that a further point promises
       is known in closed form. Daulton, Balandat and Bakshy, Parallel Bayesian Optimization of Multiple Noisy
       Objectives with Expected Hypervolume Improvement, NeurIPS 2021. Where the noise is known, all points
       that were seen are among them, if they are not too many.
    4. With more than four objectives, or on demand, the improvement of a scalarisation takes its place, with
       weights drawn anew for every point (qNParEGO: Daulton, Balandat and Bakshy, NeurIPS 2020).
    5. The gain is weighed with the chances to keep the bounds and not to be invalid. Points that break a
       bound do not count; as long as none keeps them all, such a point is looked for.
    6. The best place is found among candidates all over the cube and around the front, and refined by the gradient of
       the gain's logarithm. It joins the pending points, and so on until the batch is full.

    Args:
        space: where points come from.
        objectives: two to six; a `reference` is the worst value that counts. Where it is missing it is inferred.
        seed: fixes the initial points and the scenarios.
        initial_points: before the models are used; default: 2 d + 2 in d dimensions, up to 22, or
            the first ask if that is more.
        candidates: spread over the cube in every ask; as many more around the front.
        acquisition: ``hypervolume`` or ``parego``; default: the former for up to four objectives.
        outcome_constraints: bounds on reported metrics, as in ``["latency_ms <= 20"]``.

    Raises:
        ConfigError: of the number of objectives, or an option.

    Example:
        >>> from hpo_steer import Observation, create_algorithm
        >>> search = create_algorithm(
        ...     "mobo",
        ...     {"x": {"type": "float", "low": 0, "high": 1}},
        ...     {"loss": "minimize", "speed": "maximize"},
        ...     initial_points=4,
        ... )
        >>> for point in search.ask(4):
        ...     x = point.params["x"]
        ...     search.tell([Observation(point.id, {"loss": (x - 0.3) ** 2, "speed": x})])
        >>> len(search.ask(2))
        2
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        initial_points: int | None = None,
        candidates: int = 1024,
        acquisition: str | None = None,
        outcome_constraints: Sequence[str | OutcomeConstraint] = (),
    ) -> None:
        super().__init__(space, objectives, seed, initial_points, candidates, outcome_constraints)
        count = len(self.objectives)
        if count < 2:
            raise ConfigError(
                "algorithm.name", '"mobo" takes two objectives or more, and there is one; use bayesian'
            )
        if count > _MOST_OBJECTIVES:
            raise ConfigError(
                "algorithm.name",
                f'"mobo" takes up to {_MOST_OBJECTIVES} objectives, and there are {count}; use evolution',
            )
        if acquisition is not None and acquisition not in _ACQUISITIONS:
            raise ConfigError(
                "algorithm.acquisition",
                f'unknown acquisition "{acquisition}"; {nearest(str(acquisition), _ACQUISITIONS)}',
            )
        if acquisition == "hypervolume" and count > _BY_VOLUME:
            raise ConfigError(
                "algorithm.acquisition",
                f'"hypervolume" takes up to {_BY_VOLUME} objectives, and there are {count}; use parego',
            )
        self._by_volume = (
            acquisition or ("hypervolume" if count <= _BY_VOLUME else "parego")
        ) == "hypervolume"
        self._said = False

    def reset(self) -> None:
        """Forgets everything but the configuration."""
        super().reset()
        self._said = False

    # ---------------------------------------------------------------- a batch

    def batch(self, n: int, more_pending: list[Params]) -> list[Params]:
        """Points of the teams in turn, each kept away from by those after it."""
        rng = self.rng()
        data = self._data()
        goals = self._goals(data)
        limits = [
            outcome_limit(data.features, slacks, data.noise(each.metric))
            for each, slacks in zip(self._constraints, data.slacks.T, strict=True)
        ]
        noisy = any(data.noise(goal.name) is not None for goal in self.objectives)
        count = min(max(len(models) for models in goals), 1 if noisy else _TEAMS)
        posteriors = [[model.posterior() for model in models[:count]] for models in goals]
        expected = np.column_stack([_expected(each[0], data.features) for each in posteriors])
        counted = keeping(data.slacks, limits, data.features)
        if not counted.any():
            counted = np.ones(len(expected), dtype=bool)
            self._say_infeasible(len(expected))
        incumbents = self._incumbents(expected, counted, noisy)
        pool = self._pool([data.params[i] for i in incumbents.tolist()], rng)
        if not pool:
            return []
        pending = self._features.of([self.points[i] for i in self.pending] + more_pending)
        places = np.vstack([data.features[incumbents], pending])
        normals = self._normals(len(places) + n, len(goals) + len(limits), rng)
        features, validity = self._features.of(pool), self._validity(data.features)
        teams = []
        for i in range(count):
            team = [models[i % len(models)] for models in goals]
            given = [each[i % len(each)] for each in posteriors]
            teams.append(
                Ensemble(
                    [copy(each) for each in given],
                    [replace(each, posterior=copy(each.posterior)) for each in limits],
                    places,
                    [z[: len(places)] for z in normals],
                    self._reference(team, given, data.features[counted], features),
                    features,
                    validity,
                    cautious=not noisy,
                )
            )
        return self._choose(teams, pool, [z[len(places) :] for z in normals], rng)

    def _data(self) -> _Data:
        """The points that have values, at most `_KEPT` of them."""
        done = self.completed()
        losses = np.array(
            [[goal.sign * float(_values(o)[goal.name]) for goal in self.objectives] for _, o in done]
        )
        slacks = slacks_of(self._constraints, [observation for _, observation in done])
        feasible: Booleans = np.all(slacks >= 0.0, axis=1)
        kept = _some(losses, feasible, _KEPT).tolist()
        params = [done[i][0] for i in kept]
        return _Data(
            params, self._features.of(params), losses[kept], slacks[kept], [done[i][1] for i in kept]
        )

    def _goals(self, data: _Data) -> list[list[Surrogate]]:
        """The models of each objective, the best first."""
        return [
            surrogates(data.features, data.losses[:, j], data.noise(goal.name), warped=False, scaled=True)
            for j, goal in enumerate(self.objectives)
        ]

    def _say_infeasible(self, known: int) -> None:
        """Says once that no point counts so far."""
        if not self._said:
            self._said = True
            bounds = ", ".join(str(each) for each in self._constraints)
            self.note = (
                f"mobo: none of {known} results keeps all outcome constraints ({bounds}), "
                "so points that may keep them come first"
            )

    def _incumbents(self, expected: Array, counted: Booleans, noisy: bool) -> Integers:
        """The points of the front, those with most room around them if they are many, and some next to it if few.

        Where noise is known to blur which points are on the front, all points if they are not too many: one that is
        left out looks as if it had not been seen in any scenario, and worth another look.
        """
        m = len(self.objectives)
        first, enough, most = _INCUMBENTS.get(m, 32), _FEWEST_INCUMBENTS, 2 * _FEWEST_INCUMBENTS
        if noisy:
            first = enough = most = _NOISY_INCUMBENTS.get(m, 64)
        rows = counted.nonzero()[0]
        chosen: list[int] = []
        for layer in layers(expected[rows]):
            if len(chosen) >= enough:
                break
            room = (most if chosen else first) - len(chosen)
            chosen += rows[layer[spread_out(expected[rows[layer]], room)]].tolist()
        return np.array(chosen, dtype=np.intp)

    def _reference(
        self, team: list[Surrogate], posteriors: list[Posterior], counted: Array, pool: Array
    ) -> Array:
        """The reference point in units of a team's models; what is given stays if a candidate may be better.

        Args:
            team: a model of each objective.
            posteriors: theirs.
            counted: features of the points that keep the bounds, ``n x f``.
            pool: features of the candidates.
        """
        expected = np.column_stack([_expected(each, counted) for each in posteriors])
        given = np.array(
            [
                math.nan if goal.reference is None else _level(model, goal.sign * goal.reference)
                for goal, model in zip(self.objectives, team, strict=True)
            ]
        )
        within = self._by_volume and float(_chances(posteriors, pool, given).max()) > _ATTAINABLE
        return reference_point(expected, given, attainable=within)

    def _choose(
        self,
        teams: list[Ensemble],
        pool: list[Params],
        normals: list[Array],
        rng: np.random.Generator,
    ) -> list[Params]:
        """Takes a point for each row of `normals` (``n x s``, a model each), from one team after the other."""
        found: list[Params] = []
        for i in range(len(normals[0])):
            team = teams[i % len(teams)]
            params = self._most_promising(team, self._wanted(team, rng), pool)
            if params is None:
                break
            at = self._features.of([params])
            for each in teams:
                each.take(at, [z[i] for z in normals])
            found.append(params)
        return found

    def _wanted(self, team: Ensemble, rng: np.random.Generator) -> Acquisition:
        if self._by_volume:
            return team.hypervolume()
        return team.scalarized(np.maximum(rng.dirichlet(np.ones(len(self.objectives))), 1e-3))

    def _most_promising(self, team: Ensemble, wanted: Acquisition, pool: list[Params]) -> Params | None:
        """Where a team expects most, claimed; None if every candidate is spent."""

        def score(at: Array) -> Array:
            return team.score(wanted, at)

        def polish(at: Array, free: Booleans) -> Array:
            return team.climb(wanted, at, free, steps=_STEPS)

        leaders = team.leaders(wanted, len(team.pool))
        if self._by_volume and len(leaders) > _SHORTLIST:
            team.keep(leaders[:_SHORTLIST])
        origins = [pool[i] for i in leaders[:_STARTS]]
        options, values = LocalSearch(self._features, score, polish).run(origins)
        ranked: list[int] = np.argsort(-values, kind="stable").tolist()
        for params in [options[i] for i in ranked] + [pool[i] for i in leaders]:
            if self.claim(params):
                return params
        return next((params for params in pool if self.claim(params)), None)

    def _validity(self, succeeded: Array) -> Limit | None:
        """Where points are valid; None if none ever failed as `invalid`."""
        invalid = [params for params, failure in self.failed() if failure.kind == "invalid"]
        return validity_limit(succeeded, self._features.of(invalid[-_KEPT:])) if invalid else None

    def _pool(self, leaders: list[Params], rng: np.random.Generator) -> list[Params]:
        """New points to choose from: all over the cube, around the front, and between its points."""
        wide = throughout(len(self.space), self._candidates, rng)
        base, unordered, count = (
            self.space.encode_many(leaders),
            self._features.unordered,
            self._candidates // 2,
        )
        rows = [wide, around(base, count, unordered, rng), between(base, count, unordered, rng)]
        pool = [self.space.decode(row) for row in np.vstack(rows).tolist()]
        return [params for params in pool if self.is_new(params)]

    def _normals(self, count: int, models: int, rng: np.random.Generator) -> list[Array]:
        """Quasi-random standard normal numbers, ``count x s`` for each model."""
        scenarios = _SCENARIOS.get(len(self.objectives), 32)
        uniform = ScrambledSobol(min(count * models, MAX_DIMENSION), rng).rows(0, scenarios).T
        normals: Array = ndtri(np.clip(uniform, 1e-9, 1.0 - 1e-9))
        return list(normals.reshape(models, count, scenarios))


def _values(observation: Observation) -> dict[str, float]:
    return dict(observation.values or {})


def _level(model: Surrogate, raw: float) -> float:
    """Where a value is in the units of a model's posterior."""
    return float(model.warp(np.array([raw]))[0]) / model.fitted.scale


def _expected(posterior: Posterior, features: Array) -> Array:
    """What a model expects at ``n x f`` places, ``n`` numbers."""
    mean: Array = posterior.moments(features)[0][:, 0]
    return mean


def _chances(posteriors: list[Posterior], features: Array, levels: Array) -> Array:
    """The chance of each of ``n x f`` places to be better than ``m`` levels, NaN for those that do not matter."""
    chances = np.ones(len(features))
    for posterior, level in zip(posteriors, levels.tolist(), strict=True):
        if math.isfinite(level):
            mean, variance = posterior.moments(features)
            chances *= ndtr((level - mean[:, 0]) / np.sqrt(variance))
    return chances


def _some(losses: Array, feasible: Booleans, most: int) -> Integers:
    """Which of very many points are enough: the feasible ones nearest to the front, and others spread over the rest."""
    n = len(losses)
    if n <= most:
        return np.arange(n)
    rows = feasible.nonzero()[0] if feasible.any() else np.arange(n)
    best: list[int] = []
    for layer in layers(losses[rows]):
        if len(best) >= most // 2:
            break
        best += rows[layer[spread_out(losses[rows[layer]], most // 2 - len(best))]].tolist()
    rest = np.setdiff1d(np.arange(n), best)
    spread = np.linspace(0, len(rest) - 1, most - len(best)).round().astype(int)
    return np.sort(np.concatenate([best, rest[spread]]).astype(np.intp))
