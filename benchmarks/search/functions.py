"""Test functions of continuous parameters, from BoTorch, with one objective."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.search.problem import FLOOR, Outcome, Problem, typical_regret, value_of
from hpo_steer import SearchSpace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # GPyTorch's import warns of PyTorch's deprecations
    from botorch import test_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpo_steer.space import Params

_BRANIN_NOISE = 5.0
"""About a tenth of the spread of Branin's values over its domain."""
_HARTMANN_NOISE = 0.25
"""As in BoTorch's tutorial of batch optimisation with noise."""
_MICHALEWICZ = (2.202906, 1.570796, 1.284992, 1.923058, 1.720470)


def box(bounds: Sequence[tuple[float, float]]) -> SearchSpace:
    """Floats `x0`, `x1` and so on between these bounds."""
    return SearchSpace.from_dict(
        {f"x{i}": {"type": "float", "low": low, "high": high} for i, (low, high) in enumerate(bounds)}
    )


def on_box(function: Any) -> Callable[[Params], torch.Tensor]:
    """The values of one of BoTorch's functions, without its noise, at a point of its `box`."""

    def values(params: Params) -> torch.Tensor:
        row = torch.tensor([list(params.values())], dtype=torch.double)
        found: torch.Tensor = function.evaluate_true(row)[0]
        return found

    return values


def slacks_on_box(function: Any) -> Callable[[Params], tuple[float, ...]]:
    """How far inside each outcome constraint of one of BoTorch's functions a point is; nothing where it has none."""

    def slacks(params: Params) -> tuple[float, ...]:
        row = torch.tensor([list(params.values())], dtype=torch.double)
        return tuple(function.evaluate_slack_true(row)[0].tolist())

    return slacks if hasattr(function, "evaluate_slack_true") else lambda _: ()


def on_floats(
    name: str, summary: str, function: Any, solution: Sequence[float], *, noise: float = 0.0, **more: Any
) -> Problem:
    """The problem of one of BoTorch's functions, whose optimum is known; `more` as for `Problem`."""
    at, slacks = on_box(function), slacks_on_box(function)

    def evaluate(params: Params) -> Outcome:
        return Outcome((float(at(params)),), slacks(params))

    space = box([(float(low), float(high)) for low, high in function.bounds.T.tolist()])
    optimum = {f"x{i}": float(value) for i, value in enumerate(solution)}
    best = value_of(evaluate, optimum)
    scale = typical_regret(space, evaluate, best)
    return Problem(
        name,
        summary,
        space,
        evaluate,
        best,
        scale,
        FLOOR * scale,
        optimum,
        noise=(noise,) if noise else (),
        **more,
    )


def branin(name: str, noise: float = 0.0) -> Problem:
    """Branin: 2 floats, three optima."""
    function = test_functions.Branin()
    summary = f"Branin, noise of standard deviation {noise:g}" if noise else "Branin: 2 floats, three optima"
    return on_floats(name, summary, function, function.optimizers[0].tolist(), noise=noise)


def branin_noisy(name: str) -> Problem:
    """Branin with noise."""
    return branin(name, _BRANIN_NOISE)


def hartmann(name: str, noise: float = 0.0) -> Problem:
    """Hartmann with 6 floats."""
    function = test_functions.Hartmann(dim=6)
    summary = f"Hartmann, noise of standard deviation {noise:g}" if noise else "Hartmann: 6 floats"
    return on_floats(name, summary, function, function.optimizers[0].tolist(), noise=noise)


def hartmann_noisy(name: str) -> Problem:
    """Hartmann with 6 floats, and noise."""
    return hartmann(name, _HARTMANN_NOISE)


def ackley(name: str) -> Problem:
    """Ackley with 10 floats from -5 to 10, as TuRBO's authors have it (Eriksson et al., NeurIPS 2019).

    On its usual bounds the optimum lies in the middle, where several methods begin, and most of the box is flat.
    """
    function = test_functions.Ackley(dim=10, bounds=[(-5.0, 10.0)] * 10)
    return on_floats(
        name, "Ackley: 10 floats, many local optima, the best one off the middle", function, [0.0] * 10
    )


def rosenbrock(name: str) -> Problem:
    """Rosenbrock with 8 floats: values over many decades, to be read on a logarithmic scale."""
    return on_floats(
        name,
        "Rosenbrock: 8 floats, a bent valley, values over many decades",
        test_functions.Rosenbrock(dim=8),
        [1.0] * 8,
    )


def levy(name: str) -> Problem:
    """Levy with 4 floats."""
    return on_floats(name, "Levy: 4 floats", test_functions.Levy(dim=4), [1.0] * 4, held_out=True)


def griewank(name: str) -> Problem:
    """Griewank with 5 floats, its optimum off the middle."""
    function = test_functions.Griewank(dim=5, bounds=[(-400.0, 700.0)] * 5)
    return on_floats(name, "Griewank: 5 floats, a wide bowl with ripples", function, [0.0] * 5, held_out=True)


def styblinski_tang(name: str) -> Problem:
    """Styblinski-Tang with 6 floats."""
    function = test_functions.StyblinskiTang(dim=6)
    return on_floats(
        name, "Styblinski-Tang: 6 floats, 64 local optima", function, [-2.903534] * 6, held_out=True
    )


def michalewicz(name: str) -> Problem:
    """Michalewicz with 5 floats."""
    function = test_functions.Michalewicz(dim=5)
    return on_floats(
        name, "Michalewicz: 5 floats, narrow valleys on a plateau", function, _MICHALEWICZ, held_out=True
    )
