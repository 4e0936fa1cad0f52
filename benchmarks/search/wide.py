"""Functions of twenty floats and more, from BoTorch, whose optimum lies off the middle.

How many points come before the models was chosen with the help of these.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from benchmarks.search.functions import on_floats

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from botorch import test_functions

if TYPE_CHECKING:
    from benchmarks.search.problem import Problem


def levy20(name: str) -> Problem:
    """Levy with 20 floats."""
    return _levy(name, 20)


def levy40(name: str) -> Problem:
    """Levy with 40 floats: 100 points are a little more than two for each."""
    return _levy(name, 40)


def _levy(name: str, d: int) -> Problem:
    function = test_functions.Levy(dim=d, bounds=[(-8.0, 12.0)] * d)
    return on_floats(name, f"Levy: {d} floats", function, [1.0] * d)


def ackley(name: str) -> Problem:
    """Ackley with 20 floats."""
    function = test_functions.Ackley(dim=20, bounds=[(-10.0, 25.0)] * 20)
    return on_floats(name, "Ackley: 20 floats", function, [0.0] * 20)


def rosenbrock(name: str) -> Problem:
    """Rosenbrock with 20 floats."""
    function = test_functions.Rosenbrock(dim=20, bounds=[(-4.0, 8.0)] * 20)
    return on_floats(name, "Rosenbrock: 20 floats", function, [1.0] * 20)


def styblinski_tang(name: str) -> Problem:
    """Styblinski-Tang with 20 floats: a million local optima."""
    function = test_functions.StyblinskiTang(dim=20)
    return on_floats(name, "Styblinski-Tang: 20 floats", function, [-2.903534] * 20)


def rastrigin(name: str) -> Problem:
    """Rastrigin with 20 floats."""
    function = test_functions.Rastrigin(dim=20, bounds=[(-3.6, 6.4)] * 20)
    return on_floats(name, "Rastrigin: 20 floats", function, [0.0] * 20)
