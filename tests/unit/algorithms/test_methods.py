"""What single methods promise beyond the common contract."""

from __future__ import annotations

from typing import Any

import pytest

from algorithms.bayesian import Bayesian
from algorithms.grid import Grid
from algorithms.nevergrad_optimizers import Nevergrad
from algorithms.optuna_samplers import Optuna
from algorithms.random_search import Random
from algorithms.sobol import Sobol
from hpo_steer.algorithm import Asked, Failure, Observation, Point
from hpo_steer.errors import AlgorithmError, ConfigError
from hpo_steer.objectives import parse_objectives
from hpo_steer.space import SearchSpace

ONE = parse_objectives({"loss": "minimize"})
TWO = parse_objectives({"loss": "minimize", "speed": "maximize"})
SQUARE = SearchSpace.from_dict({n: {"type": "float", "low": 0, "high": 1} for n in "xy"})
CELLS = SearchSpace.from_dict({n: {"type": "int", "low": 0, "high": 9} for n in "xy"})


@pytest.mark.parametrize(
    ("make", "key", "says"),
    [
        (lambda: Bayesian(SQUARE, TWO), "algorithm.name", "use mobo"),
        (lambda: Bayesian(SQUARE, ONE, initial_points=0), "algorithm.initial_points", "1 or more"),
        (lambda: Bayesian(SQUARE, ONE, candidates=True), "algorithm.candidates", "whole number"),
        (lambda: Grid(SQUARE, ONE), "search_space.x", "resolution"),
        (lambda: Grid(SQUARE, ONE, resolution=2.5), "algorithm.resolution", "whole number"),  # type: ignore[arg-type]
        (lambda: Grid(SQUARE, ONE, resolution=9999, shuffle=True), "algorithm.shuffle", "too many"),
        (lambda: Optuna(SQUARE, ONE, sampler="tpee"), "algorithm.sampler", 'did you mean "tpe"?'),
        (lambda: Optuna(SQUARE, ONE, sampler="AutoSampler"), "algorithm.sampler", "OptunaHub"),
        (lambda: Optuna(SQUARE, TWO, sampler="cmaes"), "algorithm.sampler", "one objective"),
        (lambda: Optuna(SQUARE, ONE, sampler="bruteforce"), "algorithm.sampler", "needs a step"),
        (
            lambda: Optuna(SQUARE, ONE, sampler_options={"n_startup": 3}),
            "algorithm.sampler_options.n_startup",
            'did you mean "n_startup_trials"?',
        ),
        (lambda: Nevergrad(SQUARE, ONE, optimizer="NGOpf"), "algorithm.optimizer", "did you mean"),
        (
            lambda: Nevergrad(SQUARE, ONE, optimizer="NLOPT_LN_PRAXIS"),
            "algorithm.optimizer",
            "one point at a time",
        ),
        (lambda: Nevergrad(SQUARE, ONE, budget=0), "algorithm.budget", "1 or more"),
        (lambda: Nevergrad(SQUARE, ONE, workers=1), "algorithm.workers", "2 or more"),
    ],
)
def test_a_method_that_cannot_serve_says_so_at_once(make: Any, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.key == key
    assert says in caught.value.message


def test_a_grid_goes_through_its_cells_in_order() -> None:
    points = Grid(CELLS, ONE).ask(12)
    assert [(p.params["x"], p.params["y"]) for p in points] == [divmod(i, 10) for i in range(12)]


def test_sobol_points_are_spread_evenly() -> None:
    points = Sobol(SQUARE, ONE, 3).ask(64)
    for name in "xy":
        assert sorted(int(p.params[name] * 64) for p in points) == list(range(64))


def test_results_of_unknown_points_are_refused_and_later_ones_ignored() -> None:
    search = Random(SQUARE, ONE)
    with pytest.raises(AlgorithmError, match="never proposed"):
        search.tell([Observation(0, {"loss": 1.0})])
    search.ask(1)
    with pytest.raises(AlgorithmError, match='lacks "loss"'):
        search.tell([Observation(0, {"speed": 1.0})])
    search.tell([Observation(0, {"loss": 1.0})])
    search.tell([Observation(0, {"loss": 2.0})])
    assert search.completed()[0][1].values == {"loss": 1.0}


def test_a_value_that_is_no_number_is_a_failure() -> None:
    search = Random(SQUARE, ONE)
    search.ask(1)
    search.tell([Observation(0, {"loss": float("nan")})])
    assert search.failed()[0][1] == Failure("error", "loss is nan")


def test_points_of_the_users_own_are_adopted_and_not_proposed() -> None:
    search = Random(CELLS, ONE)
    search.ask(2)
    search.adopt([Point(2, {"x": 0, "y": 0})])
    assert search.pending == [0, 1, 2]
    rest = search.ask(100)
    assert [p.id for p in rest[:2]] == [3, 4]
    assert {"x": 0, "y": 0} not in [p.params for p in rest]
    with pytest.raises(AlgorithmError, match="adopted once"):
        search.adopt([Point(2, {"x": 0, "y": 0})])


def test_a_replay_that_went_otherwise_goes_on_from_the_record() -> None:
    search = Optuna(SQUARE, ONE, 1, sampler="nsgaii")
    recorded = [Point(i, {"x": i / 10, "y": 0.5}) for i in range(3)]
    search.restore([Asked(3, recorded)])
    assert [search.points[i]["x"] for i in range(3)] == [0.0, 0.1, 0.2]
    assert [p.id for p in search.ask(2)] == [3, 4]


def test_bayesian_beats_random_by_far() -> None:
    def loss(p: Point) -> float:
        return float((p.params["x"] - 0.3) ** 2 + 2.0 * (p.params["y"] - 0.8) ** 2)

    best = {}
    for cls in (Bayesian, Random):
        search = cls(SQUARE, ONE, 0)
        values: list[float] = []
        for _ in range(5):
            points = search.ask(6)
            values += [loss(p) for p in points]
            search.tell([Observation(p.id, {"loss": loss(p)}) for p in points])
        best[cls] = min(values)
    assert best[Bayesian] < 1e-3 < best[Random]


def test_bayesian_begins_in_the_middle_with_choices_of_the_sobol_sequence() -> None:
    space = SearchSpace.from_dict(
        {
            "x": {"type": "float", "low": -1, "high": 5},
            "rate": {"type": "float", "low": 1e-4, "high": 1, "log": True},
            "c": {"type": "categorical", "choices": ["u", "v", "w"]},
        }
    )
    firsts = set()
    for seed in range(8):
        (first, *others), sobol = Bayesian(space, ONE, seed).ask(4), Sobol(space, ONE, seed).ask(4)
        assert (first.params["x"], first.params["rate"]) == pytest.approx((2.0, 0.01))
        assert first.params["c"] == sobol[0].params["c"]
        assert [p.params for p in others] == [p.params for p in sobol[1:]]
        firsts.add(first.params["c"])
    assert len(firsts) > 1


def test_a_middle_that_breaks_a_constraint_or_comes_after_other_points_is_left_out() -> None:
    spec = {n: {"type": "float", "low": 0, "high": 1} for n in "xy"}
    bent = SearchSpace.from_dict(spec, constraints=["x + y <= 0.9"])
    assert [p.params for p in Bayesian(bent, ONE, 0).ask(3)] == [p.params for p in Sobol(bent, ONE, 0).ask(3)]
    search = Bayesian(SQUARE, ONE, 0)
    search.restore([Asked(1, [Point(0, {"x": 0.25, "y": 0.75})], given=True)])
    assert {"x": 0.5, "y": 0.5} not in [p.params for p in search.ask(3)]


def test_bayesian_learns_where_points_are_invalid() -> None:
    search = Bayesian(SQUARE, ONE, 1, initial_points=12)
    invalid = []
    for _ in range(6):
        points = search.ask(6)
        invalid.append(sum(p.params["x"] < 0.5 for p in points))
        search.tell(
            [
                Observation(p.id, failure=Failure("invalid", "left half"))
                if p.params["x"] < 0.5
                else Observation(p.id, {"loss": (p.params["x"] - 0.7) ** 2 + p.params["y"]})
                for p in points
            ]
        )
    assert sum(invalid[-3:]) <= 3 < sum(invalid[:3])
