"""Single steps and other choices beside the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from algorithms.features import Features
from algorithms.local_search import LocalSearch, steps
from hpo_steer.space import SearchSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from algorithms.kernel import Array

SPACE = SearchSpace.from_dict(
    {
        "n": {"type": "int", "low": 0, "high": 9},
        "step": {"type": "float", "low": 0, "high": 1, "step": 0.25},
        "kind": {"type": "categorical", "choices": ["a", "b", "c"]},
        "x": {"type": "float", "low": 0, "high": 1},
        "deep": {"type": "int", "low": 1, "high": 5, "when": {"kind": "c"}},
    },
    ["n + deep <= 12"],
)
FEATURES = Features(SPACE)
START = {"n": 0, "step": 0.5, "kind": "a", "x": 0.3}


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("n", 0, [1]),
        ("n", 4, [3, 5]),
        ("step", 1.0, [0.75]),
        ("step", 0.25, [0.0, 0.5]),
        ("kind", "b", ["a", "c"]),
        ("x", 0.3, []),
    ],
)
def test_a_step_is_the_next_value_or_another_choice(name: str, value: object, near: list[object]) -> None:
    assert steps(SPACE[name], value) == near


def test_neighbours_differ_in_one_parameter_and_are_points_of_the_space() -> None:
    found = FEATURES.neighbours(START)
    assert {"n": 0, "step": 0.5, "kind": "c", "x": 0.3, "deep": 3} in found
    assert len(found) == 1 + 2 + 2
    for params in found:
        assert SPACE.validate(params) == params
    edge = START | {"n": 9, "kind": "c", "deep": 3}
    assert all(params.get("deep") != 4 for params in FEATURES.neighbours(edge))


def test_choices_and_steps_are_found_far_from_the_start() -> None:
    target = {"n": 3, "step": 1.0, "kind": "c", "x": 0.3, "deep": 2}
    goal = FEATURES.of([target])

    def score(at: Array) -> Array:
        distance: Array = -((at - goal) ** 2).sum(1)
        return distance

    def polish(at: Array, free: NDArray[np.bool_]) -> Array:
        return np.where(free, goal, at)

    start = START | {"x": 0.9}
    points, values = LocalSearch(FEATURES, score, polish).run([start, target])
    assert len(points) == len(values)
    assert score(FEATURES.of(points)) == pytest.approx(values)
    assert points[int(np.argmax(values))] == target
    alone, _ = LocalSearch(FEATURES, score, polish).run([start])
    reached = max(alone, key=lambda params: float(score(FEATURES.of([params]))[0]))
    assert reached["x"] == pytest.approx(0.3)
    assert reached["kind"] == "c"
