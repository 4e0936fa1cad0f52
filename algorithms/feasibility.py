"""How likely points are to be feasible: valid, and within the outcome constraints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr, ndtr

from algorithms.gaussian_process import Posterior, fit
from algorithms.outlook import Outlook
from algorithms.surrogate import bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from algorithms.kernel import Array
    from hpo_steer.algorithm import Observation
    from hpo_steer.outcomes import OutcomeConstraint

_LOG_ROOT_2PI = float(0.5 * np.log(2.0 * np.pi))
_NOISY = 1e-3
"""The share of noise in a constraint's variance from which its observed values are not taken at their word."""
_SUREST = 1e-6
"""No variance is taken to be smaller: chances that fall from one to nothing within a hair stop every climb."""
HOPELESS = float(np.log(0.2))


@dataclass(frozen=True)
class Limit:
    """A quantity that has to stay below a bound.

    Attributes:
        posterior: its process, given the outcomes.
        bound: in the process's own units.
        noisy: whether outcomes on the right side of the bound may lie there by chance.
    """

    posterior: Posterior
    bound: float
    noisy: bool = False

    def chance(self, at: Array) -> Array:
        """The probability that the bound is kept, ``m`` numbers; for a process without scenarios."""
        mean, variance = self.posterior.moments(at)
        found: Array = ndtr((self.bound - mean[:, 0]) / np.sqrt(np.maximum(variance, _SUREST)))
        return found


def outcome_limit(features: Array, slacks: Array, noise: Array | None = None) -> Limit:
    """The limit of an outcome constraint.

    Args:
        features: ``n x f``, in the unit cube.
        slacks: how far inside the bound each outcome was, ``n``; what is not finite counts as the worst of all.
        noise: ``n`` variances, NaN where they are unknown.
    """
    finite = np.isfinite(slacks)
    worst = min(float(slacks[finite].min()), 0.0) if finite.any() else -1.0
    surrogate, bound = bounded(features, -np.where(finite, slacks, worst), noise)
    noisy = bool(np.median(surrogate.fitted.noise) > _NOISY)
    return Limit(surrogate.posterior(), bound / surrogate.fitted.scale, noisy)


def validity_limit(succeeded: Array, invalid: Array) -> Limit:
    """The limit of a quantity that is -1 where points succeeded and 1 where they were invalid, with its bound at 0.

    Args:
        succeeded: features of points with values, ``n x f``.
        invalid: of the others, ``m x f``.
    """
    at = np.vstack([succeeded, invalid])
    labels = np.repeat([-1.0, 1.0], [len(succeeded), len(at) - len(succeeded)])
    return Limit(Posterior(fit(at, labels), at, labels), 0.0)


def slacks_of(constraints: Sequence[OutcomeConstraint], observations: Sequence[Observation]) -> Array:
    """How far inside each constraint's bound the outcomes are, ``n x c``; NaN where the metric is missing."""
    found = np.full((len(observations), len(constraints)), np.nan)
    for i, observation in enumerate(observations):
        values = observation.values or {}
        for j, constraint in enumerate(constraints):
            if constraint.metric in values:
                found[i, j] = constraint.slack(values)
    return found


def variances(observations: Sequence[Observation], metric: str) -> Array | None:
    """The squared standard errors of a metric, NaN where they are unknown; None if all are."""
    sems = [(o.sem or {}).get(metric) for o in observations]
    if all(sem is None for sem in sems):
        return None
    return np.array([np.nan if sem is None else sem**2 for sem in sems], dtype=np.float64)


def with_violations(outcomes: Array, slacks: Array) -> Array:
    """Outcomes for a ranking in which what breaks a constraint comes last, and the worse the further it is outside.

    Args:
        outcomes: ``n``.
        slacks: ``n x c``, NaN where nothing is known, which is worse than all else.
    """
    broken = ~(slacks >= 0.0)
    if not broken.any():
        return outcomes
    known = np.where(np.isfinite(slacks), np.maximum(-slacks, 0.0), np.nan)
    spread = np.nanmax(np.vstack([known, np.zeros(slacks.shape[1])]), axis=0)
    violation = np.where(np.isnan(known), 2.0, known / np.where(spread > 0.0, spread, 1.0)).sum(1)
    span = float(np.ptp(outcomes)) or 1.0
    return np.where(broken.any(1), outcomes.max() + span * (1.0 + violation), outcomes)


def keeping(slacks: Array, limits: Sequence[Limit], features: Array) -> NDArray[np.bool_]:
    """Which points keep all outcome constraints: by what was observed, or by the models where that is noisy.

    Args:
        slacks: of the points, ``n x c``.
        limits: the first `c` of them are those of the outcome constraints.
        features: of the points, ``n x f``.
    """
    kept = np.ones(len(slacks), dtype=bool)
    for limit, column in zip(limits, slacks.T, strict=False):
        kept &= limit.chance(features) > 0.5 if limit.noisy else column >= 0.0
    return kept


