"""A Gaussian process as the Bayesian method needs it: fitted and evaluated with a few matrices.

An ask fits several models and evaluates the acquisition function some ten thousand times on few points at once, where
the bookkeeping of a tensor library costs more than the arithmetic. So all of it is NumPy, checked against BoTorch in the
tests.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, lapack, solve_triangular
from scipy.optimize import minimize

if TYPE_CHECKING:
    from collections.abc import Iterator

Array: TypeAlias = NDArray[np.float64]

_JITTER, _LEAST_NOISE = 1e-6, 1e-8
_FITTED_ON = 300  # hyperparameters hardly change with more points, and a fit costs their number cubed
_LENGTHS, _NOISES = (math.log(0.01), math.log(50.0)), (math.log(1e-7), math.log(2.0))
_NOISE_CENTRE, _NOISE_WIDTH = -9.0, 3.0
_SCALE_SHAPE, _SCALE_RATE = 1.5, 0.5
_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Kernel:
    """A Matern-5/2 or squared exponential kernel of unit variance with a length scale for each feature.

    Attributes:
        lengthscales: ``f`` numbers.
        smooth: squared exponential if true, else Matern-5/2.
        additive: the mean of a kernel for each feature alone rather than one of all together: for functions that are
            sums of functions of one parameter (Duvenaud, Nickisch and Rasmussen, Additive Gaussian Processes, NIPS 2011).
    """

    lengthscales: Array
    smooth: bool = False
    additive: bool = False

    def __call__(self, a: Array, b: Array) -> Array:
        """Covariances of the rows of `a` (``n x f``) with those of `b` (``m x f``): ``n x m``."""
        if not self.additive:
            return self._of(_squares(a / self.lengthscales, b / self.lengthscales))[0]
        k = np.zeros((len(a), len(b)))
        for j, scale in enumerate(self.lengthscales):
            k += self._of(((a[:, j, None] - b[:, j]) / scale) ** 2)[0]
        return k / len(self.lengthscales)

    def pull(self, a: Array, b: Array, weights: Array) -> Array:
        """The gradient by `a` of the sum of ``weights * k(a, b)`` (``n x m`` each): ``n x f``."""
        squares = self.lengthscales**2
        if not self.additive:
            pull = 2.0 * weights * self._of(_squares(a / self.lengthscales, b / self.lengthscales))[1]
            gradient: Array = (a * pull.sum(1, keepdims=True) - pull @ b) / squares
            return gradient
        gradient = np.empty_like(a)
        for j, scale in enumerate(self.lengthscales):
            apart = (a[:, j, None] - b[:, j]) / scale
            gradient[:, j] = 2.0 * (weights * self._of(apart**2)[1] * apart).sum(1) / scale
        return gradient / len(squares)

    def stretch(self, x: Array, weights: Array) -> Array:
        """The derivative by each log length scale of the sum of ``weights * k(x, x)``: ``f`` numbers."""
        if not self.additive:
            z = x / self.lengthscales
            by_square = weights * self._of(_squares(z, z))[1]
            moved: Array = 2.0 * (by_square.sum(1) @ (z * z)) - 2.0 * (z * (by_square @ z)).sum(0)
            return -2.0 * moved
        found = np.empty(len(self.lengthscales))
        for j, scale in enumerate(self.lengthscales):
            square = ((x[:, j, None] - x[:, j]) / scale) ** 2
            found[j] = -2.0 * (weights * self._of(square)[1] * square).sum()
        return found / len(found)

    def _of(self, square: Array) -> tuple[Array, Array]:
        """Covariances for squared scaled distances, and their derivatives by them."""
        if self.smooth:
            k = np.exp(-0.5 * square)
            return k, -0.5 * k
        root = np.sqrt(5.0 * square)
        decay = np.exp(-root)
        return (1.0 + root + root * root / 3.0) * decay, (-5.0 / 6.0) * (1.0 + root) * decay


def _squares(a: Array, b: Array) -> Array:
    """Squared distances of the rows of two arrays."""
    found: Array = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2.0 * (a @ b.T), 0.0)
    return found


@dataclass(frozen=True)
class Hyperparameters:
    """What a fit finds. All but `scale` is in units of the outcomes divided by it.

    Attributes:
        kernel: of unit variance.
        mean: the constant prior mean.
        noise: the variance of the noise on each outcome, ``n`` numbers.
        scale: the outcomes' standard deviation under the prior.
        evidence: the logarithm of the density of each outcome given all others, summed (Rasmussen and Williams,
            Gaussian Processes for Machine Learning, 2006, section 5.4.2).
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
    *,
    smooth: bool = False,
    even: bool = False,
    short: bool = False,
    additive: bool = False,
    starts: int = 2,
) -> Hyperparameters:
    """Fits length scales, noise, mean and scale by maximum a posteriori, on a part of very many points.

    Mean and scale are found in closed form for each trial of the others (Santner, Williams and Notz, The Design and
    Analysis of Computer Experiments, 2003, section 3.3), which L-BFGS-B varies by their gradient. The prior of the
    length scales grows with the dimension (Hvarfner, Hellsten and Nardi, Vanilla Bayesian Optimization Performs Great
    in High Dimensions, ICML 2024).

    Args:
        features: ``n x f``, in the unit cube.
        outcomes: ``n``, standardized, to be minimised.
        noise: ``n`` variances where they are known.
        smooth: squared exponential kernel rather than Matern-5/2.
        even: one length scale for all features.
        short: a prior of length scales around a third of the cube, whatever the dimension.
        starts: from how many places the search begins.
    """
    n, f = features.shape
    chosen = some(outcomes, _FITTED_ON)
    density = _Density(
        features[chosen],
        outcomes[chosen],
        None if noise is None else noise[chosen],
        smooth=smooth,
        even=even,
        short=short,
        additive=additive,
    )
    best = density.starts[0]
    if np.ptp(outcomes) > 0.0:
        found = [density.climb(start) for start in density.starts[:starts]]
        best = min(found, key=lambda each: each[0])[1]
    _, _, mean, scale, ratio = density.at(best)
    spread = np.full(n, ratio) if noise is None else noise / scale**2
    return Hyperparameters(Kernel(density.lengths(best), smooth, additive), mean, spread, scale, density.foresight)


