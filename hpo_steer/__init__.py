"""hpo-steer tunes hyperparameters on machines that are somewhere else.

This is the only package users import. Names are loaded when they are first used, so that ``import hpo_steer`` is
quick, and works with the standard library alone inside a training (Python 3.9 or later).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpo_steer.algorithm import Failure, Observation, Point, SearchAlgorithm
    from hpo_steer.errors import HpoSteerError, InvalidPoint, Preempted, Stopped
    from hpo_steer.objectives import Objective
    from hpo_steer.registry import create_algorithm
    from hpo_steer.space import SearchSpace
    from hpo_steer.training import checkpoint_dir, point, report

_HOMES = {
    "Failure": "algorithm",
    "HpoSteerError": "errors",
    "InvalidPoint": "errors",
    "Objective": "objectives",
    "Observation": "algorithm",
    "Point": "algorithm",
    "Preempted": "errors",
    "SearchAlgorithm": "algorithm",
    "SearchSpace": "space",
    "Stopped": "errors",
    "checkpoint_dir": "training",
    "create_algorithm": "registry",
    "point": "training",
    "report": "training",
}

__all__ = [
    "Failure",
    "HpoSteerError",
    "InvalidPoint",
    "Objective",
    "Observation",
    "Point",
    "Preempted",
    "SearchAlgorithm",
    "SearchSpace",
    "Stopped",
    "checkpoint_dir",
    "create_algorithm",
    "point",
    "report",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hpo_steer' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"hpo_steer.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
