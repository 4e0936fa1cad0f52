"""The points of a search as the trials of a study of Optuna's, no more of them than its sampler needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from algorithms.optuna_recipe import quiet
from hpo_steer.parameters import Categorical, Float, Int, Parameter, canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial, Trial

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_HUGE = 1e100


@dataclass(frozen=True)
class Ended:
    """A trial that has ended.

    Attributes:
        params: of its point, as Optuna keeps them.
        state: complete, pruned or failed.
        values: of the objectives, if it is complete.
        violations: how far it was outside each constraint, negative inside.
    """

    params: dict[str, Any]
    state: TrialState
    values: tuple[float, ...] | None = None
    violations: tuple[float, ...] = ()


class Trials:
    """A study in memory.

    Where the sampler goes through all trials at every ask (`most`), the study is begun anew as soon as it holds
    twice as many results: with the better half of `most`, the latest others, and what is running. A trial that
    failed tells such a sampler nothing and is left out then. What is kept depends on the results alone, and on
    what came together with what.

    Args:
        space: of the points.
        objectives: one or several.
        most: see above; None: everything is kept.
    """

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective], most: int | None) -> None:
        self._space, self._objectives, self._most = space, objectives, most
        self._parents_first = _parents_first(space)
        self._distributions = {p.name: _distribution(p) for p in space}
        self._running: dict[int, int] = {}  # numbers of trials by the ids of their points
        self._params: dict[int, dict[str, Any]] = {}  # of those that are running
        self._ended: list[Ended] = []  # those of use, in the order of their ends
        self._violations: tuple[float, ...] = ()
        self._begin()

    def _begin(self) -> None:
        self._count = 0
        directions = [goal.direction for goal in self._objectives]
        with quiet():
            self._study = optuna.create_study(directions=directions, pruner=optuna.pruners.NopPruner())

    def use(self, sampler: optuna.samplers.BaseSampler) -> None:
        """Has further trials suggested by this sampler."""
        self._study.sampler = sampler

    def violations(self, _: FrozenTrial) -> Sequence[float]:
        """How far the trial that is being told is outside each constraint: the sampler's ``constraints_func``."""
        return self._violations

    # ---------------------------------------------------------------- trials begin

    def suggest(self) -> tuple[Trial, Params]:
        """A new trial, and the point that the sampler suggests for it; parents before their children."""
        trial = self._study.ask()
        self._count = trial.number + 1
        params: Params = {}
        for p in self._parents_first:
            if p.active(params):
                params[p.name] = _suggested(trial, p, self._distributions[p.name])
        return trial, {p.name: params[p.name] for p in self._space if p.name in params}

    def accept(self, point_id: int, trial: Trial, params: Params) -> None:
        """The trial is that of a point from here on."""
        self._running[point_id] = trial.number
        self._params[point_id] = self._internal(params)

    def refuse(self, trial: Trial) -> None:
        """The trial comes to nothing."""
        self._study.tell(trial, state=TrialState.FAIL)

    def add(self, point_id: int, params: Params) -> None:
        """A point that the sampler did not suggest, as a running trial."""
        self._params[point_id] = self._internal(params)
        self._add_running(point_id)

    def _add_running(self, point_id: int) -> None:
        self._running[point_id] = self._count
        self._add(TrialState.RUNNING, self._params[point_id])

    def _add(self, state: TrialState, params: dict[str, Any], **more: Any) -> None:
        used = {name: self._distributions[name] for name in params}
        self._study.add_trial(create_trial(state=state, params=params, distributions=used, **more))
        self._count += 1

    def _internal(self, params: Params) -> dict[str, Any]:
        return {
            p.name: canonical(params[p.name]) if isinstance(p, Categorical) else params[p.name]
            for p in self._parents_first
            if p.name in params
        }

    # ---------------------------------------------------------------- trials end

    def end(
        self,
        point_id: int,
        state: TrialState,
        values: Sequence[float] | None = None,
        violations: Sequence[float] = (),
    ) -> None:
        """Ends the trial of a point. Values beyond ±1e100 are told as that: their squares have to be finite."""
        number, params = self._running.pop(point_id), self._params.pop(point_id)
        self._violations = tuple(_bounded(each) for each in violations)
        told = None if values is None else tuple(_bounded(each) for each in values)
        self._study.tell(number, values=told, state=state)
        if self._most is not None and state != TrialState.FAIL:
            self._ended.append(Ended(params, state, told, self._violations if told else ()))

    def trim(self) -> None:
        """Begins the study anew where it holds too much."""
        if self._most is None:
            return
        full = len(self._ended) >= 2 * self._most
        if full:
            self._ended = self._informative(self._most)
        waste = self._count - len(self._ended) - len(self._running)
        if not full and waste < 2 * self._most:
            return
        sampler = self._study.sampler
        self._begin()
        self.use(sampler)
        for each in self._ended:
            named = {str(i): violation for i, violation in enumerate(each.violations)}
            self._add(each.state, each.params, values=each.values, constraints=named)
        for point_id in sorted(self._running):
            self._add_running(point_id)

    def _informative(self, most: int) -> list[Ended]:
        """The better half of `most`, and of the others those that ended last."""
        outside = np.array([sum(v for v in each.violations if v > 0.0) for each in self._ended])
        signs = [goal.sign for goal in self._objectives]
        losses = np.array(
            [
                [math.inf] * len(signs) if each.values is None else np.multiply(signs, each.values)
                for each in self._ended
            ]
        )
        rank = losses[:, 0] if len(signs) == 1 else _dominators(losses)
        without = np.array([each.values is None for each in self._ended])
        best = np.lexsort((rank, outside, without))[: most // 2]
        chosen = set(best.tolist())
        others = [i for i in range(len(self._ended)) if i not in chosen]
        return [self._ended[i] for i in sorted(chosen | set(others[-(most - len(chosen)) :]))]


def _dominators(losses: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """How many others dominate each of ``n x m`` losses (Fonseca and Fleming, 1993), ``n`` numbers."""
    return np.array(
        [((losses <= row).all(1) & (losses < row).any(1)).sum() for row in losses], dtype=np.float64
    )


def _bounded(value: float) -> float:
    return min(max(float(value), -_HUGE), _HUGE)


def _parents_first(space: SearchSpace) -> list[Parameter]:
    ordered: list[Parameter] = []
    names: set[str] = set()
    while len(ordered) < len(space):
        for p in space:
            if p.name not in names and names >= p.when.keys():
                ordered.append(p)
                names.add(p.name)
    return ordered


def _distribution(p: Parameter) -> BaseDistribution:
    if isinstance(p, Categorical):
        return CategoricalDistribution([canonical(choice) for choice in p.choices])
    if isinstance(p, Int):
        last = p.low + (p.high - p.low) // p.step * p.step
        return IntDistribution(p.low, last, log=p.log, step=p.step)
    if isinstance(p, Float):
        high = p.high if p.step is None else p.values()[-1]
        return FloatDistribution(p.low, high, log=p.log, step=p.step)
    raise TypeError(f"{type(p).__name__} has no distribution in Optuna")


def _suggested(trial: optuna.Trial, p: Parameter, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        choice = trial.suggest_categorical(p.name, distribution.choices)
        assert isinstance(p, Categorical)  # noqa: S101 - only these have such a distribution
        return p.choices[distribution.choices.index(choice)]
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            p.name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)  # noqa: S101 - there are no others
    value = trial.suggest_float(
        p.name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )
    return p.check(min(max(value, distribution.low), distribution.high))
