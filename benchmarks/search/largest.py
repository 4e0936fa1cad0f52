"""The largest hypervolumes of problems of which BoTorch does not know them, as NSGA-II finds them.

python -m benchmarks.search.largest

Twice 240,000 evaluations, 400 at a time, without noise. What a search finds can be a little more than that, as it can
with BoTorch's own figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from moocore import hypervolume
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.optimize import minimize

from benchmarks.search.fresh import NOT_GIVEN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SEEDS, _POPULATION, _GENERATIONS = (1, 2), 400, 600


class _Function(Problem):  # type: ignore[misc] # pymoo is untyped
    """One of BoTorch's functions, for pymoo."""

    def __init__(self, function: Any) -> None:
        self._function = function
        low, high = function.bounds.numpy()
        constraints = getattr(function, "num_constraints", 0)
        super().__init__(
            n_var=len(low), n_obj=function.num_objectives, n_ieq_constr=constraints, xl=low, xu=high
        )

    def _evaluate(self, x: NDArray[np.float64], out: dict[str, Any], *_: Any, **__: Any) -> None:
        at = torch.tensor(x)
        out["F"] = self._function.evaluate_true(at).numpy()
        if self.n_ieq_constr:
            out["G"] = -self._function.evaluate_slack_true(at).numpy()


def largest(function: Any) -> float:
    """The largest hypervolume that was found of a function of BoTorch's."""
    found = []
    for seed in _SEEDS:
        algorithm = NSGA2(pop_size=_POPULATION)
        front = minimize(_Function(function), algorithm, ("n_gen", _GENERATIONS), seed=seed).F
        found.append(float(hypervolume(front, ref=function.ref_point.numpy())))
    return max(found)


def main() -> None:
    """Prints a line for each."""
    for name, (function, known) in NOT_GIVEN.items():
        print(f"{name}: {largest(function())} (in use: {known})")


if __name__ == "__main__":
    main()
