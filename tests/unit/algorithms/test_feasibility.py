"""How likely points are to be feasible, and what that does to the choice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import qmc

from algorithms.feasibility import (
    Feasibility,
    leading,
    outcome_limit,
    slacks_of,
    validity_limit,
    with_violations,
)
from algorithms.gaussian_process import Posterior, fit
from algorithms.improvement import climb, log_nei, log_nei_slope
from hpo_steer.algorithm import Observation
from hpo_steer.outcomes import parse_outcome_constraints

AT = qmc.Sobol(2, rng=0).random(32)
RNG = np.random.default_rng(0)
SLACK = 0.6 - AT[:, 0]
KEPT, BROKEN = np.array([[0.2, 0.5]]), np.array([[0.95, 0.5]])


def feasibility(scenarios: int = 8) -> Feasibility:
    limits = [outcome_limit(AT, SLACK + 0.1 * np.sin(20.0 * AT[:, 1])), outcome_limit(AT, AT[:, 1] - 0.1)]
    pending = np.array([[0.58, 0.4], [0.3, 0.3]])
    normals = [RNG.normal(size=(2, scenarios)) for _ in limits]
    return Feasibility(limits, RNG.random((20, 2)), pending, np.zeros(2, dtype=bool), normals)


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
def test_a_limit_tells_the_sides_of_its_bound(factor: float) -> None:
    limit = outcome_limit(AT, factor * SLACK)
    assert limit.chance(KEPT)[0] > 0.99
    assert limit.chance(BROKEN)[0] < 0.01
    assert not limit.noisy


def test_one_wild_or_missing_slack_does_no_harm() -> None:
    slacks = SLACK.copy()
    worst = int(np.argmin(slacks))
    for odd in (-1e30, -1.7e308, np.nan, -np.inf):
        slacks[worst] = odd
        limit = outcome_limit(AT, slacks)
        assert limit.chance(KEPT)[0] > 0.9
        assert limit.chance(BROKEN)[0] < 0.3


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_limit_that_is_flat_over_most_of_the_space_is_found_by_its_digits(side: float) -> None:
    """As that of a beam, whose load over its strength goes with the fourth power: no point is beyond the bound yet."""
    seen = AT[AT[:, 0] < 0.7]
    limit = outcome_limit(seen, side * (10.0 ** (6.0 * seen[:, 0] - 4.5) - 1.0))
    chance = limit.chance(np.array([[0.2, 0.5], [0.9, 0.5]]))
    assert chance[:: int(side)][0] < 0.05
    assert chance[:: int(side)][1] > 0.9


def test_equal_slacks_lie_on_their_side() -> None:
    assert outcome_limit(AT, np.full(32, 3.0)).chance(KEPT)[0] > 0.5
    assert outcome_limit(AT, np.full(32, -3.0)).chance(KEPT)[0] < 0.5
    assert outcome_limit(AT, np.full(32, np.nan)).chance(KEPT)[0] < 0.5


def test_noise_makes_a_limit_unsure() -> None:
    noise = 0.3 * RNG.normal(size=32)
    learnt = outcome_limit(AT, SLACK + noise)
    given = outcome_limit(AT, SLACK + noise, np.full(32, 0.09))
    for limit in (learnt, given):
        assert limit.noisy
        assert limit.chance(KEPT)[0] > 0.7
        assert limit.chance(BROKEN)[0] < 0.4


def test_where_points_are_invalid_is_learnt() -> None:
    valid = SLACK > 0.0
    limit = validity_limit(AT[valid], AT[~valid])
    assert limit.chance(KEPT)[0] > 0.8
    assert limit.chance(BROKEN)[0] < 0.2


def test_the_candidates_are_kept_up_to_date() -> None:
    found = feasibility()
    at = np.array([[0.525, 0.9]])
    before = found.logs
    held = found.take(at, [RNG.normal(size=8), RNG.normal(size=8)])
    assert held.shape == (8,)
    assert 0 < held.sum() < 8  # it lies on a bound
    assert found.logs.shape == before.shape == (20, 8)
    again = found.log_chances(found._outlooks[0].features)
    assert np.exp(found.logs) == pytest.approx(np.exp(again), abs=1e-2)


def test_the_gradient_of_the_weighed_improvement_is_right() -> None:
    found = feasibility()
    outcomes = np.sin(5 * AT).sum(1)
    outcomes = (outcomes - outcomes.mean()) / outcomes.std()
    posterior = Posterior(fit(AT, outcomes), AT, outcomes)
    imagined = posterior.sample(AT[:3], RNG.normal(size=(3, 8)))
    posterior.imagine(AT[:3], imagined)
    best = imagined.min(0)
    at = np.array([[0.45, 0.33], [0.62, 0.5], [0.7, 0.2]])
    value, gradient = log_nei_slope(posterior, best, at, found)
    assert value == pytest.approx(log_nei(posterior, best, at, found))
    for j in range(2):
        step = np.zeros(2)
        step[j] = 1e-6
        up, down = (log_nei(posterior, best, at + sign * step, found) for sign in (1.0, -1.0))
        assert gradient[:, j] == pytest.approx((up - down) / 2e-6, rel=1e-3, abs=1e-2)
    ends = climb(posterior, best, at, np.ones((3, 2), dtype=bool), 20, found)
    assert log_nei(posterior, best, ends, found).sum() > value.sum()


def test_incumbents_are_feasible_or_nearest_to_it() -> None:
    limits = [outcome_limit(AT, SLACK)]
    best, kept = leading(-AT[:, 0], SLACK[:, None], limits, AT, 4)
    assert kept.all()
    assert set(best.tolist()) == set(np.argsort(np.where(SLACK >= 0, SLACK, 9.0))[:4].tolist())
    out = SLACK - 2.0
    best, kept = leading(-AT[:, 0], out[:, None], [outcome_limit(AT, out)], AT, 4)
    assert not kept.any()
    assert best[0] == np.argmax(out)


def test_what_breaks_a_constraint_ranks_last() -> None:
    slacks = np.array([[1.0, 0.0], [-1.0, 5.0], [-3.0, 5.0], [np.nan, 1.0]])
    ranked = np.argsort(with_violations(np.array([7.0, 1.0, 0.0, -9.0]), slacks))
    assert ranked.tolist() == [0, 1, 2, 3]


def test_a_metric_that_is_missing_is_unknown() -> None:
    constraints = parse_outcome_constraints(["ms <= 20", "score >= 1"])
    seen = [Observation(0, {"ms": 15.0, "score": 3.0}), Observation(1, {"ms": 30.0})]
    slacks = slacks_of(constraints, seen)
    assert slacks[0].tolist() == [5.0, 2.0]
    assert slacks[1, 0] == -10.0
    assert np.isnan(slacks[1, 1])
