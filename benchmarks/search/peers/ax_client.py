"""Ax 1.3, by `get_next_trials` and `complete_trial` of its client."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

from benchmarks.search.contender import Contender
from hpo_steer.parameters import Categorical, Float, Int, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.search.problem import Outcome, Setting
    from hpo_steer.space import Params, SearchSpace

logging.getLogger("ax").setLevel(logging.ERROR)


class Ax(Contender):
    """Ax's default strategy: the middle of the space, Sobol points, then BoTorch.

    Its default hands out five points and waits for results, so it is allowed to exceed the budget of Sobol
    points. Where it still returns fewer points than wanted, random ones are attached to its experiment. An
    invalid point is an abandoned trial, which Ax does not suggest again. With several objectives, the reference
    point goes in as thresholds. Ax knows parameters that one value of another switches on; others are always
    there for it, and are left out of the points that switch them off.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._client = Client(random_seed=setting.seed)
        self._client.configure_experiment(
            parameters=[_config(p, setting.space) for p in setting.space], name="race"
        )
        limits = zip(setting.names, setting.references, strict=False)
        constraints = [f"{goal} <= {reference}" for goal, reference in limits]
        constraints += [f"{slack} >= 0" for slack in setting.slack_names]
        self._client.configure_optimization(
            objective=", ".join(f"-{goal}" for goal in setting.names),
            outcome_constraints=constraints or None,
        )
        self._client.configure_generation_strategy(
            initialization_random_seed=setting.seed, allow_exceeding_initialization_budget=True
        )
        self._trials: list[int] = []
        self._rng = np.random.default_rng(setting.seed)

    def ask(self, n: int) -> list[Params]:
        """As many trials as Ax has to offer, and random ones for the rest."""
        asked = self._client.get_next_trials(max_trials=n)
        self._trials += asked
        found = [self._typed(params) for params in asked.values()]
        extra = self.setting.space.sample(n - len(found), self._rng)
        self.adopt(extra)
        return found + extra

    def tell(self, results: Sequence[tuple[int, Outcome]]) -> None:
        """Completes the trials; the noise is for Ax to find out."""
        names = self.setting.names + self.setting.slack_names
        for number, outcome in results:
            if outcome.values is None:
                self._client.mark_trial_abandoned(self._trials[number])
            else:
                values = dict(zip(names, (*outcome.values, *outcome.slacks), strict=True))
                self._client.complete_trial(self._trials[number], raw_data=values)

    def adopt(self, points: Sequence[Params]) -> None:
        """Attaches trials."""
        for params in points:
            independent = {
                p.name: p.decode(0.5)
                for p in self.setting.space
                if p.name not in params and not _dependent(p)
            }
            self._trials.append(self._client.attach_trial(parameters={**params, **independent}))

    def _typed(self, params: Mapping[str, Any]) -> Params:
        """Values in their own types; those that Ax rounds to a hair outside the bounds are pulled in."""
        typed: Params = {}
        for p in self.setting.space:
            if p.name not in params:
                continue
            value = params[p.name]
            if isinstance(p, Int):
                value = int(value)
            elif isinstance(p, Float):
                value = min(max(float(value), p.low), p.high)
            typed[p.name] = value
        return self.setting.space.without_inactive(typed)


def _dependent(p: Parameter) -> bool:
    """Whether Ax can be told what switches a parameter on: one value of one parent."""
    return [len(wanted) for wanted in p.when.values()] == [1]


def _config(p: Parameter, space: SearchSpace) -> RangeParameterConfig | ChoiceParameterConfig:
    if isinstance(p, Categorical):
        children = {
            choice: [
                c.name for c in space if p.name in c.when and _dependent(c) and c.active({p.name: choice})
            ]
            for choice in p.choices
        }
        return ChoiceParameterConfig(
            name=p.name,
            values=list(p.choices),
            parameter_type="str",
            is_ordered=False,
            dependent_parameters={choice: names for choice, names in children.items() if names} or None,
        )
    assert isinstance(p, (Int, Float))
    return RangeParameterConfig(
        name=p.name,
        bounds=(p.low, p.high),
        parameter_type="int" if isinstance(p, Int) else "float",
        scaling="log" if p.log else None,
    )
