"""Noisy expected improvement in logarithms, with its gradient, and its maximisation in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize
from scipy.special import erfcx, log_ndtr, ndtr

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from algorithms.feasibility import Feasibility
    from algorithms.gaussian_process import Posterior
    from algorithms.kernel import Array

_LOG_ROOT_2PI = float(0.5 * np.log(2.0 * np.pi))
_ROOT_HALF_PI = float(np.sqrt(0.5 * np.pi))
_ROOT_HALF = float(np.sqrt(0.5))


def log_improvement(u: Array) -> Array:
    """``log h(u)`` for ``h(u) = phi(u) + u Phi(u)``, stable for all `u`.

    Section 4.1 of Ament et al., Unexpected Improvements to Expected Improvement for Bayesian Optimization,
    NeurIPS 2023.
    """
    # Below -1: h = phi * (1 - |u| R) with Mills' ratio R = Phi/phi; for |u| beyond 1e3 by its series, 1/u^2.
    low = np.minimum(u, -1.0)
    ratio = _ROOT_HALF_PI * erfcx(low * -_ROOT_HALF)
    rest = np.where(low < -1e3, 1.0 / (low * low), 1.0 + low * ratio)
    high = np.maximum(u, -1.0)
    direct = np.log(np.exp(-0.5 * high * high - _LOG_ROOT_2PI) + high * ndtr(high))
    log_h: Array = np.where(u < -1.0, np.log(np.maximum(rest, 1e-300)) - 0.5 * u * u - _LOG_ROOT_2PI, direct)
    return log_h


def log_nei(posterior: Posterior, best: Array, at: Array, feasibility: Feasibility | None = None) -> Array:
    """Log of the noisy expected improvement at ``m x f`` places: ``m`` numbers.

    The expectation over the function's values at the incumbents and at pending points is taken over `s`
    scenarios; given these, the improvement at a further place is known in closed form. Letham et al.,
    Constrained Bayesian Optimization with Noisy Experiments, Bayesian Analysis 14 (2019).

    Args:
        posterior: with the scenarios imagined.
        best: the lowest value in each scenario, ``s`` numbers.
        at: places.
        feasibility: weighs the improvement in each scenario.
    """
    mean, variance = posterior.moments(at)
    return log_nei_of(mean, variance, best, None if feasibility is None else feasibility.log_chances(at))


def log_nei_of(mean: Array, variance: Array, best: Array, log_chances: Array | None = None) -> Array:
    """As `log_nei`, from means ``m x s``, variances ``m`` and logarithms of chances to be feasible ``m x s``."""
    sigma = np.sqrt(variance)[:, None]
    log_h = log_improvement((best - mean) / sigma)
    value: Array = _log_mean(log_h if log_chances is None else log_h + log_chances)[0] + np.log(sigma[:, 0])
    return value


def log_nei_slope(
    posterior: Posterior, best: Array, at: Array, feasibility: Feasibility | None = None
) -> tuple[Array, Array]:
    """`log_nei` and its gradient, ``m`` and ``m x f`` numbers."""
    kernel = posterior.kernel
    k = kernel(at, posterior.places)
    root = k @ posterior.inverse_root.T
    sigma = np.sqrt(np.maximum(1.0 - (root * root).sum(1), 1e-12))[:, None]
    mean = posterior.prior_mean + k @ posterior.weights
    u = (best - mean) / sigma
    log_h = log_improvement(u)
    logs, pull = (0.0, None) if feasibility is None else feasibility.slope(at)
    value, share = _log_mean(log_h + logs)
    value += np.log(sigma[:, 0])
    # With log h = log(phi + u Phi): its derivative by the mean is -Phi/(h sigma), by sigma phi/(h sigma).
    by_mean = -share * np.exp(log_ndtr(u) - log_h) / sigma
    by_sigma = (share * np.exp(-0.5 * u * u - _LOG_ROOT_2PI - log_h)).sum(1, keepdims=True) / sigma
    by_k = by_mean @ posterior.weights.T - (by_sigma / sigma) * (root @ posterior.inverse_root)
    gradient = kernel.pull(at, posterior.places, by_k)
    return value, gradient if pull is None else gradient + pull(share)


def _log_mean(logs: Array) -> tuple[Array, Array]:
    """The logarithm of each row's mean, and every entry's share in it."""
    top = logs.max(1, keepdims=True)
    parts = np.exp(logs - top)
    total = parts.sum(1, keepdims=True)
    return (top + np.log(total / logs.shape[1]))[:, 0], parts / total


def climb(
    posterior: Posterior,
    best: Array,
    starts: Array,
    free: NDArray[np.bool_],
    steps: int,
    feasibility: Feasibility | None = None,
) -> Array:
    """Ascends `log_nei` from several starts at once, within the unit cube, by L-BFGS-B.

    Args:
        posterior: with the scenarios imagined.
        best: the lowest value in each scenario, ``s`` numbers.
        starts: ``m x f`` places.
        free: which features of each start may move, ``m x f`` booleans.
        steps: iterations at most.
        feasibility: weighs the improvement.

    Returns:
        ``m x f`` places.
    """

    def value(at: Array) -> tuple[float, Array]:
        found, gradient = log_nei_slope(posterior, best, at, feasibility)
        return -float(found.sum()), -gradient

    return minimized(value, starts, free, {"maxiter": steps, "maxfun": 2 * steps})


def descend(
    posterior: Posterior,
    starts: Array,
    free: NDArray[np.bool_],
    steps: int,
    feasibility: Feasibility | None = None,
) -> Array:
    """Descends the mean, less the logarithm of the chance, from several starts at once; otherwise as `climb`."""
    kernel, weights = posterior.kernel, posterior.weights[:, 0]

    def value(at: Array) -> tuple[float, Array]:
        k = kernel(at, posterior.places)
        found = float((k @ weights).sum())
        gradient = kernel.pull(at, posterior.places, np.broadcast_to(weights, k.shape))
        if feasibility is None:
            return found, gradient
        logs, pull = feasibility.slope(at)
        mean, share = _log_mean(logs)
        return found - float(mean.sum()), gradient - pull(share)

    return minimized(value, starts, free, {"maxiter": steps, "ftol": 1e-14, "gtol": 1e-9})


def minimized(
    value: Callable[[Array], tuple[float, Array]],
    starts: Array,
    free: NDArray[np.bool_],
    options: dict[str, float],
) -> Array:
    """Lowers the sum of a function over all places within the unit cube, by L-BFGS-B.

    Args:
        value: the sum, and its gradient at ``m x f`` places.
        starts: ``m x f`` places.
        free: which features of each may move, ``m x f`` booleans.
        options: of SciPy's method.
    """
    if not free.any():
        return starts
    moving = free.nonzero()

    def moved(x: Array) -> tuple[float, Array]:
        at = starts.copy()
        at[moving] = x
        total, gradient = value(at)
        return total, gradient[moving]

    bounds = [(0.0, 1.0)] * len(moving[0])
    found = minimize(moved, starts[moving], jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    ends = starts.copy()
    ends[moving] = np.clip(found.x, 0.0, 1.0)
    return ends
