"""The Bayesian method under outcome constraints, partly known noise, and very many results."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from algorithms.bayesian import Bayesian
from algorithms.surrogate import surrogates
from hpo_steer.algorithm import Asked, Observation, Point, Step, Told
from hpo_steer.errors import ConfigError
from hpo_steer.objectives import parse_objectives
from hpo_steer.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Callable

GOALS = parse_objectives({"loss": "minimize"})
SQUARE = SearchSpace.from_dict({n: {"type": "float", "low": 0, "high": 1} for n in "xy"})


def searched(
    measure: Callable[[float, float], dict[str, float]], rounds: int, seed: int = 0
) -> list[dict[str, float]]:
    """All values of a search under ``ms <= 20``, in order."""
    search = Bayesian(SQUARE, GOALS, seed, outcome_constraints=["ms <= 20"])
    found = []
    for _ in range(rounds):
        points = search.ask(6)
        values = [measure(p.params["x"], p.params["y"]) for p in points]
        search.tell([Observation(p.id, v) for p, v in zip(points, values, strict=True)])
        found += values
    return found


def test_the_best_point_within_a_constraint_is_found() -> None:
    """The loss falls until the constraint stops it, at x = 0.5."""
    found = searched(lambda x, y: {"loss": -x + (y - 0.3) ** 2, "ms": 40.0 * x}, 5)
    best = min(v["loss"] for v in found if v["ms"] <= 20.0)
    assert -0.5 <= best < -0.49


def test_a_small_feasible_region_is_sought_and_then_searched() -> None:
    def measure(x: float, y: float) -> dict[str, float]:
        return {"loss": x, "ms": 20.0 + 1000.0 * ((x - 0.8) ** 2 + (y - 0.2) ** 2 - 0.05**2)}

    found = searched(measure, 6)
    inside = [v["loss"] for v in found if v["ms"] <= 20.0]
    assert not any(v["ms"] <= 20.0 for v in found[:6])  # the initial points miss it
    assert min(inside) == pytest.approx(0.75, abs=0.01)


def test_a_constraint_that_nothing_keeps_or_that_is_never_measured_does_no_harm() -> None:
    assert len(searched(lambda x, _: {"loss": x, "ms": 99.0}, 3)) == 18
    assert len(searched(lambda x, _: {"loss": x}, 3)) == 18
    assert len(searched(lambda x, y: {"loss": x, "ms": math.inf if y > 0.5 else 1e300 * (x - 0.5)}, 3)) == 18


def test_a_constraint_may_be_on_the_objective() -> None:
    search = Bayesian(SQUARE, GOALS, outcome_constraints=["loss >= 0.2"])
    losses: list[float] = []
    for _ in range(4):
        points = search.ask(6)
        losses += [p.params["x"] for p in points]
        search.tell([Observation(p.id, {"loss": p.params["x"]}) for p in points])
    assert min(loss for loss in losses if loss >= 0.2) < 0.22


def test_a_search_with_constraints_goes_on_after_a_restart() -> None:
    def new() -> Bayesian:
        return Bayesian(SQUARE, GOALS, 3, initial_points=6, outcome_constraints=["ms <= 20"])

    search = new()
    history: list[Step] = []
    for _ in range(2):
        points = search.ask(6)
        told = [
            Observation(p.id, {"loss": p.params["x"], "ms": 40.0 * p.params["y"]}, sem={"ms": 0.1})
            for p in points[1:]
        ]
        search.tell(told)
        history += [Asked(6, points), Told(told)]
    restored = new()
    restored.restore(history)
    assert restored.ask(5) == search.ask(5)


def test_a_constraint_that_cannot_be_read_is_said_at_once() -> None:
    with pytest.raises(ConfigError, match="expected a metric"):
        Bayesian(SQUARE, GOALS, outcome_constraints=["ms < 20"])


def test_noise_that_is_known_for_some_points_counts_there_and_is_learnt_elsewhere() -> None:
    rng = np.random.default_rng(0)
    search = Bayesian(SQUARE, GOALS, 0, initial_points=40)
    points = search.ask(40)
    search.tell(
        [
            Observation(
                p.id,
                {"loss": p.params["x"] + (0.3 * rng.normal() if p.id % 2 else 0.0)},
                sem=None if p.id % 2 else {"loss": 1e-3},
            )
            for p in points
        ]
    )
    known = search._known()
    assert known.noise is not None
    assert np.isnan(known.noise).sum() == 20
    for model in surrogates(known.features, known.outcomes, known.noise):
        noise = model.fitted.noise
        assert noise[::2].max() < 1e-3
        assert noise[1::2].min() > 0.02
    assert len(search.ask(3)) == 3


def test_ten_thousand_results_leave_the_models_small() -> None:
    search = Bayesian(SQUARE, GOALS, 0, candidates=64)
    rows = np.random.default_rng(0).random((10_000, 2)).tolist()
    search.adopt([Point(i, {"x": x, "y": y}) for i, (x, y) in enumerate(rows)])
    search.tell([Observation(i, {"loss": (x - 0.3) ** 2 + y}) for i, (x, y) in enumerate(rows)])
    assert len(search._known().params) == 800
    (point,) = search.ask(1)
    assert point.params["y"] < 0.1


def test_after_22_points_the_model_is_asked_however_many_parameters_there_are() -> None:
    space = SearchSpace.from_dict({f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(30)})
    rising, falling = (Bayesian(space, GOALS, 0, candidates=64) for _ in range(2))
    for search, sign in ((rising, 1.0), (falling, -1.0)):
        points = search.ask(11) + search.ask(11)
        search.tell([Observation(p.id, {"loss": sign * p.params["x0"]}) for p in points])
    high, low = (search.ask(1)[0].params["x0"] for search in (falling, rising))
    assert high > 0.8
    assert low < 0.2
