"""Problems with several objectives, from BoTorch, with its reference points and largest hypervolumes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.search.functions import box, on_box, slacks_on_box
from benchmarks.search.problem import FLOOR, FLOOR_OF_FRONTS, Outcome, Problem

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from botorch.test_functions import multi_objective
    from botorch.utils.multi_objective.box_decompositions.dominated import DominatedPartitioning
    from botorch.utils.multi_objective.pareto import is_non_dominated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.space import Params

_NOISE_OF_THE_TUTORIAL = (15.19, 0.63)
"""Of Branin and Currin, one percent of their ranges, as in BoTorch's tutorial of multi-objective optimisation."""


def front_of(
    name: str,
    summary: str,
    function: Any,
    *,
    proven: bool = False,
    noise: tuple[float, ...] = (),
    held_out: bool = False,
    largest: float | None = None,
) -> Problem:
    """The problem of one of BoTorch's functions of several objectives; the rest as for `Problem`.

    Args:
        name: of the problem.
        summary: as `Problem` has it.
        function: BoTorch's.
        proven: as `Problem` has it.
        noise: standard deviations.
        held_out: as `Problem` has it.
        largest: the largest hypervolume; None: BoTorch knows it.
    """
    values, slacks = on_box(function), slacks_on_box(function)

    def evaluate(params: Params) -> Outcome:
        return Outcome(tuple(values(params).tolist()), slacks(params))

    largest = float(function.max_hv) if largest is None else largest
    return Problem(
        name,
        summary,
        box([(float(low), float(high)) for low, high in function.bounds.T.tolist()]),
        evaluate,
        largest,
        largest,
        (FLOOR if proven else FLOOR_OF_FRONTS) * largest,
        objectives=function.num_objectives,
        references=tuple(function.ref_point.tolist()),
        slacks=getattr(function, "num_constraints", 0),
        noise=noise,
        noise_known=bool(noise),
        proven=proven,
        held_out=held_out,
    )


def hypervolume(values: Sequence[Sequence[float]], references: Sequence[float]) -> float:
    """What ``n x m`` values, to be minimised, dominate up to the reference point."""
    if not values:
        return 0.0
    gains = -torch.tensor(values, dtype=torch.double)
    corner = -torch.tensor(references, dtype=torch.double)
    gains = gains[(gains > corner).all(-1)]
    if not len(gains):
        return 0.0
    front = gains[is_non_dominated(gains)]
    return float(DominatedPartitioning(ref_point=corner, Y=front).compute_hypervolume())


def branin_currin(name: str) -> Problem:
    """Branin and Currin: 2 floats, 2 objectives."""
    return front_of(name, "Branin and Currin: 2 floats, 2 objectives", multi_objective.BraninCurrin())


def branin_currin_noisy(name: str) -> Problem:
    """Branin and Currin with noise that contenders are told of, as the model of the tutorial is."""
    return front_of(
        name,
        "the same with noise: with batches of 4 and 86 evaluations as in BoTorch's tutorial",
        multi_objective.BraninCurrin(),
        noise=_NOISE_OF_THE_TUTORIAL,
    )


def _dtlz2(name: str, objectives: int) -> Problem:
    function = multi_objective.DTLZ2(dim=6, num_objectives=objectives)
    return front_of(name, f"DTLZ2: 6 floats, {objectives} objectives", function, proven=True)


def dtlz2_2(name: str) -> Problem:
    """DTLZ2 with 6 floats and 2 objectives."""
    return _dtlz2(name, 2)


def dtlz2_3(name: str) -> Problem:
    """DTLZ2 with 6 floats and 3 objectives."""
    return _dtlz2(name, 3)


def dtlz2_4(name: str) -> Problem:
    """DTLZ2 with 6 floats and 4 objectives."""
    return _dtlz2(name, 4)


def vehicle_safety(name: str) -> Problem:
    """Vehicle safety: 5 floats, 3 objectives (mass, acceleration, intrusion)."""
    return front_of(name, "vehicle safety: 5 floats, 3 objectives", multi_objective.VehicleSafety())


def c2_dtlz2(name: str) -> Problem:
    """C2-DTLZ2 with 12 floats, 2 objectives and an outcome constraint."""
    function = multi_objective.C2DTLZ2(dim=12, num_objectives=2)
    return front_of(name, "C2-DTLZ2: 12 floats, 2 objectives, an outcome constraint", function)


def penicillin(name: str) -> Problem:
    """Penicillin production: 7 floats, 3 objectives."""
    return front_of(name, "penicillin production: 7 floats, 3 objectives", multi_objective.Penicillin())
