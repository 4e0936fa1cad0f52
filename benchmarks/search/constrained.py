"""One objective and outcome constraints, from BoTorch: designs of engineers, most of whose points are not allowed.

The scales on which constrained metrics are modelled were chosen with the help of these. The best values are those of
two long runs of differential evolution each, and of the pressure vessel that of the smallest sheets that bear the load;
some lie below those of BoTorch's documentation.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.search.functions import on_floats
from benchmarks.search.problem import FLOOR_OF_FRONTS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from botorch.test_functions import synthetic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.search.problem import Problem


def under_constraints(name: str, summary: str, function: Any, solution: Sequence[float]) -> Problem:
    """The problem of one of BoTorch's functions with outcome constraints."""
    exact = on_floats(name, summary, function, solution, slacks=function.num_constraints, proven=False)
    return replace(exact, floor=FLOOR_OF_FRONTS * exact.scale)


def gramacy(name: str) -> Problem:
    """Gramacy's plane beside a curve."""
    return under_constraints(
        name,
        "Gramacy: 2 floats, 2 outcome constraints",
        synthetic.ConstrainedGramacy(),
        [0.19512268255479936, 0.40466536945526826],
    )


def hartmann(name: str) -> Problem:
    """Hartmann's function in a ball, in which its optimum lies."""
    function = synthetic.ConstrainedHartmann(dim=6)
    return under_constraints(
        name, "Hartmann: 6 floats, an outcome constraint", function, function.optimizers[0].tolist()
    )


def spring(name: str) -> Problem:
    """A spring under tension and compression: one random point in a hundred is allowed."""
    return under_constraints(
        name,
        "a spring: 3 floats, 4 outcome constraints",
        synthetic.TensionCompressionString(),
        [0.05168906086644259, 0.35671773459532985, 11.288966056714166],
    )


def welded_beam(name: str) -> Problem:
    """A welded beam: one random point in eight hundred is allowed."""
    return under_constraints(
        name,
        "a welded beam: 4 floats, 6 outcome constraints",
        synthetic.WeldedBeamSO(),
        [0.16800000000000015, 4.067084773077988, 9.999999999999996, 0.16800000000000015],
    )


def speed_reducer(name: str) -> Problem:
    """A gear: one random point in five hundred is allowed."""
    return under_constraints(
        name,
        "a speed reducer: 7 floats, 11 outcome constraints",
        synthetic.SpeedReducer(),
        [
            3.5000000000000027,
            0.7000000000000003,
            17.000000000000007,
            7.300000000000223,
            7.800000000000057,
            3.3502146660964485,
            5.286683229757922,
        ],
    )


def pressure_vessel(name: str) -> Problem:
    """A pressure vessel, of whose sheets there are certain thicknesses."""
    return under_constraints(
        name,
        "a pressure vessel: 4 floats, 4 outcome constraints",
        synthetic.PressureVessel(),
        [0.78124999999, 0.39, 40.479274610880786, 197.78934759710904],
    )
