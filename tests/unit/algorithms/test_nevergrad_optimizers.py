"""What the optimisers of Nevergrad promise beyond the common contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algorithms.nevergrad_optimizers import Nevergrad, ng
from algorithms.nevergrad_registry import UNFIT
from algorithms.penalty import Penalty
from hpo_steer.algorithm import Failure, Observation, Point
from hpo_steer.errors import ConfigError
from hpo_steer.objectives import parse_objectives
from hpo_steer.outcomes import parse_outcome_constraints
from hpo_steer.space import SearchSpace

ONE = parse_objectives({"loss": "minimize"})
BEST = parse_objectives({"score": "maximize"})
TWO = parse_objectives({"loss": "minimize", "speed": "maximize"})
SQUARE = SearchSpace.from_dict({n: {"type": "float", "low": 0, "high": 1} for n in "xy"})
MIXED = SearchSpace.from_dict(
    {
        "x": {"type": "float", "low": 1, "high": 9, "log": True},
        "n": {"type": "int", "low": 0, "high": 20},
        "kind": {"type": "categorical", "choices": ["a", "b", "c"]},
        "y": {"type": "float", "low": 0, "high": 1, "when": {"kind": ["b", "c"]}},
    }
)
REGISTRY = sorted(ng.optimizers.registry)


# ---------------------------------------------------------------- which of them serve


@pytest.mark.parametrize("name", REGISTRY)
def test_every_optimiser_of_the_registry_either_serves_or_is_left_out_with_a_reason(name: str) -> None:
    if name in UNFIT:
        with pytest.raises(ConfigError) as caught:
            Nevergrad(MIXED, ONE, optimizer=name)
        assert UNFIT[name].reason in caught.value.message
        assert f'the nearest is "{UNFIT[name].instead}"' in caught.value.message
        return
    search = Nevergrad(MIXED, ONE, optimizer=name)
    assert len(search.ask(3)) == 3
    assert sum(candidate.uid in search._optimizer._asked for candidate in search._open.values()) == 3


def test_what_is_offered_instead_serves_and_no_name_is_stale() -> None:
    offered = {unfit.instead for unfit in UNFIT.values()}
    assert not offered & UNFIT.keys()
    assert offered | UNFIT.keys() <= set(REGISTRY)


def test_the_reference_lists_the_same_names() -> None:
    pages = Path(__file__).parents[3] / "docs" / "reference"
    words = set(
        (pages / "algorithms.md").read_text(encoding="utf-8").replace("`", " ").replace(",", " ").split()
    )
    assert set(UNFIT) <= words


# ---------------------------------------------------------------- what is told


def test_failures_are_not_told() -> None:
    search = Nevergrad(SQUARE, ONE, optimizer="CMA")
    for _ in range(3):
        points = search.ask(8)
        search.tell([Observation(p.id, failure=Failure("error", "boom")) for p in points])
    assert len(search.ask(8)) == 8
    assert search._optimizer.num_tell == 0
    assert len(search._open) == 8


def test_a_batch_before_any_result_is_the_optimisers_own() -> None:
    search = Nevergrad(SQUARE, ONE)
    points = search.ask(40)
    assert len({tuple(p.params.values()) for p in points}) == 40
    assert search._optimizer.num_ask == 40
    assert all(candidate.uid in search._optimizer._asked for candidate in search._open.values())


def test_first_samples_come_from_the_whole_range() -> None:
    values = np.array([list(p.params.values()) for p in Nevergrad(SQUARE, ONE, optimizer="DE").ask(60)])
    assert values.min() < 0.1
    assert values.max() > 0.9


def test_points_of_another_are_told_where_the_optimiser_takes_them() -> None:
    for optimizer, told in (("CMA", 1), ("EDA", 0)):
        search = Nevergrad(SQUARE, ONE, optimizer=optimizer)
        search.adopt([Point(0, {"x": 0.5, "y": 0.5})])
        search.tell([Observation(0, {"loss": 1.0})])
        assert [p.id for p in search.ask(2)] == [1, 2]
        assert search._optimizer.num_tell_not_asked == told


@pytest.mark.parametrize(
    "optimizer", ["NGOpt", "CMA", "DE", "PSO", "TwoPointsDE", "NaiveTBPSA", "OnePlusOne"]
)
@pytest.mark.parametrize("objectives", [ONE, TWO], ids=["one", "two"])
def test_huge_values_do_no_harm(optimizer: str, objectives: Any) -> None:
    huge = [1e300, -1e300, 1.0, 1e-300, 0.5, 2.0, float("nan")]
    search = Nevergrad(SQUARE, objectives, optimizer=optimizer, outcome_constraints=["size <= 1"])
    for _ in range(6):
        points = search.ask(6)
        assert len(points) == 6
        search.tell(
            [
                Observation(p.id, {"loss": huge[p.id % 7], "speed": huge[-p.id % 7], "size": huge[p.id % 5]})
                for p in points
            ]
        )


def test_the_hypervolume_is_measured_from_the_references_of_the_objectives() -> None:
    goals = parse_objectives(
        {
            "loss": {"direction": "minimize", "reference": 3.0},
            "speed": {"direction": "maximize", "reference": 0.5},
        }
    )
    search = Nevergrad(SQUARE, goals, optimizer="CMA")
    assert search._optimizer._hypervolume_pareto._upper_bounds.tolist() == [3.0, -0.5]
    points = search.ask(4)
    search.tell([Observation(p.id, {"loss": p.params["x"], "speed": p.params["y"]}) for p in points])
    assert len(search.ask(4)) == 4


def test_a_small_feasible_region_is_not_left_to_chance() -> None:
    space = SearchSpace.from_dict({n: {"type": "float", "low": 0, "high": 1} for n in "xy"}, ["x + y <= 0.7"])
    search = Nevergrad(space, ONE, optimizer="DE")
    search.ask(30)
    assert sum(candidate.uid in search._optimizer._asked for candidate in search._open.values()) >= 28


@pytest.mark.parametrize("optimizer", ["CMA", "DE", "NGOpt"])
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["positive", "negative"])
def test_outcome_constraints_keep_the_search_where_they_hold(optimizer: str, sign: float) -> None:
    """The best place breaks the bound; the values are all positive, or all negative."""
    usual = []
    for constraints in (["size >= 1"], []):
        search = Nevergrad(SQUARE, ONE, 1, optimizer=optimizer, budget=200, outcome_constraints=constraints)
        for _ in range(12):
            points = search.ask(10)
            results = []
            for p in points:
                x, y = p.params["x"], p.params["y"]
                loss = (x - 0.2) ** 2 + (y - 0.2) ** 2 + (0.0 if sign > 0 else -3.0)
                results.append({"loss": loss, "size": x + y})
            search.tell([Observation(p.id, each) for p, each in zip(points, results, strict=True)])
        usual.append(float(np.median([each["size"] for each in results])))
    assert usual[0] > 0.92
    assert usual[1] < 0.88


# ---------------------------------------------------------------- penalties


def test_a_result_outside_is_worse_than_all_before_and_the_worse_the_further_outside() -> None:
    penalty = Penalty(ONE, parse_outcome_constraints(["size <= 1"]))
    assert penalty.losses({"loss": 4.0, "size": 0.5}) == [4.0]
    assert penalty.losses({"loss": 2.0, "size": 1.0}) == [2.0]
    far = penalty.losses({"loss": 0.0, "size": 5.0})
    near = penalty.losses({"loss": 0.0, "size": 2.0})
    assert (far, near) == ([8.0], [5.0])
    assert penalty.losses({"loss": 3.0, "size": 1.0}) == [3.0]


def test_it_does_so_for_what_is_to_be_large() -> None:
    penalty = Penalty(BEST, parse_outcome_constraints(["size <= 1"]))
    assert penalty.losses({"score": 0.9, "size": 0.5}) == [-0.9]
    found = penalty.losses({"score": 0.8, "size": 3.0})
    assert found is not None
    assert found[0] > -0.8


def test_every_objective_is_penalised() -> None:
    penalty = Penalty(TWO, parse_outcome_constraints(["size <= 1", "size >= -1"]))
    assert penalty.losses({"loss": 1.0, "speed": 5.0, "size": 0.0}) == [1.0, -5.0]
    assert penalty.losses({"loss": 0.0, "speed": 9.0, "size": 2.0}) == [2.0, -1.0]


@pytest.mark.parametrize("metrics", [{}, {"size": float("nan")}])
def test_without_the_metric_there_is_nothing_to_tell(metrics: dict[str, float]) -> None:
    assert Penalty(ONE, parse_outcome_constraints(["size <= 1"])).losses({"loss": 1.0, **metrics}) is None


def test_losses_stay_within_bounds() -> None:
    penalty = Penalty(ONE, parse_outcome_constraints(["size <= 1"]))
    assert penalty.losses({"loss": 1e300, "size": 0.0}) == [1e20]
    assert penalty.losses({"loss": -1e300, "size": float("inf")}) == [1e20]


@pytest.mark.slow
def test_ten_thousand_results_are_taken_in_and_the_archive_is_pruned() -> None:
    search = Nevergrad(SQUARE, ONE, optimizer="DE")
    rng = np.random.default_rng(0)
    for first in range(0, 10_000, 500):
        points = [Point(i, SQUARE.decode(row)) for i, row in enumerate(rng.random((500, 2)).tolist(), first)]
        search.adopt(points)
        search.tell([Observation(p.id, {"loss": p.params["x"]}) for p in points])
    assert len(search.ask(20)) == 20
    assert search._optimizer.num_tell == 10_000
    assert len(search._open) == 20
    assert len(search._optimizer.archive) <= 1_400
