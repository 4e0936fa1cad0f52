"""Generators of the standard as algorithms: their VOCS, their points, and what can go wrong."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo_steer.algorithm import Asked, Failure, Observation, Point, SearchAlgorithm, Told
from hpo_steer.config import validate
from hpo_steer.config.load import check_algorithms
from hpo_steer.errors import AlgorithmError, ConfigError
from hpo_steer.generator_classes import seeded
from hpo_steer.generators import generator_algorithm
from hpo_steer.guests import Guest
from hpo_steer.objectives import parse_objectives
from hpo_steer.outcomes import parse_outcome_constraints
from hpo_steer.registry import build
from hpo_steer.space import SearchSpace
from hpo_steer.vocs import Translation
from tests.unit import odd_generators

pytest.importorskip("gest_api", reason='pip install -e ".[gest]"')

SPACE = SearchSpace.from_dict(
    {
        "x": {"type": "float", "low": -1, "high": 3},
        "eta": {"type": "float", "low": 1e-4, "high": 1, "log": True},
        "rate": {"type": "float", "low": 0, "high": 0.75, "step": 0.1},
        "depth": {"type": "int", "low": 2, "high": 12, "step": 2},
        "width": {"type": "int", "low": 1, "high": 512, "log": True},
        "kind": {"type": "categorical", "choices": ["b", "a", None]},
        "batch": {"type": "categorical", "choices": [64, 16, 32]},
    }
)
LINE = SearchSpace.from_dict({"x": {"type": "float", "low": 0, "high": 1}})
GOAL = parse_objectives({"loss": "minimize"})


def make(kind: type[Any], space: SearchSpace = LINE, *, forbid: bool = False, **options: Any) -> Any:
    return build(generator_algorithm(kind, "mine", forbid=forbid), "mine", space, GOAL, 5, options)


def told(points: list[Point]) -> list[Observation]:
    return [Observation(p.id, {"loss": float(p.params["x"])}) for p in points]


class TestTranslation:
    def test_the_vocs_has_every_kind_of_parameter(self) -> None:
        vocs = Translation(SPACE, parse_objectives({"loss": "minimize", "speed": "maximize"})).vocs()
        domains = {n: v.domain for n, v in vocs.variables.items() if hasattr(v, "domain")}
        assert domains["x"] == [-1, 3]
        assert domains["eta"] == [-4, 0]
        assert domains["rate"] == pytest.approx([-0.05, 0.75])  # 0.7 is the last value
        assert domains["depth"] == [1, 13]
        assert domains["width"] == pytest.approx([math.log10(0.5), math.log10(512.5)])
        assert vocs.variables["kind"].values == {0, 1, 2}
        assert vocs.variables["batch"].values == {16, 32, 64}
        kinds = {name: type(goal).__name__ for name, goal in vocs.objectives.items()}
        assert kinds == {"loss": "MinimizeObjective", "speed": "MaximizeObjective"}

    def test_points_go_there_and_back(self) -> None:
        translation = Translation(SPACE, GOAL)
        for params in SPACE.sample(200, np.random.default_rng(0)):
            back = translation.from_generator(translation.to_generator(params))
            assert back == {**params, "eta": pytest.approx(params["eta"])}
            SPACE.validate(back)

    def test_suggestions_are_rounded_to_values_of_equal_shares(self) -> None:
        space = SearchSpace.from_dict({"k": {"type": "int", "low": 1, "high": 3}})
        translation = Translation(space, GOAL)
        found = [translation.from_generator({"k": 0.5 + 3 * i / 299})["k"] for i in range(300)]
        assert [found.count(k) for k in (1, 2, 3)] == [100, 100, 100]

    def test_scalars_of_other_libraries_are_numbers(self) -> None:
        translation = Translation(SPACE, GOAL)
        row = translation.to_generator(SPACE.sample(1, np.random.default_rng(1))[0])
        given = {name: np.array(value) for name, value in row.items()}
        assert translation.from_generator(given) == translation.from_generator(row)

    def test_bounds_on_metrics_are_constraints(self) -> None:
        bounds = parse_outcome_constraints(["ms <= 20", "ms >= 1", "loss <= 3"])
        translation = Translation(SPACE, GOAL, bounds)
        found = {name: (type(c).__name__, c.value) for name, c in translation.vocs().constraints.items()}
        assert found == {
            "ms": ("LessThanConstraint", 20),
            "ms >= 1": ("GreaterThanConstraint", 1),
            "loss <= 3": ("LessThanConstraint", 3),
        }
        assert translation.results({"loss": 2, "ms": 7}) == {"loss": 2, "ms": 7, "ms >= 1": 7, "loss <= 3": 2}

    @pytest.mark.parametrize(
        ("spec", "key", "text"),
        [
            (
                {
                    "kind": {"type": "categorical", "choices": ["a", "b"]},
                    "drop": {"type": "float", "low": 0, "high": 1, "when": {"kind": "b"}},
                },
                "search_space.drop.when",
                '"drop" is conditional',
            ),
            ({"loss": {"type": "float", "low": 0, "high": 1}}, "search_space.loss", "rename the parameter"),
            ({"_id": {"type": "float", "low": 0, "high": 1}}, "search_space._id", "rename the parameter"),
        ],
    )
    def test_what_has_no_form_is_named(self, spec: dict[str, Any], key: str, text: str) -> None:
        with pytest.raises(ConfigError, match=text) as caught:
            Translation(SearchSpace.from_dict(spec), GOAL)
        assert caught.value.key == key


class TestSuggestions:
    @pytest.mark.parametrize("kind", [odd_generators.Plain, odd_generators.Few, odd_generators.Many])
    @pytest.mark.parametrize("n", [1, 4, 25])
    def test_however_many_it_gives_an_ask_returns_exactly_as_many_as_wanted(
        self, kind: type[Any], n: int
    ) -> None:
        search = make(kind, SPACE)
        assert [p.id for p in search.ask(n)] == list(range(n))
        assert [p.id for p in search.ask(3)] == list(range(n, n + 3))

    def test_it_gets_back_what_it_suggested_with_the_result(self) -> None:
        search = make(odd_generators.Plain)
        points = search.ask(3)
        search.tell(told(points)[::-1])
        search.ask(1)
        rows = search._generator.told
        assert [(row["_id"], row["mine"]) for row in rows] == [(1, "kept"), (2, "kept"), (3, "kept")]
        assert [row["loss"] for row in rows] == [p.params["x"] for p in points]

    def test_points_of_others_come_without_an_id(self) -> None:
        search = make(odd_generators.Plain)
        search.adopt([Point(0, {"x": 0.25})])
        search.tell([Observation(0, {"loss": 7.0})])
        assert search.ask(1)[0].id == 1
        assert search._generator.told == [{"x": 0.25, "loss": 7.0}]

    def test_a_sequential_one_takes_no_others_and_says_so(self) -> None:
        search = make(odd_generators.Single)
        mine = search.ask(1)
        search.adopt([Point(1, {"x": 0.5})])
        search.tell([*told(mine), Observation(1, {"loss": 7.0})])
        assert [p.id for p in search.ask(1)] == [2]
        assert "takes no results of points that it did not suggest" in search.note
        assert [row["_id"] for row in search._generator.told] == [1]

    def test_failures_are_left_out_or_told_as_nan(self) -> None:
        for failures, expected in (("drop", []), ("nan", [True])):
            search = make(odd_generators.Plain, failures=failures)
            search.tell([Observation(p.id, failure=Failure("error", "no")) for p in search.ask(1)])
            search.ask(1)
            assert [math.isnan(row["loss"]) for row in search._generator.told] == expected

    def test_one_that_must_see_results_first_begins_with_random_points(self) -> None:
        search = make(odd_generators.Late)
        points = search.ask(3)
        assert "has results to begin with (RuntimeError: no data)" in search.note
        search.tell(told(points))
        search.ask(2)
        assert search.note is None
        assert [set(row) for row in search._generator.told] == [{"x", "loss"}] * 3

    def test_initial_points_come_before_it_is_asked(self) -> None:
        search = make(odd_generators.Plain, initial_points=4)
        search.ask(3)
        assert search._generator.number == 0
        search.ask(3)
        assert search._generator.number == 2

    def test_what_breaks_a_constraint_is_replaced(self) -> None:
        space = SearchSpace.from_dict({"x": {"type": "float", "low": 0, "high": 1}}, ["x <= 0.5"])
        assert all(p.params["x"] <= 0.5 for p in make(odd_generators.Plain, space).ask(30))
        search = make(odd_generators.Same, space)
        assert len(search.ask(3)) == 3
        assert search.note == "3 of 3 points are random: what mine suggests breaks a constraint"

    def test_duplicates_pass_unless_they_are_forbidden(self) -> None:
        assert len({p.params["x"] for p in make(odd_generators.Same).ask(5)}) == 1
        assert len({p.params["x"] for p in make(odd_generators.Same, forbid=True).ask(5)}) == 5

    def test_a_finite_space_ends_where_duplicates_are_forbidden(self) -> None:
        space = SearchSpace.from_dict({"x": {"type": "int", "low": 1, "high": 3}})
        search = make(odd_generators.Plain, space, forbid=True)
        assert sorted(p.params["x"] for p in search.ask(5)) == [1, 2, 3]
        assert "nothing new" in search.ended
        assert search.ask(1) == []

    @pytest.mark.parametrize(
        ("kind", "n", "text"),
        [
            (odd_generators.Silent, 2, "suggested 0 of 2 points, and nothing more in 10 tries"),
            (odd_generators.Outside, 1, "x: 1000000000.0 lies outside 0 to 1"),
        ],
    )
    def test_what_is_no_point_is_an_error(self, kind: type[Any], n: int, text: str) -> None:
        with pytest.raises(AlgorithmError, match=text):
            make(kind).ask(n)

    def test_one_that_gives_single_points_names_the_remedy(self) -> None:
        search = make(odd_generators.Single)
        search.tell(told(search.ask(1)))
        with pytest.raises(AlgorithmError, match=r"one at a time.*points_per_iteration: 1"):
            search.ask(2)

    def test_a_result_without_a_metric_is_an_error(self) -> None:
        search = make(odd_generators.Plain, outcome_constraints=["ms <= 20"])
        points = search.ask(1)
        with pytest.raises(AlgorithmError, match='result of point 0 lacks "ms"'):
            search.tell(told(points))


class TestRepeating:
    def test_global_random_numbers_are_seeded_and_put_back(self) -> None:
        random.seed(1)
        np.random.seed(1)
        ahead = make(odd_generators.Plain, SPACE).ask(5)
        here = random.random(), np.random.random()  # noqa: S311
        random.seed(1)
        np.random.seed(1)
        assert here == (random.random(), np.random.random())  # noqa: S311
        assert [p.params for p in make(odd_generators.Plain, SPACE).ask(5)] == [p.params for p in ahead]

    def test_pytorch_is_seeded_too(self) -> None:
        torch = pytest.importorskip("torch")
        before = torch.get_rng_state()
        drawn = []
        for _ in range(2):
            with seeded(1, 2):
                drawn.append(torch.rand(3).tolist())
        assert drawn[0] == drawn[1]
        assert torch.equal(before, torch.get_rng_state())

    def test_one_that_repeats_itself_no_more_goes_on_from_what_is_recorded(self) -> None:
        search = make(odd_generators.Unseeded)
        points = search.ask(3)
        results = told(points)
        search.tell(results[:2])
        restored = make(odd_generators.Unseeded)
        restored.restore([Asked(3, points), Told(results[:2])])
        restored.tell(results[2:])
        assert [p.id for p in restored.ask(2)] == [3, 4]
        assert [row["loss"] for row in restored._generator.told] == [p.params["x"] for p in points]


class TestConfig:
    def guest(self, **spec: Any) -> Guest:
        return Guest(spec, LINE, GOAL, 1, Path(odd_generators.__file__).parent)

    def test_a_class_of_a_file_is_found(self) -> None:
        guest = self.guest(generator="odd_generators.py:Plain", width=0.5)
        assert guest.name == "odd_generators.py:Plain"
        assert [p.id for p in guest.ask(2)] == [0, 1]

    @pytest.mark.parametrize(
        ("spec", "text"),
        [
            ({"generator": "odd_generators.py:Plane"}, 'has no class "Plane"'),
            ({"generator": "nix_at_all:Plain"}, "is nix_at_all installed there"),
            ({"generator": "test_generators.py:SPACE"}, "is no generator: a class with suggest"),
            ({"generator": "odd_generators.py:Plain", "widht": 2}, 'did you mean "width"'),
            ({"generator": "odd_generators.py:Plain", "failures": "drp"}, 'did you mean "drop"'),
            ({"generator": "odd_generators.py:Plain", "initial_points": -1}, "whole number from 0 on"),
        ],
    )
    def test_what_is_wrong_is_named(self, spec: dict[str, Any], text: str) -> None:
        with pytest.raises(ConfigError, match=text) as caught:
            self.guest(**spec)
        assert caught.value.key.startswith("algorithm.")

    @pytest.mark.parametrize(
        ("algorithm", "text"),
        [
            ({"generater": "a:B"}, 'did you mean "generator"'),
            ({"generator": "a:B", "name": "random"}, "and has name and generator"),
            ({"generator": "xopt"}, "expected FILE.py:CLASS or module:CLASS"),
        ],
    )
    def test_a_config_says_which_form_it_means(self, algorithm: dict[str, Any], text: str) -> None:
        config = {
            "name": "demo",
            "search_space": LINE.to_dict(),
            "objectives": {"loss": "minimize"},
            "algorithm": algorithm,
            "evaluation": {"function": "train.py:train"},
        }
        with pytest.raises(ConfigError, match=text):
            check_algorithms(validate(config))

    def test_the_class_is_a_search_algorithm(self) -> None:
        assert issubclass(generator_algorithm(odd_generators.Plain, "mine"), SearchAlgorithm)
