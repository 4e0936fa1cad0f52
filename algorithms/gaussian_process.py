"""A Gaussian process as the Bayesian method needs it: fitted and evaluated with a few matrices.

An ask fits several models and evaluates the acquisition function some ten thousand times on few points at once,
where the bookkeeping of a tensor library costs more than the arithmetic. So all of it is NumPy, checked against
BoTorch in the tests.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import LinAlgError, cholesky, lapack, solve_triangular
from scipy.optimize import minimize

from algorithms.kernel import Array, Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_JITTER, _LEAST_NOISE = 1e-6, 1e-8
_FITTED_ON = 300  # hyperparameters hardly change with more points, and a fit costs their number cubed
_LENGTHS, _NOISES = (math.log(0.01), math.log(50.0)), (math.log(1e-7), math.log(2.0))
_LENGTH, _LENGTH_SPREAD = math.log(0.35), 0.8
_SCALE_SHAPE, _SCALE_RATE = 1.5, 0.5
_VARIANCE, _VARIANCE_SPREAD = math.log(9.0), 1.0  # a search's points vary less than the function does
_VARIANCES = (math.log(1e-3), math.log(1e4))
_ITERATIONS = 60
_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Assumptions:
    """What a model takes for granted before it sees an outcome.

    Attributes:
        smooth: squared exponential kernel rather than Matern-5/2.
        additive: see `Kernel`.
        even: one length scale for all features.
        noisy: a tenth of the variance is noise, or what no smooth function explains, rather than next to nothing.
    """

    smooth: bool = False
    additive: bool = False
    even: bool = False
    noisy: bool = False

    def kernel(self, lengthscales: Array) -> Kernel:
        """A kernel of this kind."""
        return Kernel(lengthscales, self.smooth, self.additive)

    def length(self, features: int) -> float:
        """The prior's median of the logarithm of a length scale.

        Distances in a cube grow with the root of its dimension, and with them what a kernel can tell apart. The prior
        is tighter than that of Hvarfner, Hellsten and Nardi (Vanilla Bayesian Optimization Performs Great in High
        Dimensions, ICML 2024): with some dozens of outcomes the latter lets most features fall away by chance.
        """
        return _LENGTH if self.additive else _LENGTH + 0.25 * math.log(features)

    @property
    def noise(self) -> tuple[float, float]:
        """The prior of the logarithm of the noise: mean and standard deviation."""
        return (math.log(0.1), 1.0) if self.noisy else (-9.0, 3.0)


@dataclass(frozen=True)
class Hyperparameters:
    """What a fit finds. All but `scale` is in units of the outcomes divided by it.

    Attributes:
        kernel: of unit variance.
        mean: the constant prior mean.
        noise: the variance of the noise on each outcome, ``n`` numbers.
        scale: the outcomes' standard deviation under the prior.
        evidence: the logarithm of the density of an outcome given all others, on average (Rasmussen and Williams,
            Gaussian Processes for Machine Learning, 2006, section 5.4.2); the logarithm of the density of all, priors
            included, divided by their number, where the scale was learnt beside known noise.
    """

    kernel: Kernel
    mean: float
    noise: Array
    scale: float = 1.0
    evidence: float = 0.0


def fit(
    features: Array,
    outcomes: Array,
    noise: Array | None = None,
    assumptions: Assumptions | None = None,
    *,
    starts: int = 2,
    scaled: bool = False,
) -> Hyperparameters:
    """Fits length scales, noise, mean and scale by maximum a posteriori, on a part of very many points.

    Mean and scale are found in closed form for each trial of the others (Santner, Williams and Notz, The Design and
    Analysis of Computer Experiments, 2003, section 3.3), which L-BFGS-B varies by their gradient. A scale beside
    known noise has no closed form: it is 1, or varied like the others.

    Args:
        features: ``n x f``, in the unit cube.
        outcomes: ``n``, standardized, to be minimised.
        noise: ``n`` variances where they are known, NaN where they are to be learnt.
        assumptions: default: none of them.
        starts: from how many places the search begins, 1 or 2.
        scaled: whether the scale is learnt where noise is known. Then models are compared by the density of all
            outcomes, that of one given all others being blurred by noise.
    """
    n = len(outcomes)
    chosen = some(outcomes, _FITTED_ON)
    known = None if noise is None else noise[chosen]
    density = _Density(features[chosen], outcomes[chosen], known, assumptions or Assumptions(), scaled=scaled)
    best = density.starts[0]
    if np.ptp(outcomes) > 0.0:
        found = [density.climb(start) for start in density.starts[:starts]]
        best = min(found, key=lambda each: each[0])[1]
    trial = density.at(best)
    spread = np.full(n, trial.noise)
    if noise is not None:
        spread = np.where(np.isnan(noise), trial.noise, noise / trial.scale**2)
    return Hyperparameters(density.kernel(best), trial.mean, spread, trial.scale, trial.foresight)


def some(outcomes: Array, most: int) -> NDArray[np.intp]:
    """Which of very many points are enough: half of `most` are the best ones, the others are spread over the rest."""
    n = len(outcomes)
    if n <= most:
        return np.arange(n)
    ranked = np.argsort(outcomes, kind="stable")
    best, rest = ranked[: most // 2], np.sort(ranked[most // 2 :])
    spread = np.linspace(0, len(rest) - 1, most - len(best)).round().astype(int)
    return np.sort(np.concatenate([best, rest[spread]]))


@dataclass(frozen=True)
class _Trial:
    """What a place in the space of hyperparameters is worth.

    Attributes:
        value: the negative logarithm of the density, less a constant.
        gradient: its derivatives.
        mean: the best one, in units of `scale`.
        scale: the best one.
        noise: its variance in units of the scale's square.
        foresight: see `Hyperparameters.evidence`.
    """

    value: float
    gradient: Array
    mean: float = 0.0
    scale: float = 1.0
    noise: float = 0.0
    foresight: float = -math.inf


class _Density:
    """The posterior density of the logarithms of length scales, noise and variance, given outcomes.

    The noise is a variable if it is not known of every outcome, the variance on demand if it is known of any.

    Args:
        x: features, ``n x f``.
        y: outcomes, ``n``.
        noise: known variances, ``n``, NaN where they are not.
        assumptions: of the model.
        scaled: whether the variance is learnt beside known noise rather than 1.
    """

    def __init__(
        self, x: Array, y: Array, noise: Array | None, assumptions: Assumptions, *, scaled: bool = False
    ) -> None:
        self._x, self._y, self._noise, self._assumed = x, y, noise, assumptions
        f = x.shape[1]
        self._scales = 1 if assumptions.even else f
        self._length = assumptions.length(f)
        levels = [math.log(0.2)] * 2 if assumptions.noisy else [-7.0, -4.5]
        self._learnt: NDArray[np.bool_] = np.ones(len(y), dtype=bool) if noise is None else np.isnan(noise)
        self._given = np.zeros(len(y)) if noise is None else np.where(self._learnt, 0.0, noise)
        self._noisy, self._scaled = int(self._learnt.any()), int(scaled and noise is not None)
        self.starts = [
            np.array([*[self._length + shift] * self._scales, *[level] * self._noisy, *[0.0] * self._scaled])
            for shift, level in zip((0.35, -0.35), levels, strict=True)
        ]
        self._bounds = [_LENGTHS] * self._scales + [_NOISES] * self._noisy + [_VARIANCES] * self._scaled

    def kernel(self, t: Array) -> Kernel:
        """The kernel at a place."""
        lengthscales = np.exp(np.broadcast_to(t[: self._scales], self._x.shape[1]))
        return self._assumed.kernel(np.array(lengthscales))

    def climb(self, start: Array) -> tuple[float, Array]:
        """The lowest value from a start, and where it is."""

        def value(t: Array) -> tuple[float, Array]:
            trial = self.at(t)
            return trial.value, trial.gradient

        options = {"maxiter": _ITERATIONS}
        found = minimize(value, start, jac=True, method="L-BFGS-B", bounds=self._bounds, options=options)
        return float(found.fun), found.x

    def at(self, t: Array) -> _Trial:
        """What a place is worth."""
        y, n = self._y, len(self._y)
        kernel = self.kernel(t)
        ratio = math.exp(t[self._scales]) if self._noisy else 0.0
        given = self._given * math.exp(-t[-1]) if self._scaled else self._given
        covariance = kernel(self._x, self._x)
        covariance.flat[:: n + 1] += _LEAST_NOISE + given + ratio * self._learnt
        root, failed = lapack.dpotrf(covariance, lower=1, clean=0)
        if failed:
            return _Trial(1e10, np.zeros_like(t))
        half, _ = lapack.dpotri(root, lower=1)
        inverse = np.tril(half) + np.tril(half, -1).T
        column = inverse.sum(1)
        mean = float(column @ y / (column.sum() + 1e-12))
        weights = inverse @ (y - mean)
        fitted = float((y - mean) @ weights)
        if self._scaled:
            variance = math.exp(t[-1])
            value = 0.5 * n * float(t[-1]) + 0.5 * fitted / variance
        elif self._noise is not None:
            variance, value = 1.0, 0.5 * fitted
        else:  # an inverse gamma prior of the variance keeps few points from a wild scale
            mass = n + 2.0 * _SCALE_SHAPE
            variance = (fitted + 2.0 * _SCALE_RATE) / mass
            value = 0.5 * mass * math.log(variance)
        value += float(np.log(root.diagonal()).sum())
        pull = 0.5 * (inverse - np.outer(weights, weights) / variance)  # the derivative by each covariance
        penalty, gradient = self._prior(t)
        stretched = kernel.stretch(self._x, pull)
        gradient[: self._scales] += stretched if self._scales > 1 else stretched.sum()
        if self._noisy:
            gradient[self._scales] += ratio * float(pull.diagonal()[self._learnt].sum())
        if self._scaled:
            gradient[-1] += 0.5 * n - 0.5 * fitted / variance - float(pull.diagonal() @ given)
        alone = variance / inverse.diagonal()
        foresight = -0.5 * float(
            ((weights / inverse.diagonal()) ** 2 / alone + np.log(alone) + _LOG_2PI).mean()
        )
        if self._scaled:
            foresight = -(value + penalty) / n - 0.5 * _LOG_2PI
        scale = math.sqrt(variance)
        return _Trial(value + penalty, gradient, mean / scale, scale, ratio, foresight)

    def _prior(self, t: Array) -> tuple[float, Array]:
        """What the priors add to the value, and its derivatives."""
        gradient = np.zeros_like(t)
        away = (t[: self._scales] - self._length) / _LENGTH_SPREAD
        penalty = 0.5 * float(away @ away)
        gradient[: self._scales] = away / _LENGTH_SPREAD
        if self._noisy:
            centre, spread = self._assumed.noise
            apart = (t[self._scales] - centre) / spread
            penalty += 0.5 * float(apart**2)
            gradient[self._scales] = apart / spread
        if self._scaled:
            apart = (t[-1] - _VARIANCE) / _VARIANCE_SPREAD
            penalty += 0.5 * float(apart**2)
            gradient[-1] = apart / _VARIANCE_SPREAD
        return penalty, gradient


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keeps the arithmetic on one core.

    Matrices of a few hundred rows gain little from threads, and lose tenfold where the other cores are busy:
    every small product then waits for a thread that has no core.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):
            from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

            stack.enter_context(threadpool_limits(1))
        yield


class Posterior:
    """The process given outcomes, on which further noise-free values can be imagined one by one.

    ``s`` scenarios differ in the values imagined and share the places: the covariance is one for all.

    Args:
        hyperparameters: from `fit`.
        features: ``n x f``.
        outcomes: ``n``; all values from here on are in units of the fit's `scale`.

    Attributes:
        noise: the variance of the noise on an outcome, on average; that of the process is 1.
    """

    def __init__(self, hyperparameters: Hyperparameters, features: Array, outcomes: Array) -> None:
        self.kernel = hyperparameters.kernel
        self.prior_mean = hyperparameters.mean
        self.places = features
        self.residuals = (outcomes / hyperparameters.scale - self.prior_mean)[:, None]
        gram = self.kernel(features, features)
        self.noise = float(hyperparameters.noise.mean())
        self.inverse_root = _inverse_root(gram + np.diag(hyperparameters.noise), _LEAST_NOISE)
        self._weigh()

    def _weigh(self) -> None:
        self.weights = self.inverse_root.T @ (self.inverse_root @ self.residuals)

    def moments(self, at: Array) -> tuple[Array, Array]:
        """Means ``m x s`` and variances ``m`` of the noise-free function at ``m x f`` places."""
        k = self.kernel(at, self.places)
        root = k @ self.inverse_root.T
        return self.prior_mean + k @ self.weights, np.maximum(1.0 - (root * root).sum(1), 1e-12)

    def explained(self, at: Array) -> Array:
        """Whitened covariances of ``m x f`` places with all that is given, ``m x (n + imagined)``.

        The covariance of two places given the outcomes is their kernel less the product of their rows.
        """
        root: Array = self.kernel(at, self.places) @ self.inverse_root.T
        return root

    def sample(self, at: Array, normals: Array) -> Array:
        """Joint draws at ``m x f`` places from ``m x s`` standard normal numbers (one scenario so far)."""
        mean, _ = self.moments(at)
        rows = self.explained(at)
        return mean + _root(self.kernel(at, at) - rows @ rows.T) @ normals

    def imagine(self, at: Array, values: Array) -> None:
        """Takes ``m x s`` values at ``m x f`` places for granted, `s` scenarios at once."""
        cross = self.explained(at)
        corner = _inverse_root(self.kernel(at, at) - cross @ cross.T + _JITTER * np.eye(len(at)))
        below = -corner @ cross @ self.inverse_root
        n, m = len(self.places), len(at)
        grown = np.zeros((n + m, n + m))
        grown[:n, :n], grown[n:, :n], grown[n:, n:] = self.inverse_root, below, corner
        self.inverse_root = grown
        self.places = np.vstack([self.places, at])
        old = np.broadcast_to(self.residuals, (n, values.shape[1]))
        self.residuals = np.vstack([old, values - self.prior_mean])
        self._weigh()


def _root(matrix: Array, jitter: float = _JITTER) -> Array:
    """The lower Cholesky root, with as much added to the diagonal as it takes."""
    while True:
        try:
            root: Array = cholesky(matrix + jitter * np.eye(len(matrix)), lower=True, check_finite=False)
        except LinAlgError:
            jitter *= 10.0
            if not math.isfinite(jitter) or jitter > 1e3:
                raise
        else:
            return root


def _inverse_root(matrix: Array, jitter: float = _JITTER) -> Array:
    root = _root(matrix, jitter)
    inverse: Array = solve_triangular(root, np.eye(len(root)), lower=True, check_finite=False)
    return inverse
