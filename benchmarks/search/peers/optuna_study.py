"""Optuna's samplers, by ask and tell of a study in memory.

Optuna 5.0 has no AutoSampler: that is a package of OptunaHub, which chooses among TPE, GP and others at run
time; its choices are here by themselves. TPE's constant liar is on by default since 5.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from benchmarks.search.contender import Contender, parents_first
from hpo_steer.parameters import Categorical, Float, Int, Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.search.problem import Outcome, Setting
    from hpo_steer.space import Params


class Optuna(Contender):
    """One sampler. An invalid point is a failed trial, as Optuna's documentation has it.

    Args:
        setting: the space, the seed, and what else may be known.
        sampler: the name of a class in `optuna.samplers`.
        options: its keywords; the others have their defaults.
    """

    def __init__(self, setting: Setting, sampler: str, options: dict[str, Any]) -> None:
        super().__init__(setting)
        if setting.slacks:
            options = options | {"constraints_func": _violations}
        self._study = optuna.create_study(
            directions=["minimize"] * setting.objectives,
            sampler=getattr(optuna.samplers, sampler)(seed=setting.seed, **options),
            pruner=optuna.pruners.NopPruner(),
        )
        self._parameters = parents_first(setting.space)
        self._trials: list[optuna.Trial | int] = []

    def ask(self, n: int) -> list[Params]:
        """Suggests each parameter that the ones before it switch on."""
        found = []
        for _ in range(n):
            trial = self._study.ask()
            params: Params = {}
            for p in self._parameters:
                if p.active(params):
                    params[p.name] = _suggested(trial, p)
            self._trials.append(trial)
            found.append(params)
        return found

    def tell(self, results: Sequence[tuple[int, Outcome]]) -> None:
        """Ends the trials."""
        for number, outcome in results:
            trial = self._trials[number]
            if outcome.values is None:
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            if outcome.slacks and isinstance(trial, optuna.Trial):
                trial.set_user_attr("slacks", outcome.slacks)
            self._study.tell(trial, list(outcome.values))

    def adopt(self, points: Sequence[Params]) -> None:
        """Adds running trials."""
        distributions = {p.name: _distribution(p) for p in self._parameters}
        for params in points:
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.RUNNING,
                    params=params,
                    distributions={name: distributions[name] for name in params},
                )
            )
            self._trials.append(len(self._trials))


def _violations(trial: optuna.trial.FrozenTrial) -> list[float]:
    return [-slack for slack in trial.user_attrs["slacks"]]


def _suggested(trial: optuna.Trial, p: Parameter) -> Any:
    if isinstance(p, Categorical):
        return trial.suggest_categorical(p.name, p.choices)
    if isinstance(p, Int):
        return trial.suggest_int(p.name, p.low, p.high, step=p.step, log=p.log)
    assert isinstance(p, Float)
    return trial.suggest_float(p.name, p.low, p.high, step=p.step, log=p.log)


def _distribution(p: Parameter) -> BaseDistribution:
    if isinstance(p, Categorical):
        return CategoricalDistribution(p.choices)
    if isinstance(p, Int):
        return IntDistribution(p.low, p.high, step=p.step, log=p.log)
    assert isinstance(p, Float)
    return FloatDistribution(p.low, p.high, step=p.step, log=p.log)
