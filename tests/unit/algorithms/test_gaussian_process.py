"""The arithmetic of the Bayesian method against BoTorch's, and against differences."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("botorch")

from algorithms.gaussian_process import Hyperparameters, Kernel, Posterior, fit
from algorithms.improvement import climb, log_improvement, log_nei, log_nei_slope

RNG = np.random.default_rng(0)
X = RNG.random((15, 3))
Y = np.sin(5 * X).sum(1)
Y = (Y - Y.mean()) / Y.std()
AT = RNG.random((6, 3))


@pytest.mark.parametrize("smooth", [True, False])
def test_the_posterior_is_botorchs(smooth: bool) -> None:
    import torch
    from botorch.models import SingleTaskGP
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior

    noise = np.full(15, 1e-3)
    found = Hyperparameters(Kernel(np.array([0.3, 0.5, 0.9]), smooth), 0.2, noise)
    kernel = get_covar_module_with_dim_scaled_prior(3, use_rbf_kernel=smooth)
    kernel.lengthscale = torch.tensor([[0.3, 0.5, 0.9]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SingleTaskGP(
            torch.tensor(X),
            torch.tensor(Y)[:, None],
            torch.tensor(noise)[:, None],
            covar_module=kernel,
            outcome_transform=None,
        ).double()
        model.mean_module.constant.data.fill_(0.2)
        theirs = model.posterior(torch.tensor(AT))
    mean, variance = Posterior(found, X, Y).moments(AT)
    assert mean[:, 0] == pytest.approx(theirs.mean.detach().numpy()[:, 0], abs=1e-4)
    assert variance == pytest.approx(theirs.variance.detach().numpy()[:, 0], abs=1e-4)


def test_imagined_values_act_like_outcomes() -> None:
    found = Hyperparameters(Kernel(np.array([0.3, 0.5, 0.9])), 0.1, np.full(15, 1e-6))
    whole = Posterior(found, X, Y)
    stepwise = Posterior(Hyperparameters(found.kernel, 0.1, np.full(10, 1e-6)), X[:10], Y[:10])
    stepwise.imagine(X[10:13], np.repeat(Y[10:13, None], 4, axis=1))
    stepwise.imagine(X[13:], np.repeat(Y[13:, None], 4, axis=1))
    for a, b in zip(whole.moments(AT), stepwise.moments(AT), strict=True):
        assert b == pytest.approx(np.broadcast_to(a, b.shape), abs=1e-3)


def test_the_gradient_of_the_improvement_is_right() -> None:
    posterior = Posterior(Hyperparameters(Kernel(np.array([0.3, 0.5, 0.9])), 0.1, np.full(15, 1e-3)), X, Y)
    normals = RNG.normal(size=(4, 8))
    imagined = posterior.sample(AT[:4], normals)
    posterior.imagine(AT[:4], imagined)
    best = imagined.min(0)
    at = RNG.random((5, 3))
    value, gradient = log_nei_slope(posterior, best, at)
    assert value == pytest.approx(log_nei(posterior, best, at))
    for j in range(3):
        step = np.zeros(3)
        step[j] = 1e-6
        slope = (log_nei(posterior, best, at + step) - log_nei(posterior, best, at - step)) / 2e-6
        assert gradient[:, j] == pytest.approx(slope, rel=1e-3, abs=1e-3)
    free = np.ones((5, 3), dtype=bool)
    free[:, 1] = False
    ends = climb(posterior, best, at, free, 20)
    assert (log_nei(posterior, best, ends).sum()) >= value.sum()
    assert (ends[:, 1] == at[:, 1]).all()


def test_the_log_of_the_improvement_is_stable_and_continuous() -> None:
    from scipy.stats import norm

    u = np.linspace(-6, 6, 200)
    assert np.exp(log_improvement(u)) == pytest.approx(norm.pdf(u) + u * norm.cdf(u), rel=1e-6)
    far = log_improvement(np.array([-1e1, -1e2, -999.9, -1000.1, -1e4, -1e6]))
    assert np.isfinite(far).all()
    assert (np.diff(far) < 0).all()


def test_a_fit_finds_the_parameter_that_matters() -> None:
    found = fit(X, (X[:, 0] - X[:, 0].mean()) / X[:, 0].std())
    assert found.kernel.lengthscales.argmin() == 0
    assert found.noise.shape == (15,)
