"""The arithmetic of the Bayesian method against BoTorch's, and against differences."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from algorithms.gaussian_process import Assumptions, Hyperparameters, Posterior, _Density, fit, some
from algorithms.improvement import climb, descend, log_improvement, log_nei, log_nei_slope
from algorithms.kernel import Kernel

RNG = np.random.default_rng(0)
X = RNG.random((15, 3))
Y = np.sin(5 * X).sum(1)
Y = (Y - Y.mean()) / Y.std()
AT = RNG.random((6, 3))


@pytest.mark.parametrize("smooth", [True, False])
def test_the_posterior_is_botorchs(smooth: bool) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("botorch")
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


KINDS = [
    Assumptions(),
    Assumptions(smooth=True),
    Assumptions(additive=True),
    Assumptions(even=True),
    Assumptions(smooth=True, noisy=True),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [None, np.full(15, 0.02), np.where(np.arange(15) < 6, np.nan, 0.02)])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_gradient_of_the_density_is_right(
    kind: Assumptions, noise: np.ndarray | None, scaled: bool
) -> None:
    density = _Density(X, Y, noise, kind, scaled=scaled)
    for start in density.starts:
        found = density.at(start).gradient
        steps = 1e-5 * np.eye(len(start))
        slopes = [(density.at(start + e).value - density.at(start - e).value) / 2e-5 for e in steps]
        assert found == pytest.approx(slopes, rel=1e-4, abs=1e-4)


def test_beside_known_noise_the_scale_of_the_process_is_learnt() -> None:
    rng = np.random.default_rng(1)
    near = 0.1 * rng.random((40, 1))  # a steep and wide valley, of which only the bottom was seen
    raw = 100.0 * (near[:, 0] - 0.05) ** 2
    y = (raw - raw.mean()) / raw.std()
    noise = np.full(40, 0.05)
    usual, found = fit(near, y, noise), fit(near, y, noise, scaled=True)
    assert usual.scale == 1.0
    assert found.scale > 1.5
    assert found.noise * found.scale**2 == pytest.approx(noise)


@pytest.mark.parametrize("additive", [False, True])
def test_the_gradient_of_a_kernel_is_right(additive: bool) -> None:
    kernel = Kernel(np.array([0.3, 0.5, 0.9]), additive=additive)
    weights = RNG.normal(size=(6, 15))
    found = kernel.pull(AT, X, weights)
    for j in range(3):
        step = np.zeros(3)
        step[j] = 1e-6
        slope = ((kernel(AT + step, X) - kernel(AT - step, X)) * weights).sum(1) / 2e-6
        assert found[:, j] == pytest.approx(slope, rel=1e-4, abs=1e-6)
    assert np.diag(kernel(X, X)) == pytest.approx(np.ones(15))


def test_each_outcome_is_foreseen_from_all_others() -> None:
    """The short cut gives what fifteen models without one outcome each would."""
    fitted = fit(X, Y)
    logs = []
    for i in range(15):
        others = np.arange(15) != i
        part = Hyperparameters(fitted.kernel, fitted.mean, fitted.noise[others], fitted.scale)
        mean, variance = Posterior(part, X[others], Y[others]).moments(X[i : i + 1])
        spread = (variance[0] + fitted.noise[i]) * fitted.scale**2
        logs.append(-0.5 * ((Y[i] - mean[0, 0] * fitted.scale) ** 2 / spread + np.log(2 * np.pi * spread)))
    assert fitted.evidence == pytest.approx(np.mean(logs), abs=1e-2)


def test_the_best_and_some_others_stand_for_very_many() -> None:
    outcomes = RNG.normal(size=1000)
    chosen = some(outcomes, 100)
    assert len(set(chosen.tolist())) == 100
    assert set(np.argsort(outcomes)[:50].tolist()) <= set(chosen.tolist())
    assert some(outcomes[:80], 100).tolist() == list(range(80))


def test_the_descent_finds_the_lowest_mean() -> None:
    posterior = Posterior(fit(X, Y), X, Y)
    starts = RNG.random((5, 3))
    free = np.ones((5, 3), dtype=bool)
    free[:, 2] = False
    ends = descend(posterior, starts, free, 60)
    assert (ends[:, 2] == starts[:, 2]).all()
    before, after = posterior.moments(starts)[0], posterior.moments(ends)[0]
    assert (after <= before + 1e-9).all()
    assert after.sum() < before.sum() - 0.1


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
