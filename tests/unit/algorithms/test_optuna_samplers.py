"""What the samplers of Optuna promise beyond the common contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from optuna.trial import TrialState

from algorithms.optuna_recipe import SAMPLERS, Recipe, quiet
from algorithms.optuna_samplers import Optuna
from algorithms.optuna_trials import Trials
from hpo_steer.algorithm import Failure, Observation, Point
from hpo_steer.errors import ConfigError
from hpo_steer.objectives import parse_objectives
from hpo_steer.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpo_steer.space import Params

ONE = parse_objectives({"loss": "minimize"})
TWO = parse_objectives({"loss": "minimize", "speed": "maximize"})
SQUARE = SearchSpace.from_dict({n: {"type": "float", "low": 0, "high": 1} for n in "xy"})
CELLS = SearchSpace.from_dict({n: {"type": "int", "low": 0, "high": 30} for n in "xy"})
AWAY = ["size >= 1"]
OPTIONS: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": 8},
    "gp": {"n_startup_trials": 6},
    "nsgaii": {"population_size": 8},
    "nsgaiii": {"population_size": 8},
}


def measured(params: Params) -> dict[str, float]:
    """The corner of the least loss breaks ``size >= 1``."""
    size = float(params["x"] + params["y"])
    return {"loss": size, "speed": -size, "size": size}


def run(
    search: Optuna, rounds: int, batch: int, measure: Callable[[Params], dict[str, float]] = measured
) -> list[Point]:
    asked: list[Point] = []
    for _ in range(rounds):
        points = list(search.ask(batch))
        asked += points
        search.tell([Observation(p.id, measure(p.params)) for p in points])
    return asked


@pytest.mark.parametrize("objectives", [ONE, TWO], ids=["one", "two"])
@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "nsgaiii"])
def test_outcome_constraints_keep_the_search_where_they_hold(sampler: str, objectives: Any) -> None:
    held = []
    for constraints in (AWAY, []):
        search = Optuna(
            SQUARE,
            objectives,
            1,
            sampler=sampler,
            sampler_options=OPTIONS[sampler],
            outcome_constraints=constraints,
        )
        last = run(search, 4 if sampler == "tpe" else 10, 8)[-16:]
        held.append(sum(measured(p.params)["size"] >= 1.0 for p in last))
    assert held[0] >= held[1] + 5


@pytest.mark.parametrize("objectives", [ONE, pytest.param(TWO, marks=pytest.mark.slow)], ids=["one", "two"])
def test_a_gaussian_process_goes_for_the_bound(objectives: Any) -> None:
    lowest = []
    for constraints in (AWAY, []):
        search = Optuna(
            SQUARE,
            objectives,
            1,
            sampler="gp",
            sampler_options=OPTIONS["gp"],
            outcome_constraints=constraints,
        )
        lowest.append(min(measured(p.params)["size"] for p in run(search, 2, 8)[8:]))
    assert lowest[0] > 0.8
    assert lowest[1] < 0.2


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - set(OPTIONS) - {"partial", "grid", "bruteforce"}))
def test_other_samplers_are_told_that_a_point_outside_has_failed(sampler: str) -> None:
    told = Optuna(SQUARE, ONE, 3, sampler=sampler, outcome_constraints=AWAY)
    failed = Optuna(SQUARE, ONE, 3, sampler=sampler)
    for _ in range(4):
        points = told.ask(6)
        assert points == failed.ask(6)
        told.tell([Observation(p.id, measured(p.params)) for p in points])
        failed.tell(
            [
                Observation(p.id, measured(p.params))
                if measured(p.params)["size"] >= 1.0
                else Observation(p.id, failure=Failure("invalid", "too small"))
                for p in points
            ]
        )
    assert told.ask(6) == failed.ask(6)


@pytest.mark.parametrize("metrics", [{}, {"size": float("nan")}, {"size": float("-inf")}])
def test_a_result_without_the_metric_of_a_constraint_is_a_failed_trial(metrics: dict[str, float]) -> None:
    search = Optuna(SQUARE, ONE, 0, outcome_constraints=AWAY)
    search.ask(2)
    search.tell([Observation(0, {"loss": 1.0, **metrics}), Observation(1, {"loss": 1.0, "size": 2.0})])
    search.ask(1)
    states = [trial.state for trial in search._trials._study.trials]
    assert states[:2] == [TrialState.FAIL, TrialState.COMPLETE]


def test_constraints_reach_the_sampler_behind_a_partial_one() -> None:
    options = {"fixed": {"x": 0.5}, "sampler": "tpe", "sampler_options": {"n_startup_trials": 8}}
    held = []
    for constraints in (AWAY, []):
        search = Optuna(
            SQUARE, ONE, 1, sampler="partial", sampler_options=options, outcome_constraints=constraints
        )
        held.append(sum(p.params["y"] >= 0.5 for p in run(search, 5, 8)[-16:]))
    assert held[0] >= held[1] + 5


def test_a_constraint_that_cannot_be_read_is_an_error_of_the_config() -> None:
    with pytest.raises(ConfigError, match='expected a metric, <= or >=, and a number, as in "latency'):
        Optuna(SQUARE, ONE, outcome_constraints=["size < 1"])


def test_tpe_has_a_constant_liar() -> None:
    with quiet():
        assert Recipe(SQUARE, 1, "tpe", {}).make(0)._constant_liar is True


def test_a_gaussian_process_keeps_away_from_pending_points() -> None:
    search = Optuna(SQUARE, ONE, 2, sampler="gp", sampler_options={"n_startup_trials": 8})
    run(search, 2, 6, lambda params: {"loss": (params["x"] - 0.3) ** 2 + (params["y"] - 0.6) ** 2})
    batch = np.array([list(p.params.values()) for p in search.ask(5)])
    apart = np.abs(batch[:, None] - batch[None]).max(-1)[~np.eye(5, dtype=bool)]
    assert apart.min() > 0.005


WIDE = {"tpe": ONE, "gp": ONE, "cmaes": ONE, "nsgaii": TWO, "nsgaiii": TWO}


@pytest.mark.parametrize("sampler", WIDE)
def test_huge_values_of_losses_and_constraints_do_no_harm(sampler: str) -> None:
    huge = [1e300, -1e300, 1.0, 1e-300, 0.5, 2.0]
    search = Optuna(
        SQUARE,
        WIDE[sampler],
        0,
        sampler=sampler,
        sampler_options=OPTIONS.get(sampler, {}),
        outcome_constraints=["size <= 1"],
    )
    for _ in range(5):
        points = search.ask(4)
        assert len(points) == 4
        search.tell(
            [
                Observation(p.id, {"loss": huge[p.id % 6], "speed": huge[-p.id % 6], "size": huge[p.id % 5]})
                for p in points
            ]
        )


# ---------------------------------------------------------------- studies are kept small


def tell_many(search: Optuna, first: int, count: int, rng: np.random.Generator) -> None:
    points = [
        Point(i, search.space.decode(row)) for i, row in enumerate(rng.random((count, 2)).tolist(), first)
    ]
    search.adopt(points)
    search.tell([Observation(p.id, measured(p.params)) for p in points])


@pytest.mark.slow
def test_ten_thousand_points_leave_tpe_with_a_study_of_two_thousand() -> None:
    search = Optuna(SQUARE, ONE, 0, outcome_constraints=AWAY)
    rng = np.random.default_rng(0)
    for done in range(0, 10_000, 500):
        tell_many(search, done, 500, rng)
        assert len(search._trials._study.get_trials(deepcopy=False)) <= 2_500
    assert len(search.ask(20)) == 20
    assert len(search._trials._study.get_trials(deepcopy=False)) <= 2_020


def test_waste_of_redraws_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algorithms.optuna_recipe._MOST_RESULTS", {"tpe": 20})
    space = SearchSpace.from_dict({"n": {"type": "int", "low": 1, "high": 400}}, ["n >= 200"])
    search = Optuna(space, ONE, 0)
    for _ in range(30):
        points = search.ask(6)
        assert len(points) == 6
        search.tell([Observation(p.id, {"loss": -float(p.params["n"])}) for p in points])
    assert len(search._trials._study.trials) < 250


def ended(trials: Trials, results: Sequence[tuple[float, ...] | None], outside: Sequence[float]) -> None:
    for i, (values, violation) in enumerate(zip(results, outside, strict=True)):
        trials.add(i, {"x": i / 100, "y": 0.5})
        state = TrialState.PRUNED if values is None else TrialState.COMPLETE
        trials.end(i, state, values, [violation])


def kept(trials: Trials) -> list[int]:
    return [
        round(trial.params["x"] * 100)
        for trial in trials._study.trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]


def test_a_study_begun_anew_keeps_the_better_half_and_the_latest() -> None:
    trials = Trials(SQUARE, ONE, 4)
    ended(trials, [(5.0,), (0.1,), (0.2,), (4.0,), None, (3.0,), (2.0,), (1.0,)], [-1.0] * 8)
    trials.add(8, {"x": 0.99, "y": 0.5})
    trials.trim()
    assert kept(trials) == [1, 2, 6, 7]
    running = trials._study.trials[-1]
    assert (running.state, running.params["x"]) == (TrialState.RUNNING, 0.99)
    trials.end(8, TrialState.COMPLETE, [0.0], [0.5])
    assert trials._study.trials[-1].values == [0.0]


def test_what_keeps_the_constraints_is_better_than_what_is_outside() -> None:
    trials = Trials(SQUARE, ONE, 4)
    outside = [-1.0, 0.5, 0.25, -1.0, 1.0, 1.0, 1.0, 1.0]
    ended(trials, [(9.0,), (0.1,), (0.2,), (8.0,), (0.3,), (0.4,), (0.5,), (0.6,)], outside)
    trials.trim()
    assert kept(trials) == [0, 3, 6, 7]
    assert trials._study.trials[0].constraints == {"0": -1.0}


def test_among_several_objectives_the_least_dominated_are_better() -> None:
    trials = Trials(SQUARE, TWO, 4)
    results = [(1.0, 9.0), (0.0, 5.0), (2.0, 1.0), (3.0, 2.0), (3.0, 1.0), (4.0, 4.0), (5.0, 3.0), (6.0, 2.0)]
    ended(trials, results, [0.0] * 8)
    trials.trim()
    assert kept(trials) == [0, 1, 6, 7]
