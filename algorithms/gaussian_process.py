"""A Gaussian process as the Bayesian method needs it: fitted by BoTorch, then a few matrices.

An ask evaluates the acquisition function some ten thousand times on few points at once, where the bookkeeping
of a tensor library costs more than the arithmetic. So hyperparameters are BoTorch's, and what follows is
NumPy.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, solve_triangular

if TYPE_CHECKING:
    from collections.abc import Iterator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # GPyTorch's import warns of PyTorch's deprecations
    from botorch.exceptions import ModelFittingError
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from linear_operator.utils.errors import NotPSDError

Array: TypeAlias = NDArray[np.float64]

_JITTER = 1e-6
_FITTED_ON = 300  # hyperparameters hardly change with more points, and a fit costs their number cubed


@dataclass(frozen=True)
class Kernel:
    """A Matern-5/2 or squared exponential kernel of unit variance with a length scale for each feature.

    Attributes:
        lengthscales: ``f`` numbers.
        smooth: squared exponential if true, else Matern-5/2.
    """

    lengthscales: Array
    smooth: bool = False

    def __call__(self, a: Array, b: Array) -> Array:
        """Covariances of the rows of `a` (``n x f``) with those of `b` (``m x f``): ``n x m``."""
        return self.with_slope(a, b)[0]

    def with_slope(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Covariances, and their derivatives by the squared scaled distance, each ``n x m``."""
        a, b = a / self.lengthscales, b / self.lengthscales
        square = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2.0 * (a @ b.T), 0.0)
        if self.smooth:
            k = np.exp(-0.5 * square)
            return k, -0.5 * k
        root = np.sqrt(5.0 * square)
        decay = np.exp(-root)
        return (1.0 + root + root * root / 3.0) * decay, (-5.0 / 6.0) * (1.0 + root) * decay


@dataclass(frozen=True)
class Hyperparameters:
    """What a fit finds.

    Attributes:
        kernel: of unit variance.
        mean: the constant prior mean.
        noise: the variance of the noise on each outcome, ``n`` numbers.
    """

    kernel: Kernel
    mean: float
    noise: Array


def fit(
    features: Array, outcomes: Array, noise: Array | None = None, *, smooth: bool = False
) -> Hyperparameters:
    """Fits a `SingleTaskGP` by maximum a posteriori, on the best and some others of very many points.

    The priors grow with the dimension (Hvarfner, Hellsten and Nardi, Vanilla Bayesian Optimization Performs
    Great in High Dimensions, ICML 2024).

    Args:
        features: ``n x f``, in the unit cube.
        outcomes: ``n``, standardized, to be minimised.
        noise: ``n`` variances where they are known.
        smooth: squared exponential kernel rather than Matern-5/2.
    """
    n, f = features.shape
    kernel = get_covar_module_with_dim_scaled_prior(ard_num_dims=f, use_rbf_kernel=smooth)
    chosen = np.arange(n)
    if n > _FITTED_ON:
        ranked = np.argsort(outcomes, kind="stable")
        best, rest = ranked[: _FITTED_ON // 2], np.sort(ranked[_FITTED_ON // 2 :])
        spread = np.linspace(0, len(rest) - 1, _FITTED_ON - len(best)).round().astype(int)
        chosen = np.sort(np.concatenate([best, rest[spread]]))
    x = torch.from_numpy(np.ascontiguousarray(features[chosen]))
    y = torch.from_numpy(np.ascontiguousarray(outcomes[chosen]))[:, None]
    known = None if noise is None else torch.from_numpy(np.ascontiguousarray(noise[chosen]))[:, None]
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = SingleTaskGP(x, y, known, covar_module=kernel, outcome_transform=None).double()
        if np.ptp(outcomes) > 0.0:
            # If the fit fails, the prior's own values still make a usable model.
            with contextlib.suppress(ModelFittingError, NotPSDError):
                fit_gpytorch_mll(
                    ExactMarginalLogLikelihood(model.likelihood, model),
                    optimizer_kwargs={"options": {"maxiter": 60}},
                    max_attempts=2,
                )
    lengthscales = model.covar_module.lengthscale.detach().numpy().reshape(-1).astype(np.float64)
    if noise is None:
        noise = np.full(n, float(model.likelihood.noise.detach().reshape(-1)[0]))
    return Hyperparameters(Kernel(lengthscales, smooth), float(model.mean_module.constant.detach()), noise)


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
        threads = torch.get_num_threads()
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(1)
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
        self.inverse_root = _inverse_root(gram + np.diag(hyperparameters.noise))
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


def _root(matrix: Array) -> Array:
    """The lower Cholesky root, with as much added to the diagonal as it takes."""
    jitter = _JITTER
    while True:
        try:
            root: Array = cholesky(matrix + jitter * np.eye(len(matrix)), lower=True, check_finite=False)
        except LinAlgError:
            jitter *= 10.0
            if not math.isfinite(jitter) or jitter > 1e3:
                raise
        else:
            return root


def _inverse_root(matrix: Array) -> Array:
    root = _root(matrix)
    inverse: Array = solve_triangular(root, np.eye(len(root)), lower=True, check_finite=False)
    return inverse
