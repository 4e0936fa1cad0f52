"""Population-based training: who goes on, who is replaced, and by what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from algorithms.perturbation import Perturbation
from algorithms.population import PopulationBasedTraining
from hpo_steer.algorithm import Asked, Failure, Observation, Point, Told
from hpo_steer.errors import ConfigError
from hpo_steer.objectives import parse_objectives
from hpo_steer.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.algorithm import Step

ONE = parse_objectives({"loss": "minimize"})
TWO = parse_objectives({"loss": "minimize", "speed": "maximize"})
SPACE = SearchSpace.from_dict(
    {
        "rate": {"type": "float", "low": 1e-4, "high": 1, "log": True},
        "units": {"type": "int", "low": 8, "high": 64},
    }
)


def search(space: SearchSpace = SPACE, **options: Any) -> PopulationBasedTraining:
    return PopulationBasedTraining(space, ONE, 1, **{"population": 4} | options)


def told(points: Sequence[Point], losses: Sequence[float]) -> list[Observation]:
    return [Observation(p.id, {"loss": loss}) for p, loss in zip(points, losses, strict=True)]


def test_the_worst_goes_on_from_the_best_with_other_parameters() -> None:
    pbt = search()
    first = pbt.ask(4)
    assert [p.parent for p in first] == [None] * 4
    pbt.tell(told(first, [3.0, 1.0, 2.0, 4.0]))
    second = pbt.ask(4)
    assert [p.parent for p in second] == [0, 1, 2, 1]
    assert [p.params for p in second[:3]] == [p.params for p in first[:3]]
    assert second[3].params not in [p.params for p in first]


def test_nobody_waits_for_the_others() -> None:
    pbt = search()
    first = pbt.ask(4)
    pbt.tell(told(first[2:3], [9.0]))
    (second,) = pbt.ask(1)
    assert (second.parent, second.params) == (2, first[2].params)  # alone it is neither best nor worst


def test_more_points_than_trainings_continue_the_best_and_the_worst_are_dropped() -> None:
    pbt = search(exploit=0.25)
    first = pbt.ask(4)
    pbt.tell(told(first, [1.0, 2.0, 3.0, 4.0]))
    second = pbt.ask(7)
    assert [p.parent for p in second] == [0, 1, 2, 0, 0, 0, 0]
    pbt.tell(told(second, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]))
    third = pbt.ask(6)
    assert [p.parent for p in third] == [4, 5, 6, 7, 8, 9]  # that of 10 is dropped: there are too many


@pytest.mark.parametrize("kind", ["error", "pruned", "lost", "invalid"])
def test_a_failed_training_is_replaced(kind: Any) -> None:
    pbt = search()
    first = pbt.ask(4)
    pbt.tell([*told(first[:3], [3.0, 1.0, 2.0]), Observation(3, failure=Failure(kind, "no"))])
    assert [p.parent for p in pbt.ask(4)][:3:2] == [1, 2]  # the worst with values is replaced as well
    pbt = search()
    pbt.ask(4)
    pbt.tell([Observation(i, failure=Failure(kind, "no")) for i in range(4)])
    assert [p.parent for p in pbt.ask(4)] == [None] * 4


def test_several_objectives_replace_what_they_dominate() -> None:
    pbt = PopulationBasedTraining(SPACE, TWO, 1, population=4)
    first = pbt.ask(4)
    values = [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (1.5, 0.5)]
    pbt.tell([Observation(p.id, {"loss": a, "speed": b}) for p, (a, b) in zip(first, values, strict=True)])
    assert [p.parent for p in pbt.ask(4)] == [0, 1, 2, 0]
    pbt = PopulationBasedTraining(SPACE, TWO, 1, population=4)
    first = pbt.ask(4)
    pbt.tell([Observation(p.id, {"loss": float(p.id), "speed": float(p.id)}) for p in first])
    assert [p.parent for p in pbt.ask(4)] == [0, 1, 2, 3]  # none is better than another


def test_kept_parameters_stay_as_they_are() -> None:
    pbt = search(keep=["units"], population=6)
    units: dict[int, int] = {}
    for _ in range(8):
        points = pbt.ask(6)
        for p in points:
            units[p.id] = p.params["units"]
            assert p.parent is None or p.params["units"] == units[p.parent]
        pbt.tell(told(points, [p.params["rate"] for p in points]))


def test_it_begins_near_known_points() -> None:
    known = [Point(i, {"rate": 0.01 * (i + 1), "units": 8 + i}) for i in range(8)]
    pbt = search(perturb=1.001, resample=0.0)
    pbt.restore([Asked(8, known, given=True), Told(told(known, [float(i) for i in range(8)]))])
    first = pbt.ask(4)
    assert [p.parent for p in first] == [None] * 4
    assert [p.params["rate"] for p in first[:2]] == pytest.approx([0.01, 0.02], rel=0.01)


def test_a_space_of_one_point_has_one_training() -> None:
    pbt = search(SearchSpace.from_dict({"only": {"type": "categorical", "choices": ["this"]}}))
    points = pbt.ask(3)
    assert [p.params for p in points] == [{"only": "this"}]
    assert pbt.short is not None
    assert pbt.ask(2) == []
    pbt.tell(told(points, [1.0]))
    assert pbt.ask(3) == [Point(1, {"only": "this"}, 0)]
    pbt.tell([Observation(1, failure=Failure("error", "no"))])
    assert pbt.ask(1) == []
    assert pbt.ended is not None


def test_a_history_that_it_would_not_have_made_becomes_its_population() -> None:
    pbt = search()
    drawn = [Point(i, {"rate": 0.1 + i / 100, "units": 10}) for i in range(6)]
    history: list[Step] = [Asked(6, drawn), Told(told(drawn, [5.0, 4.0, 3.0, 2.0, 1.0, 0.5]))]
    pbt.restore([*history, Asked(1, [Point(6, drawn[5].params, 5)])])
    after = pbt.ask(3)
    assert [p.id for p in after] == [7, 8, 9]
    assert {p.parent for p in after} <= {
        2,
        3,
        4,
    }  # the best that nobody has continued, beside the one under way


def test_many_points_stay_in_one_population() -> None:
    pbt = search(population=10)
    rng = np.random.default_rng(1)
    history: list[Step] = []
    pending: list[Point] = []
    for _ in range(300):
        pending += (points := pbt.ask(5))
        history.append(Asked(5, points))
        rng.shuffle(pending)
        ended, pending = pending[:5], pending[5:]
        results = told(ended, rng.random(5).tolist())
        pbt.tell(results)
        history.append(Told(results))
    restored = search(population=10)
    restored.restore(history)
    assert restored.ask(7) == pbt.ask(7)


@pytest.mark.parametrize(
    ("options", "key", "says"),
    [
        ({"population": 1}, "algorithm.population", "2 or more"),
        ({"exploit": 0.6}, "algorithm.exploit", "from 0.0 to 0.5"),
        ({"perturb": 1}, "algorithm.perturb", "a factor above 1"),
        ({"resample": 2}, "algorithm.resample", "from 0.0 to 1.0"),
        ({"keep": "units"}, "algorithm.keep", "a list of parameters"),
        ({"keep": ["unit"]}, "algorithm.keep", 'did you mean "units"?'),
    ],
)
def test_what_cannot_be_is_said_at_once(options: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        search(**options)
    assert caught.value.key == key
    assert says in caught.value.message


class TestPerturbation:
    def changed(self, spec: dict[str, Any], params: dict[str, Any], n: int = 40, **options: Any) -> list[Any]:
        space = SearchSpace.from_dict(spec)
        perturbation = Perturbation(
            space, options.pop("factor", 1.2), options.pop("resample", 0.0), **options
        )
        rng = np.random.default_rng(1)
        return [perturbation.changed(params, rng) for _ in range(n)]

    def test_numbers_are_multiplied_or_divided(self) -> None:
        found = self.changed({"x": {"type": "float", "low": 1e-4, "high": 1, "log": True}}, {"x": 0.01})
        assert {round(p["x"], 8) for p in found} == {0.012, round(0.01 / 1.2, 8)}

    def test_numbers_stop_at_the_ends(self) -> None:
        found = self.changed({"x": {"type": "float", "low": 0.5, "high": 1}}, {"x": 0.95}, factor=3.0)
        assert {p["x"] for p in found} == {0.5, 1.0}

    def test_ranges_with_negative_values_move_by_a_share_of_the_range(self) -> None:
        found = self.changed({"x": {"type": "float", "low": -1, "high": 1}}, {"x": 0.0})
        assert {round(p["x"], 8) for p in found} == {-0.2, 0.2}

    @pytest.mark.parametrize(
        ("spec", "value", "expected"),
        [
            ({"type": "int", "low": 1, "high": 9}, 2, {1, 3}),
            ({"type": "int", "low": 1, "high": 9}, 1, {2}),
            ({"type": "int", "low": 1, "high": 9}, 9, {7, 8}),
            ({"type": "int", "low": 1, "high": 512, "log": True}, 100, {83, 120}),
            ({"type": "int", "low": 0, "high": 100, "step": 10}, 0, {10}),
            ({"type": "float", "low": 0, "high": 0.6, "step": 0.1}, 0.3, {0.2, 0.4}),
        ],
    )
    def test_numbers_with_steps_move_by_one_at_least(
        self, spec: dict[str, Any], value: float, expected: set[float]
    ) -> None:
        assert {p["x"] for p in self.changed({"x": spec}, {"x": value})} == expected

    def test_something_changes_if_only_choices_are_there(self) -> None:
        spec = {"k": {"type": "categorical", "choices": ["a", "b", "c"]}}
        assert {p["k"] for p in self.changed(spec, {"k": "a"})} == {"a", "b", "c"}

    def test_what_a_change_switches_on_is_drawn(self) -> None:
        spec = {
            "k": {"type": "categorical", "choices": ["a", "b"]},
            "x": {"type": "float", "low": 0, "high": 1, "when": {"k": "b"}},
        }
        found = self.changed(spec, {"k": "a"})
        space = SearchSpace.from_dict(spec)
        assert all(space.validate(p) == p for p in found)
        assert len({p["x"] for p in found if "x" in p}) > 5

    def test_kept_parameters_are_kept_to_the_last_digit(self) -> None:
        spec = {n: {"type": "float", "low": 1e-4, "high": 1, "log": True} for n in "xy"}
        found = self.changed(spec, {"x": 0.1, "y": 1 / 3}, resample=1.0, keep=["y"])
        assert {p["y"] for p in found} == {1 / 3}
        assert len({p["x"] for p in found}) == 40
