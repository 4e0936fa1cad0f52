"""The problems by name; a problem and what it needs is loaded when it is first used."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

from hpo_steer.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.search.problem import Problem

NAMED = {
    "branin": "functions:branin",
    "hartmann6": "functions:hartmann",
    "ackley10": "functions:ackley",
    "rosenbrock8": "functions:rosenbrock",
    "branin-noisy": "functions:branin_noisy",
    "hartmann6-noisy": "functions:hartmann_noisy",
    "xgboost": "trainings:boosted_trees",
    "mlp": "trainings:neural_network",
    "mixed": "structured:mixed",
    "conditional": "structured:conditional",
}
HELD_OUT = {
    "levy4": "functions:levy",
    "griewank5": "functions:griewank",
    "styblinski-tang6": "functions:styblinski_tang",
    "michalewicz5": "functions:michalewicz",
    "rosenbrock5-ball": "structured:ball",
}
MULTI = {
    "branin-currin": "fronts:branin_currin",
    "branin-currin-noisy": "fronts:branin_currin_noisy",
    "dtlz2-2": "fronts:dtlz2_2",
    "dtlz2-3": "fronts:dtlz2_3",
    "dtlz2-4": "fronts:dtlz2_4",
    "vehicle-safety": "fronts:vehicle_safety",
    "c2-dtlz2": "fronts:c2_dtlz2",
    "penicillin": "fronts:penicillin",
}
FRESH = {
    "shekel4": "fresh:shekel",
    "powell8": "fresh:powell",
    "rastrigin6": "fresh:rastrigin",
    "dixon-price7": "fresh:dixon_price",
    "drop-wave": "fresh:drop_wave",
    "egg-holder": "fresh:egg_holder",
    "hartmann6-of-20": "fresh:hidden",
    "binary": "fresh:binary",
    "choices": "fresh:choices",
    "svm": "fresh:vector_machine",
    "forest": "fresh:forest",
    "model-choice": "fresh:model_choice",
}
WIDE = {
    "levy20": "wide:levy20",
    "levy40": "wide:levy40",
    "ackley20": "wide:ackley",
    "rosenbrock20": "wide:rosenbrock",
    "styblinski-tang20": "wide:styblinski_tang",
    "rastrigin20": "wide:rastrigin",
}
CONSTRAINED = {
    "gramacy": "constrained:gramacy",
    "hartmann6-in-a-ball": "constrained:hartmann",
    "spring": "constrained:spring",
    "welded-beam": "constrained:welded_beam",
    "speed-reducer": "constrained:speed_reducer",
    "pressure-vessel": "constrained:pressure_vessel",
}
FRESH_MULTI = {
    "zdt1": "fresh:zdt1",
    "zdt3": "fresh:zdt3",
    "dtlz7": "fresh:dtlz7",
    "mixture": "fresh:mixture",
    "car-side-impact": "fresh:car_side_impact",
    "branin-currin-in-a-disc": "fresh:branin_currin_in_a_disc",
    "disc-brake": "fresh:disc_brake",
    "mw7": "fresh:mw7",
}
SEVERAL = MULTI | FRESH_MULTI
"""Those with several objectives."""
ALL = NAMED | HELD_OUT | MULTI | FRESH | WIDE | CONSTRAINED | FRESH_MULTI
KINDS = {
    "named": NAMED,
    "held-out": HELD_OUT,
    "multi": MULTI,
    "fresh": FRESH,
    "wide": WIDE,
    "constrained": CONSTRAINED,
    "fresh-multi": FRESH_MULTI,
}
"""Groups that share no problem."""
GROUPS = {**KINDS, "single": NAMED | HELD_OUT, "all": ALL}


@cache
def problem(name: str) -> Problem:
    """The problem of a name in `ALL`."""
    module, _, function = ALL[name].partition(":")
    make: Callable[[str], Problem] = getattr(importlib.import_module(f"benchmarks.search.{module}"), function)
    return make(name)


def problem_names(text: str) -> list[str]:
    """Names of problems and of groups of them, separated by commas.

    Raises:
        UserError: there is no such problem.
    """
    names: dict[str, None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part not in GROUPS and part not in ALL:
            raise UserError(f'no problem "{part}"; {nearest(part, [*ALL, *GROUPS])} (--list lists all)')
        names |= dict.fromkeys(GROUPS.get(part, [part]))
    if not names:
        raise UserError("--problems names none; --list lists all")
    return list(names)