def leading(
    mean: Array, slacks: Array, limits: Sequence[Limit], features: Array, most: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The incumbents: the feasible points of the lowest expected value, or those nearest to feasible if none is.

    Args:
        mean: expected values of the points with values, ``n``.
        slacks: of theirs, ``n x c``.
        limits: the first `c` of them are those of the outcome constraints.
        features: of the points, ``n x f``.
        most: how many at most.

    Returns:
        Their numbers, and for each whether it is feasible.
    """
    kept = keeping(slacks, limits, features)
    if kept.any():
        ranked = np.argsort(np.where(kept, mean, np.inf), kind="stable")[: min(most, int(kept.sum()))]
    else:
        ranked = np.argsort(with_violations(mean, slacks), kind="stable")[:most]
    return ranked, kept[ranked]


class Feasibility:
    """The chance that places keep all limits, in each scenario of what pending points may bring.

    Limits are modelled independently (Gardner et al., Bayesian Optimization with Inequality Constraints, ICML
    2014), and like the objective's, their values at incumbents and pending points are imagined in scenarios (Letham
    et al., Constrained Bayesian Optimization with Noisy Experiments, Bayesian Analysis 14, 2019): what is feasible
    there differs from scenario to scenario.

    Args:
        limits: one or several; scenarios are imagined on their processes from here on.
        features: of the candidates, ``m x f``.
        places: incumbents and pending points, ``p x f``.
        kept: which of the places are incumbents that kept every limit, ``p`` booleans.
        normals: for each limit ``p x s`` standard normal numbers.

    Attributes:
        held: whether each place keeps all limits in each scenario, ``p x s``.
        logs: the logarithm of each candidate's chance in each scenario, ``m x s``.
    """

    def __init__(
        self,
        limits: Sequence[Limit],
        features: Array,
        places: Array,
        kept: NDArray[np.bool_],
        normals: Sequence[Array],
    ) -> None:
        self._limits = tuple(limits)
        self._outlooks: list[Outlook] = []
        self.held: NDArray[np.bool_] = np.ones((len(places), normals[0].shape[1]), dtype=bool)
        for limit, numbers in zip(limits, normals, strict=True):
            values = limit.posterior.sample(places, numbers)
            self.held &= (values <= limit.bound) | (kept[:, None] & (not limit.noisy))
            limit.posterior.imagine(places, values)
            self._outlooks.append(Outlook(limit.posterior, features))
        self.logs: Array = self._of_candidates()
        overall = self._overall(self.logs)
        self._least = min(HOPELESS, float(overall.max(initial=-np.inf)) + HOPELESS)

    @property
    def hopeless(self) -> NDArray[np.bool_]:
        """Which candidates are improbable to be feasible, ``m`` booleans."""
        return self._overall(self.logs) < self._least

    def log_chances(self, at: Array) -> Array:
        """The logarithm of the chance at ``m x f`` places in each scenario, ``m x s``."""
        found: Array = np.sum(
            [self._log_chance(limit, *limit.posterior.moments(at)) for limit in self._limits], axis=0
        )
        return found

    def discouraged(self, logs: Array) -> Array:
        """What to add to the value of places with these chances (``m x s``): very little hope is none.

        Late in a batch all improvements are tiny, and hopeless places would win by their improvement alone.
        """
        return np.where(self._overall(logs) < self._least, -1e6, 0.0)

    def encouraged(self, at: Array) -> Array:
        """The logarithm of the chance at ``m x f`` places, and next to no value where there is very little hope."""
        logs = self.log_chances(at)
        return self._overall(logs) + self.discouraged(logs)

    def slope(self, at: Array) -> tuple[Array, Callable[[Array], Array]]:
        """`log_chances`, and a function from weights ``m x s`` to the gradient of their weighted sum, ``m x f``."""
        parts = [_slope(limit, at) for limit in self._limits]

        def pull(weights: Array) -> Array:
            gradient: Array = np.sum([part(weights) for _, part in parts], axis=0)
            return gradient

        return np.sum([logs for logs, _ in parts], axis=0), pull

    def take(self, at: Array, normals: Sequence[Array]) -> NDArray[np.bool_]:
        """Imagines one more pending point (``1 x f``): whether it keeps all limits in each scenario."""
        held = np.ones(self.held.shape[1], dtype=bool)
        for limit, outlook, numbers in zip(self._limits, self._outlooks, normals, strict=True):
            held &= outlook.take(at, numbers) <= limit.bound
        self.logs = self._of_candidates()
        return held

    def _of_candidates(self) -> Array:
        pairs = zip(self._limits, self._outlooks, strict=True)
        logs = [self._log_chance(limit, each.mean, each.variance) for limit, each in pairs]
        found: Array = np.sum(logs, axis=0)
        return found

    @staticmethod
    def _log_chance(limit: Limit, mean: Array, variance: Array) -> Array:
        found: Array = log_ndtr((limit.bound - mean) / np.sqrt(np.maximum(variance, _SUREST))[:, None])
        return found

    @staticmethod
    def _overall(logs: Array) -> Array:
        top = logs.max(1, keepdims=True)
        overall: Array = top[:, 0] + np.log(np.exp(logs - top).mean(1))
        return overall


def _slope(limit: Limit, at: Array) -> tuple[Array, Callable[[Array], Array]]:
    """The logarithm of the chance to keep one limit, and its gradient as in `Feasibility.slope`."""
    posterior = limit.posterior
    k = posterior.kernel(at, posterior.places)
    root = k @ posterior.inverse_root.T
    variance = 1.0 - (root * root).sum(1)[:, None]
    sigma = np.sqrt(np.maximum(variance, _SUREST))
    u = (limit.bound - posterior.prior_mean - k @ posterior.weights) / sigma
    logs = log_ndtr(u)

    def pull(weights: Array) -> Array:
        by_u = weights * np.exp(-0.5 * u * u - _LOG_ROOT_2PI - logs)
        by_sigma = -(by_u * u).sum(1, keepdims=True) / sigma * (variance > _SUREST)
        by_k = (-by_u / sigma) @ posterior.weights.T - (by_sigma / sigma) * (root @ posterior.inverse_root)
        return posterior.kernel.pull(at, posterior.places, by_k)

    return logs, pull
