"""A run as an Optuna study, for Optuna's analyses."""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import MissingExtra
from hpo_steer.parameters import Categorical, Float, Int, Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.outcomes import OutcomeConstraint
    from hpo_steer.space import SearchSpace
    from steering.store.base import PointRecord


@contextmanager
def quiet_optuna() -> Iterator[Any]:
    """The module, silent.

    Raises:
        MissingExtra: Optuna is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as exc:
        raise MissingExtra("hpo-steer plot", "plot") from exc
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def make_study(
    optuna: Any,
    space: SearchSpace,
    goals: Sequence[Objective],
    points: Sequence[PointRecord],
    outcomes: Sequence[OutcomeConstraint] = (),
) -> Any:
    """A study of the points that have ended.

    Args:
        optuna: the module.
        space: they are in.
        goals: the objectives.
        points: of one model.
        outcomes: constraints over their metrics; Optuna's plots set points apart that break one.
    """
    study = optuna.create_study(directions=[goal.direction for goal in goals])
    distributions = {p.name: _distribution(optuna, p) for p in space}
    trials = []
    for point in points:
        if point.state not in ("done", "failed"):
            continue
        done = point.state == "done"
        trials.append(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.FAIL,
                params={name: _value(space[name], value) for name, value in point.params.items()},
                distributions={name: distributions[name] for name in point.params},
                values=[(point.values or {})[goal.name] for goal in goals] if done else None,
                user_attrs={"point": point.id, "iteration": point.iteration},
                system_attrs={"constraints": [-each.slack(point.values or {}) for each in outcomes]}
                if done and outcomes
                else None,
            )
        )
        trials[-1].datetime_start = _moment(point.started_at or point.created_at)
        trials[-1].datetime_complete = _moment(point.ended_at or point.created_at)
    study.add_trials(trials)
    return study


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _distribution(optuna: Any, parameter: Parameter) -> Any:
    if isinstance(parameter, Float):
        return optuna.distributions.FloatDistribution(
            parameter.low, parameter.high, log=parameter.log, step=None if parameter.log else parameter.step
        )
    if isinstance(parameter, Int):
        return optuna.distributions.IntDistribution(
            parameter.low, parameter.high, log=parameter.log, step=1 if parameter.log else parameter.step
        )
    if isinstance(parameter, Categorical):
        return optuna.distributions.CategoricalDistribution([_choice(c) for c in parameter.choices])
    raise TypeError(f"{type(parameter).__name__} is no parameter that Optuna knows")


def _value(parameter: Parameter, value: Any) -> Any:
    return _choice(value) if isinstance(parameter, Categorical) else value


def _choice(value: Any) -> Any:
    """Optuna's choices are plain values; others go as their JSON text."""
    return (
        value
        if value is None or isinstance(value, (bool, int, float, str))
        else json.dumps(value, sort_keys=True)
    )
