"""Problems whose spaces are not a box of floats: mixed, conditional, and with invalid regions."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from benchmarks.search.problem import FLOOR, Outcome, Problem, typical_regret, value_of
from hpo_steer import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpo_steer.space import Params

_PLACES = {"oak": 2.5, "elm": 0.0, "ash": 6.0, "fir": -4.0, "yew": 9.0}
"""Where the choices of the mixed problem lie on Ackley's axes, in no order."""


def of_function(
    name: str,
    summary: str,
    spec: dict[str, Any],
    function: Callable[[Params], float | None],
    solution: Params,
    **more: Any,
) -> Problem:
    """A problem from its function, which returns None where a point is invalid; `more` as for `Problem`."""

    def evaluate(params: Params) -> Outcome:
        value = function(params)
        return Outcome(None, failure="outside the valid region") if value is None else Outcome((value,))

    space = SearchSpace.from_dict(spec)
    best = value_of(evaluate, solution)
    scale = typical_regret(space, evaluate, best)
    return Problem(name, summary, space, evaluate, best, scale, FLOOR * scale, solution, **more)


def ackley(z: Sequence[float]) -> float:
    """Ackley's function, 0 at the origin."""
    square = sum(x * x for x in z) / len(z)
    waves = sum(math.cos(2.0 * math.pi * x) for x in z) / len(z)
    return 20.0 - 20.0 * math.exp(-0.2 * math.sqrt(square)) + math.e - math.exp(waves)


def mixed(name: str) -> Problem:
    """Ackley over 5 floats, 3 integers and 2 unordered choices of five; its optimum is 0."""
    floats, ints, choices = [f"x{i}" for i in range(5)], [f"n{i}" for i in range(3)], ["c0", "c1"]
    spec: dict[str, Any] = {key: {"type": "float", "low": -6.0, "high": 10.0} for key in floats}
    spec |= {key: {"type": "int", "low": 0, "high": 12} for key in ints}
    spec |= {key: {"type": "categorical", "choices": list(_PLACES)} for key in choices}

    def function(params: Params) -> float:
        z = [params[key] for key in floats]
        z += [float(params[key] - 4) for key in ints]
        return ackley(z + [_PLACES[params[key]] for key in choices])

    solution: Params = dict.fromkeys(floats, 0.0) | dict.fromkeys(ints, 4) | dict.fromkeys(choices, "elm")
    return of_function(name, "Ackley: 5 floats, 3 integers, 2 choices", spec, function, solution)


def conditional(name: str) -> Problem:
    """A choice of three models with parameters of their own, one of them with a choice inside.

    The model that looks best at a first glance stops at 0.2, the next one at 0.1; the one with the optimum of 0
    is narrow, and has its parameters on logarithmic scales.
    """
    spec: dict[str, Any] = {
        "model": {"type": "categorical", "choices": ["plane", "steps", "net"]},
        "common": {"type": "float", "low": 0.0, "high": 1.0},
        "tilt": {"type": "float", "low": -1.0, "high": 1.0, "when": {"model": "plane"}},
        "shift": {"type": "float", "low": -1.0, "high": 1.0, "when": {"model": "plane"}},
        "depth": {"type": "int", "low": 1, "high": 20, "when": {"model": "steps"}},
        "width": {"type": "float", "low": 0.0, "high": 1.0, "when": {"model": "steps"}},
        "rate": {"type": "float", "low": 1e-5, "high": 1.0, "log": True, "when": {"model": "net"}},
        "decay": {"type": "float", "low": 1e-6, "high": 0.1, "log": True, "when": {"model": "net"}},
        "schedule": {"type": "categorical", "choices": ["flat", "cosine"], "when": {"model": "net"}},
        "cycles": {"type": "int", "low": 1, "high": 8, "when": {"schedule": "cosine"}},
    }

    def function(params: Params) -> float:
        common: float = (params["common"] - 0.7) ** 2
        if params["model"] == "plane":
            plane: float = (params["tilt"] - 0.3) ** 2 + (params["shift"] + 0.4) ** 2
            return 0.2 + common + 0.5 * plane
        if params["model"] == "steps":
            steps: float = ((params["depth"] - 13) / 8) ** 2 + (params["width"] - 0.35) ** 2
            return 0.1 + common + steps
        net: float = common + 0.5 * (math.log10(params["rate"]) + 3.0) ** 2
        net += 0.2 * (math.log10(params["decay"]) + 4.0) ** 2
        if params["schedule"] == "flat":
            return net + 0.3
        cycles: float = (params["cycles"] - 5) / 5
        return net + cycles**2

    solution: Params = {"model": "net", "common": 0.7, "rate": 1e-3, "decay": 1e-4}
    solution |= {"schedule": "cosine", "cycles": 5}
    return of_function(name, "10 parameters in three groups, at most 6 active", spec, function, solution)


def ball(name: str) -> Problem:
    """Rosenbrock with 5 floats inside a ball on whose surface the optimum lies; the rest is invalid."""
    dimensions = 5
    names = [f"x{i}" for i in range(dimensions)]

    def function(params: Params) -> float | None:
        x: list[float] = [params[key] for key in names]
        if sum(v * v for v in x) > dimensions:
            return None
        steps = itertools.pairwise(x)
        return sum(100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 for a, b in steps)

    return of_function(
        name,
        "Rosenbrock in a ball: 5 floats, two thirds of the box invalid",
        {key: {"type": "float", "low": -2.0, "high": 2.0} for key in names},
        function,
        dict.fromkeys(names, 1.0),
        held_out=True,
    )
