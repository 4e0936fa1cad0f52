"""The default's choice, and what it says of it."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_steer import Observation, Point, SearchSpace, create_algorithm
from hpo_steer.algorithm import Asked, Step, Told
from hpo_steer.objectives import parse_objectives

SPACE = SearchSpace.from_dict(
    {"x": {"type": "float", "low": 0.0, "high": 1.0}, "y": {"type": "float", "low": 0.0, "high": 1.0}}
)


def _results(points: Any, goals: int = 1) -> list[Observation]:
    return [
        Observation(p.id, {f"f{i}": (p.params["x"] - 0.1 * i) ** 2 + p.params["y"] for i in range(goals)})
        for p in points
    ]


def _goals(count: int) -> Any:
    return parse_objectives({f"f{i}": "minimize" for i in range(count)})


@pytest.mark.parametrize(
    ("goals", "n", "budget", "name"),
    [
        (1, 5, None, "bayesian"),
        (1, 5, 10_000, "bayesian"),
        (1, 5, 10_001, "evolution"),
        (1, 201, None, "evolution"),
        (2, 5, 100, "mobo"),
        (6, 5, 100, "mobo"),
        (2, 101, None, "evolution"),
        (7, 5, None, "evolution"),
    ],
)
def test_the_task_decides_and_the_reason_is_said(goals: int, n: int, budget: int | None, name: str) -> None:
    search = create_algorithm("auto", SPACE, _goals(goals), seed=1, budget=budget)
    plain = create_algorithm(name, SPACE, _goals(goals), seed=1)
    assert search.ask(n) == plain.ask(n)
    assert search.note is not None
    assert search.note.startswith(f"auto chose {name}: ")
    search.ask(n)
    assert search.note is None


def test_it_changes_on_the_way_and_resumes_in_between() -> None:
    """A batch that is too large for models, and a small one after it."""
    search = create_algorithm("auto", SPACE, _goals(1), seed=1)
    history: list[Step] = []
    notes = []
    for n in (4, 8, 201, 3):
        restored = create_algorithm("auto", SPACE, _goals(1), seed=1)
        restored.restore(history)
        points = [p for p in search.ask(n) if isinstance(p, Point)]
        notes.append(search.note)
        assert restored.ask(n) == points
        assert restored.note is not None
        told = _results(points)
        search.tell(told)
        history += [Asked(n, points), Told(told)]
    assert notes[1] is None
    assert [str(note).split(":")[0] for note in (notes[0], *notes[2:])] == [
        "auto chose bayesian",
        "auto goes on with evolution",
        "auto goes on with bayesian",
    ]


def test_outcome_constraints_reach_either_method() -> None:
    for n in (10, 201):
        search = create_algorithm("auto", SPACE, _goals(1), seed=1, outcome_constraints=["size <= 1"])
        points = search.ask(n)
        search.tell(
            [
                Observation(p.id, {"f0": p.params["x"], "size": 2.0 * p.params["y"]})
                for p in points
                if isinstance(p, Point)
            ]
        )
        later = [p.params for p in search.ask(10) if isinstance(p, Point)]
        assert len(later) == 10
