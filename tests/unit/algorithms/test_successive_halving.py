"""Successive halving: rungs, who rises, and what a point that rises continues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from algorithms.successive_halving import SuccessiveHalving, rungs
from hpo_steer.algorithm import Asked, Failure, Observation, Point, Told
from hpo_steer.errors import ConfigError
from hpo_steer.objectives import parse_objectives
from hpo_steer.parameters import Float, Int
from hpo_steer.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.algorithm import Step

ONE = parse_objectives({"loss": "minimize"})
TWO = parse_objectives({"loss": "minimize", "speed": "maximize"})
EPOCHS = {"type": "int", "low": 1, "high": 27}
SPACE = SearchSpace.from_dict({"x": {"type": "float", "low": 0, "high": 1}, "epochs": EPOCHS})


def search(space: SearchSpace = SPACE, **options: Any) -> SuccessiveHalving:
    return SuccessiveHalving(space, ONE, 1, **{"budget": "epochs"} | options)


def told(points: Sequence[Point]) -> list[Observation]:
    return [Observation(p.id, {"loss": p.params["x"]}) for p in points]


@pytest.mark.parametrize(
    ("parameter", "options", "expected"),
    [
        (Int("n", 1, 27), {}, [1, 3, 9, 27]),
        (Int("n", 1, 100), {}, [1, 4, 11, 33, 100]),
        (Int("n", 1, 100), {"low": 5, "high": 50}, [6, 17, 50]),
        (Int("n", 10, 100, 10), {}, [10, 30, 100]),
        (Int("n", 1, 10, 4), {}, [1, 5, 9]),
        (Float("n", 0.01, 1.0, log=True), {"eta": 10}, [0.01, 0.1, 1.0]),
        (Float("n", 0.1, 1.0, 0.1), {"eta": 2}, [0.1, 0.2, 0.5, 1.0]),
    ],
)
def test_rungs_divide_the_budget(
    parameter: Int | Float, options: dict[str, Any], expected: list[float]
) -> None:
    eta = options.pop("eta", 3)
    found = rungs(parameter, eta, **options)
    assert found == pytest.approx(expected)
    assert [parameter.check(value) for value in found] == found


def test_the_best_third_rises_and_continues_its_checkpoint() -> None:
    asha = search()
    points = asha.ask(9)
    assert [p.params["epochs"] for p in points] == [1] * 9
    assert all(p.parent is None for p in points)
    asha.tell(told(points))
    best = sorted(points, key=lambda p: p.params["x"])[:3]
    second = asha.ask(4)
    assert [(p.parent, p.params) for p in second[:3]] == [(p.id, p.params | {"epochs": 3}) for p in best]
    assert second[3].parent is None
    assert second[3].params["epochs"] == 1
    asha.tell(told(second[:3]))
    (third,) = asha.ask(1)
    assert (third.parent, third.params) == (second[0].id, best[0].params | {"epochs": 9})


def test_a_point_rises_once_and_to_the_top_only() -> None:
    asha = search(eta=27)
    points = asha.ask(27)
    asha.tell(told(points))
    top, *others = asha.ask(3)
    assert top.params["epochs"] == 27
    asha.tell(told([top]))
    assert [p.parent for p in [*others, *asha.ask(3)]] == [None] * 5


def test_points_that_failed_do_not_rise() -> None:
    asha = search()
    points = asha.ask(6)
    best = min(points, key=lambda p: p.params["x"])
    others = [p for p in points if p is not best]
    asha.tell([*told(others), Observation(best.id, failure=Failure("pruned", "no"))])
    parents = [p.parent for p in asha.ask(3)]
    assert [parent for parent in parents if parent is not None] == [
        min(others, key=lambda p: p.params["x"]).id
    ]


def test_several_objectives_rise_by_fronts() -> None:
    asha = SuccessiveHalving(SPACE, TWO, 1, budget="epochs", eta=2)
    points = asha.ask(4)
    values = [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 0.5)]  # the first two are the front
    asha.tell([Observation(p.id, {"loss": a, "speed": b}) for p, (a, b) in zip(points, values, strict=True)])
    assert [p.parent for p in asha.ask(3)] == [0, 1, None]


def test_known_points_stand_on_the_rung_of_their_budget() -> None:
    known = [Point(i, {"x": i / 10, "epochs": epochs}) for i, epochs in enumerate([1, 1, 2, 1, 27])]
    asha = search()
    asha.restore([Asked(5, known, given=True), Told(told(known))])
    assert [(p.parent, p.params["epochs"]) for p in asha.ask(2)] == [(0, 3), (None, 1)]


def test_a_finite_space_ends_when_nobody_can_rise_any_more() -> None:
    space = SearchSpace.from_dict({"x": {"type": "int", "low": 0, "high": 8}, "epochs": EPOCHS})
    asha = search(space)
    history: list[Step] = []
    seen: list[Point] = []
    for _ in range(20):
        points = asha.ask(4)
        if not points:
            break
        assert len(points) == 4 or asha.short is not None
        seen += points
        asha.tell(told(points))
        history += [Asked(4, points), Told(told(points))]
    assert asha.ended is not None
    assert sorted(p.params["epochs"] for p in seen) == [1] * 9 + [3] * 3 + [9]
    again = search(space)
    again.restore(history)
    assert again.ask(4) == []
    assert again.ended == asha.ended


def test_it_waits_for_results_where_no_new_point_is_left() -> None:
    asha = search(SearchSpace.from_dict({"x": {"type": "int", "low": 0, "high": 2}, "epochs": EPOCHS}))
    points = asha.ask(5)
    assert len(points) == 3
    assert (asha.ended, asha.short is None) == (None, False)
    assert asha.ask(1) == []
    asha.tell(told(points))
    assert [p.params for p in asha.ask(1)] == [{"x": 0, "epochs": 3}]


def test_a_constraint_holds_on_every_rung() -> None:
    space = SearchSpace.from_dict(
        {"x": {"type": "float", "low": 0, "high": 1}, "epochs": EPOCHS}, ["epochs * x <= 5"]
    )
    asha = search(space)
    done: list[Point] = []
    for _ in range(40):
        points = asha.ask(6)
        done += points
        asha.tell([Observation(p.id, {"loss": abs(p.params["x"] - 0.5)}) for p in points])
    assert all(space.broken(p.params) is None for p in done)
    assert max(p.params["epochs"] for p in done) >= 9


@pytest.mark.parametrize(
    ("space", "options", "key", "says"),
    [
        ({}, {"budget": None}, "algorithm.budget", "names the parameter that says how long a training lasts"),
        ({}, {"budget": "epoch"}, "algorithm.budget", 'did you mean "epochs"?'),
        ({"epochs": {"type": "categorical", "choices": [1, 3]}}, {}, "algorithm.budget", "is a categorical"),
        ({"epochs": {"type": "int", "low": 0, "high": 9}}, {}, "algorithm.budget", "above 0"),
        ({"epochs": EPOCHS | {"when": {"k": 1}}}, {}, "algorithm.budget", 'a budget has no "when"'),
        (
            {"k": {"type": "int", "low": 0, "high": 1, "when": {"epochs": 3}}},
            {},
            "algorithm.budget",
            "depend on",
        ),
        ({}, {"eta": 1}, "algorithm.eta", "2 or more"),
        ({}, {"max": 30}, "algorithm.max", "from 1 to 27"),
        ({}, {"max": 2.5}, "algorithm.max", "no whole number"),
        ({}, {"min": 10}, "algorithm.min", "one rung only from 10 to 27"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    space: dict[str, Any], options: dict[str, Any], key: str, says: str
) -> None:
    base = {"k": {"type": "int", "low": 0, "high": 1}, "epochs": EPOCHS}
    with pytest.raises(ConfigError) as caught:
        search(SearchSpace.from_dict(base | space), **options)
    assert caught.value.key == key
    assert says in caught.value.message