def some(outcomes: Array, most: int) -> NDArray[np.intp]:
    """Half of `most` points are the best ones, the others are spread over the rest in their order."""
    n = len(outcomes)
    if n <= most:
        return np.arange(n)
    ranked = np.argsort(outcomes, kind="stable")
    best, rest = ranked[: most // 2], np.sort(ranked[most // 2 :])
    spread = np.linspace(0, len(rest) - 1, most - len(best)).round().astype(int)
    return np.sort(np.concatenate([best, rest[spread]]))


class _Density:
    """The posterior density of log length scales (``f``) and log noise, given outcomes.

    Args:
        x: features, ``n x f``.
        y: outcomes, ``n``.
        noise: known variances, ``n``; then scale is 1 and the noise is no variable.
        smooth: as in `Kernel`.
    """

    def __init__(
        self, x: Array, y: Array, noise: Array | None, *, smooth: bool, even: bool = False, short: bool = False, additive: bool = False
    ) -> None:
        self._additive = additive
        self._x, self._y, self._noise, self._smooth = x, y, noise, smooth
        self.foresight = 0.0
        f = 1 if even else x.shape[1]
        self._scales = f
        dimension = x.shape[1]
        self._centre, self._width = math.sqrt(2.0) + 0.5 * math.log(dimension), math.sqrt(3.0)
        if additive:
            self._centre, self._width, middle = math.log(0.35), 0.7, math.log(0.35)
        elif short:
            self._centre, self._width = math.log(0.35) + 0.25 * math.log(dimension), 0.7
        if not additive:
            middle = math.log(0.5) + 0.25 * math.log(dimension)
        self.starts = [np.array([*[log_scale] * f, log_noise])[: f + (noise is None)]
                       for log_scale, log_noise in ((middle, -7.0), (self._centre - 1.0, -4.5))]  # fmt: skip
        self._bounds = [_LENGTHS] * f + [_NOISES] * (noise is None)

    def lengths(self, t: Array) -> Array:
        """The length scale of each feature."""
        return np.exp(np.broadcast_to(t[: self._scales], self._x.shape[1])).copy()

    def climb(self, start: Array) -> tuple[float, Array]:
        """The least negative log density from a start, and where it is."""
        found = minimize(
            lambda t: self.at(t)[:2], start, jac=True, method="L-BFGS-B", bounds=self._bounds,
            options={"maxiter": 60},
        )  # fmt: skip
        return float(found.fun), found.x

    def at(self, t: Array) -> tuple[float, Array, float, float, float]:
        """The negative log density, its gradient, and the best mean, scale and noise there."""
        x, y, f = self._x, self._y, self._scales
        n = len(y)
        ratio = math.exp(t[f]) if self._noise is None else 0.0
        kernel = Kernel(self.lengths(t), self._smooth, self._additive)
        k = kernel(x, x)
        k.flat[:: n + 1] += ratio + _LEAST_NOISE
        if self._noise is not None:
            k.flat[:: n + 1] += self._noise
        root, failed = lapack.dpotrf(k, lower=1, clean=0)
        if failed:
            return 1e10, np.zeros_like(t), 0.0, 1.0, ratio
        half, _ = lapack.dpotri(root, lower=1)
        inverse = np.tril(half) + np.tril(half, -1).T
        column = inverse.sum(1)
        mean = float(column @ y / (column.sum() + 1e-12))
        weights = inverse @ (y - mean)
        fitted = float((y - mean) @ weights)
        if self._noise is None:  # an inverse gamma prior of the variance keeps few points from a wild scale
            mass = n + 2.0 * _SCALE_SHAPE
            variance = (fitted + 2.0 * _SCALE_RATE) / mass
            value = 0.5 * mass * math.log(variance)
        else:
            variance, value = 1.0, 0.5 * fitted
        value += float(np.log(root.diagonal()).sum()) + 0.5 * n * _LOG_2PI
        alone = inverse.diagonal()
        self.foresight = -0.5 * float(
            (weights**2 / (alone * variance) - np.log(alone) + math.log(variance) + _LOG_2PI).sum()
        )
        pull = 0.5 * (inverse - np.outer(weights, weights) / variance)  # by the entries of k
        gradient = np.zeros_like(t)
        stretched = kernel.stretch(x, pull)
        gradient[:f] = stretched if f > 1 else stretched.sum()
        away = (t[:f] - self._centre) / self._width
        value += 0.5 * float(away @ away)
        gradient[:f] += away / self._width
        if self._noise is None:
            away_noise = (t[f] - _NOISE_CENTRE) / _NOISE_WIDTH
            value += 0.5 * away_noise**2
            gradient[f] = ratio * float(pull.trace()) + away_noise / _NOISE_WIDTH
        return value, gradient, mean / math.sqrt(variance), math.sqrt(variance), ratio


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
        outcomes: ``n``.
    """

    def __init__(self, hyperparameters: Hyperparameters, features: Array, outcomes: Array) -> None:
        self.kernel = hyperparameters.kernel
        self.prior_mean = hyperparameters.mean
        self.places = features
        self.residuals = (outcomes - self.prior_mean)[:, None]
        gram = self.kernel(features, features)
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
