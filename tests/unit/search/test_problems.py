"""The problems of the search benchmark: their optima, scales and noise."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.search.fronts import hypervolume
from benchmarks.search.problem import Outcome, Problem, value_of
from benchmarks.search.problems import (
    ALL,
    CONSTRAINED,
    FRESH,
    FRESH_MULTI,
    HELD_OUT,
    MULTI,
    NAMED,
    WIDE,
    problem,
    problem_names,
)
from hpo_steer.errors import UserError
from hpo_steer.space import Params

OPTIMA = {
    "branin": 0.397887,
    "hartmann6": -3.32237,
    "ackley10": 0.0,
    "rosenbrock8": 0.0,
    "branin-noisy": 0.397887,
    "hartmann6-noisy": -3.32237,
    "mixed": 0.0,
    "conditional": 0.0,
    "levy4": 0.0,
    "griewank5": 0.0,
    "styblinski-tang6": -39.166166 * 6,
    "michalewicz5": -4.687658,
    "rosenbrock5-ball": 0.0,
    "shekel4": -10.53644,
    "powell8": 0.0,
    "rastrigin6": 0.0,
    "dixon-price7": 0.0,
    "drop-wave": -1.0,
    "egg-holder": -959.64066,
    "hartmann6-of-20": -3.32237,
    "binary": 0.0,
    "choices": -15.12161,
    "levy20": 0.0,
    "levy40": 0.0,
    "ackley20": 0.0,
    "rosenbrock20": 0.0,
    "styblinski-tang20": -39.166166 * 20,
    "rastrigin20": 0.0,
    "gramacy": 0.599788,
    "hartmann6-in-a-ball": -3.32237,
    "spring": 0.0126652,
    "welded-beam": 1.587078,
    "speed-reducer": 2996.34817,
    "pressure-vessel": 5633.95024,
}
"""As published, or as the problem was made."""
FRONTS = {
    "branin-currin": (59.360, (18.0, 6.0)),
    "branin-currin-noisy": (59.360, (18.0, 6.0)),
    "dtlz2-2": (1.21 - np.pi / 4, (1.1, 1.1)),
    "dtlz2-3": (1.331 - np.pi / 6, (1.1,) * 3),
    "dtlz2-4": (1.4641 - np.pi**2 / 32, (1.1,) * 4),
    "vehicle-safety": (246.816, (1864.72022, 11.81993945, 0.2903999384)),
    "c2-dtlz2": (0.39964, (1.1, 1.1)),
    "penicillin": (2183455.9, (25.935, 57.612, 935.5)),
    "zdt3": (128.77812, (11.0, 11.0)),
    "car-side-impact": (484.72655, (45.4872, 4.5114, 13.3394, 10.3942)),
    "zdt1": (120 + 2 / 3, (11.0, 11.0)),
    "branin-currin-in-a-disc": (608.40042, (80.0, 12.0)),
    "dtlz7": (189.42970, (15.0, 15.0)),
    "mixture": (0.175482, (-0.2338, -0.2211)),
    "disc-brake": (11.21171, (5.7771, 3.9651)),
    "mw7": (0.503332, (1.2, 1.2)),
}
"""Largest hypervolume and reference point."""
TRAININGS = ("xgboost", "mlp", "svm", "forest", "model-choice")


def test_every_problem_with_one_objective_has_a_published_optimum_or_is_a_training() -> None:
    assert OPTIMA.keys() | set(TRAININGS) == (NAMED | HELD_OUT | FRESH | WIDE | CONSTRAINED).keys()
    assert FRONTS.keys() == (MULTI | FRESH_MULTI).keys()


def allowed(on: Problem, params: Params) -> float:
    """The value of a point, infinite where it is invalid or breaks an outcome constraint."""
    outcome = on.evaluate(params)
    return value_of(on.evaluate, params) if outcome.feasible else np.inf


@pytest.mark.parametrize("name", OPTIMA)
def test_the_regret_of_the_optimum_is_none(name: str) -> None:
    on = problem(name)
    assert on.solution is not None
    assert on.best is not None
    at = on.space.validate(on.solution)
    assert allowed(on, at) == on.best == pytest.approx(OPTIMA[name], abs=2e-5)
    assert allowed(on, at) - on.best == 0.0
    assert on.regret(value_of(on.evaluate, at), on.best) == on.floor
    assert on.held_out is (name in HELD_OUT | FRESH)


@pytest.mark.parametrize("name", OPTIMA)
def test_nothing_beats_the_optimum(name: str) -> None:
    on = problem(name)
    assert on.solution is not None
    assert on.best is not None
    rng = np.random.default_rng(1)
    at = np.array(on.space.encode(on.solution))
    widths = 10.0 ** rng.uniform(-6, -1, size=(300, 1))
    near = np.clip(at + widths * rng.normal(size=(300, len(on.space))), 0.0, 1.0)
    points = [on.space.decode(row) for row in near.tolist()] + on.space.sample(300, rng)
    assert min(allowed(on, params) for params in points) >= on.best - on.floor


@pytest.mark.parametrize("name", OPTIMA)
def test_a_random_point_has_about_the_regret_that_is_the_scale(name: str) -> None:
    on = problem(name)
    assert on.best is not None
    values = [value_of(on.evaluate, p) for p in on.space.sample(200, np.random.default_rng(3))]
    regrets = [value - on.best for value in values if np.isfinite(value)]
    assert np.quantile(regrets, 0.25) <= on.scale <= np.quantile(regrets, 0.75)
    assert on.regret(None, on.best) == on.scale > on.floor > 0.0


@pytest.mark.parametrize("name", sorted(OPTIMA.keys() - {"branin"}))
def test_no_optimum_lies_in_the_middle_of_the_box(name: str) -> None:
    on = problem(name)
    middle = on.space.decode([0.5] * len(on.space))
    assert allowed(on, middle) - (on.best or 0.0) > 1e-3 * on.scale


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("gramacy", 0.46),
        ("hartmann6-in-a-ball", 0.08),
        ("spring", 0.009),
        ("welded-beam", 0.00125),
        ("speed-reducer", 0.002),
        ("pressure-vessel", 0.16),
    ],
)
def test_so_many_random_points_keep_the_outcome_constraints(name: str, share: float) -> None:
    on = problem(name)
    points = on.space.sample(2000, np.random.default_rng(2))
    assert len(on.evaluate(points[0]).slacks) == on.slacks > 0
    assert sum(on.evaluate(params).feasible for params in points) / 2000 == pytest.approx(
        share, rel=0.2, abs=0.003
    )


def test_a_part_of_the_ball_is_valid() -> None:
    on = problem("rosenbrock5-ball")
    outcomes = [on.evaluate(p) for p in on.space.sample(300, np.random.default_rng(0))]
    valid = [outcome for outcome in outcomes if outcome.values is not None]
    assert 0.2 < len(valid) / len(outcomes) < 0.4
    assert all(outcome.failure for outcome in outcomes if outcome.values is None)


@pytest.mark.parametrize("name", FRONTS)
def test_a_front_has_the_published_hypervolume_and_reference_point(name: str) -> None:
    on = problem(name)
    largest, references = FRONTS[name]
    assert on.best == pytest.approx(largest, rel=1e-4)
    assert on.references == pytest.approx(references)
    outcomes = [on.evaluate(p) for p in on.space.sample(64, np.random.default_rng(0))]
    assert {len(o.values or ()) for o in outcomes} == {on.objectives} == {len(references)}
    feasible = [o.values for o in outcomes if o.feasible and o.values is not None]
    found = hypervolume(feasible, on.references)
    assert 0.0 <= found < largest
    assert on.regret(found, largest) == pytest.approx(largest - found)
    assert on.regret(largest, largest) == on.floor


def test_points_on_a_front_reach_the_largest_hypervolume() -> None:
    on = problem("dtlz2-2")
    front = [{"x0": i / 400, **{f"x{j}": 0.5 for j in range(1, 6)}} for i in range(401)]
    values = [on.evaluate(params).values for params in front]
    found = hypervolume([v for v in values if v is not None], on.references)
    assert (on.best or 0.0) * 0.99 < found < (on.best or 0.0)


def test_the_hypervolume_counts_what_lies_below_the_reference_point() -> None:
    assert hypervolume([], (1.0, 1.0)) == 0.0
    assert hypervolume([(2.0, 0.0)], (1.0, 1.0)) == 0.0
    assert hypervolume([(0.0, 0.5), (0.5, 0.0), (0.6, 0.6)], (1.0, 1.0)) == pytest.approx(0.75)


def test_an_outcome_constraint_makes_points_infeasible() -> None:
    on = problem("c2-dtlz2")
    front = [{"x0": i / 50, **{f"x{j}": 0.5 for j in range(1, 12)}} for i in range(51)]
    outcomes = [on.evaluate(params) for params in front]
    assert all(len(outcome.slacks) == on.slacks == 1 for outcome in outcomes)
    assert [outcome.feasible for outcome in outcomes[:2]] == [True, True]
    assert {outcome.feasible for outcome in outcomes} == {False, True}


def test_noise_has_the_width_that_was_said() -> None:
    on = problem("branin-currin-noisy")
    seen = on.observed(Outcome((10.0, 4.0)), [1.0, -2.0])
    assert seen.values == pytest.approx((10.0 + 15.19, 4.0 - 2 * 0.63))
    assert problem("branin").observed(Outcome((3.0,)), []).values == (3.0,)


def test_known_noise_is_part_of_what_contenders_are_told() -> None:
    noises = {name: problem(name).setting(seed=0, batch=4, evaluations=8).noise for name in MULTI}
    assert noises.pop("branin-currin-noisy") == (15.19, 0.63)
    assert set(noises.values()) == {()}
    on = problem("branin-noisy")
    assert on.noise
    assert on.setting(seed=0, batch=4, evaluations=8).noise == ()


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_gives_the_same_loss_twice(name: str) -> None:
    on = problem(name)
    params = on.space.sample(1, np.random.default_rng(5))[0]
    again: Problem = _made_again(name)
    first, second = on.evaluate(params), again.evaluate(params)
    assert first == second
    assert first.values is not None
    assert 0.0 < first.values[0] < 10 * on.scale
    assert not on.proven


def _made_again(name: str) -> Problem:
    problem.cache_clear()
    return problem(name)


def test_groups_and_names_are_resolved_in_order_and_once() -> None:
    assert problem_names("levy4, branin,levy4") == ["levy4", "branin"]
    assert problem_names("all") == list(ALL)
    with pytest.raises(UserError, match='no problem "hartman6"; did you mean "hartmann6"'):
        problem_names("branin,hartman6")
    with pytest.raises(UserError, match="names none"):
        problem_names(" ,")
