"""Which models are chosen for which outcomes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import qmc

from algorithms.surrogate import surrogates

AT = qmc.Sobol(4, rng=0).random(64)
PEAK = ((AT - 0.3) ** 2).sum(1)


def test_outcomes_that_span_decades_are_modelled_by_their_logarithm() -> None:
    plain, wide = surrogates(AT, PEAK)[0], surrogates(AT, np.exp(12.0 * PEAK))[0]
    at, truth = np.array([[0.3] * 4, [0.9] * 4]), [0.0, 4 * 0.36]
    for model in (plain, wide):
        low, high = model.posterior().moments(at)[0][:, 0]
        assert low < high
    skew = [float((model.outcomes**3).mean()) for model in (plain, wide)]
    assert abs(skew[1]) < 1.5  # the outcomes themselves have far more
    assert truth[0] < truth[1]


def test_parameters_that_act_each_for_itself_are_found_out() -> None:
    waves = np.sin(9.0 * AT).sum(1)
    assert surrogates(AT, waves)[0].fitted.kernel.additive
    together = np.sin(9.0 * AT[:, 0] * AT[:, 1]) * AT[:, 2]
    assert not surrogates(AT, together)[0].fitted.kernel.additive


def test_noise_is_told_from_structure() -> None:
    noise = np.random.default_rng(1).normal(size=64)
    rough = surrogates(AT, PEAK + 0.3 * noise)[0].fitted
    assert rough.noise[0] > 0.05
    assert surrogates(AT, PEAK)[0].fitted.noise[0] < 1e-3


@pytest.mark.parametrize(("factor", "offset"), [(1e-12, 0.0), (1e12, 0.0), (1.0, 1e6), (1e-3, -5.0)])
def test_scale_and_offset_of_the_outcomes_are_of_no_account(factor: float, offset: float) -> None:
    usual = surrogates(AT, PEAK)
    moved = surrogates(AT, factor * PEAK + offset)
    assert len(usual) == len(moved)
    for one, other in zip(usual, moved, strict=True):
        assert other.fitted.kernel.lengthscales == pytest.approx(one.fitted.kernel.lengthscales, rel=0.05)
        assert other.outcomes == pytest.approx(one.outcomes, abs=1e-3)


def test_equal_outcomes_make_a_flat_model() -> None:
    (model,) = surrogates(AT, np.full(64, 7.0))
    mean, variance = model.posterior().moments(AT[:3] + 0.01)
    assert mean == pytest.approx(np.zeros((3, 1)), abs=1e-6)
    assert (variance > 0.0).all()


def test_known_noise_is_taken_as_it_is() -> None:
    models = surrogates(AT, PEAK, np.full(64, 0.01))
    for model in models:
        assert model.fitted.noise == pytest.approx(np.full(64, 0.01 / PEAK.std() ** 2), rel=0.05)
