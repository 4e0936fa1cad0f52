"""Ax behind ask and tell: its Gaussian processes, fully Bayesian models and quasi-random points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from algorithms.ax_goals import Goals
from algorithms.ax_library import (
    ERRORS,
    Arm,
    Experiment,
    GenerationStrategy,
    ObservationFeatures,
    extract_pending_observations,
    quiet,
)
from algorithms.ax_methods import CENTER_NODE, MODEL_NODE, Method
from algorithms.ax_space import AxSpace
from algorithms.history import HistoryAlgorithm
from algorithms.options import whole
from hpo_steer.algorithm import Failure, Observation
from hpo_steer.errors import ConfigError
from hpo_steer.outcomes import OutcomeConstraint, parse_outcome_constraints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_REDRAWS, _COSTLY_REDRAWS = 20, 1
_POOL = 128
_BLAMELESS = {"lost", "cancelled"}
"""Failures that say nothing about the point."""


class Ax(HistoryAlgorithm):
    """Ax's generation strategies, on an experiment that every ask puts together from the history.

    The first points are the middle of the space and a Sobol sequence; once `initial_points` of them are there
    and half as many have results, Ax's model chooses, as in its own default strategy. Points that are being
    evaluated are running trials, which the acquisition function expects to come. A point that failed by itself
    (invalid, error, timeout, pruned) is an abandoned trial: Ax learns no value from it and keeps away from it,
    as it does not from a failed one; lost and cancelled ones are failed trials.

    Objectives with a `reference` have it as their threshold in the hypervolume; Ax infers the others. Outcome
    constraints are Ax's own, with a model for each metric.

    What Ax proposes a second time, or what breaks a constraint that Ax cannot take, is left out and Ax is asked
    again: once where a model has to be searched, 20 times otherwise. The best of random points by Ax's
    acquisition function stand in for what is then missing. Where Ax fails, or its space is exhausted, points are
    random, and `note` says so.

    Bakshy et al., AE: A domain-agnostic platform for adaptive experimentation, 2018; Balandat et al., BoTorch,
    NeurIPS 2020; Daulton et al., qNEHVI, NeurIPS 2021; Eriksson and Jankowiak, SAASBO, UAI 2021; Ament et al.,
    LogEI, NeurIPS 2023.

    Args:
        space: where points come from.
        objectives: one or several; from five on Ax scalarises them at random (ParEGO).
        seed: fixes every random choice.
        method: a key of `algorithms.ax_methods.METHODS`.
        initial_points: how many there are before the model is used.
        acquisition: a key of `algorithms.ax_methods.ACQUISITIONS`; None for Ax's choice.
        model: a key of `algorithms.ax_methods.MODELS`, for the method ``botorch``.
        mcmc: ``warmup_steps``, ``num_samples``, ``thinning`` and ``max_tree_depth`` of fully Bayesian models.
        optimizer: ``num_restarts`` and ``raw_samples`` of the search for the acquisition function's maximum.
        outcome_constraints: bounds on metrics.

    Raises:
        ConfigError: an unknown name, an option that is not for this method, or a space Ax cannot take.
        MissingExtra: the method needs packages that are not installed.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        method: str = "auto",
        initial_points: int = 5,
        acquisition: str | None = None,
        model: str | None = None,
        mcmc: Mapping[str, Any] | None = None,
        optimizer: Mapping[str, Any] | None = None,
        outcome_constraints: Sequence[str | OutcomeConstraint] = (),
    ) -> None:
        super().__init__(space, objectives, seed)
        self._method = Method(
            method, len(self.objectives), acquisition=acquisition, model=model, mcmc=mcmc, optimizer=optimizer
        )
        self._initial = whole("initial_points", initial_points, 2)
        self._goals = Goals(self.objectives, parse_outcome_constraints(outcome_constraints))
        self._axes = AxSpace(space)
        if self._method.one_shot and not self._axes.continuous:
            raise ConfigError(
                "algorithm.acquisition", f'Ax searches "{acquisition}" over floats only; use another'
            )

    # ---------------------------------------------------------------- proposals

    def propose(self, n: int) -> list[Params]:
        """Up to `n` points of Ax's; `note` says why some are not its model's."""
        self.note = None
        found: list[Params] = []
        if self._axes.size == 0:
            return found
        with quiet(int(self.rng().integers(2**31))):
            experiment = self._experiment()
            try:
                self._ask_ax(experiment, self._strategy(), n, found)
            except ERRORS as exc:
                self.note = f"Ax failed ({first_line(exc)}), so {n - len(found)} of {n} points are random"
        drawn = self.draw(n - len(found))
        if drawn and self.note is None:
            self.note = f"Ax had {len(found)} new points to offer and not {n}, so the others are random"
        return found + drawn

    def _strategy(self) -> GenerationStrategy:
        """Ax's strategy for this ask, a new one; a Sobol sequence goes on where it was."""
        seed = self.seed & 0x7FFF_FFFF
        if self._ready():
            return self._method.strategy(seed, self._next_id, listed=self._axes.listed)
        return self._method.initial(seed, self._next_id)

    def _ready(self) -> bool:
        """Whether the method takes over from the initial points."""
        if not self._method.modelled:
            return True
        alive = len(self.points) - len(self.failed())
        return alive >= self._initial and len(self.completed()) >= max(2, self._initial // 2)

    def _ask_ax(
        self, experiment: Experiment, strategy: GenerationStrategy, n: int, found: list[Params]
    ) -> None:
        """Adds new points to `found`, `n` in all if Ax has them. What it proposes in vain becomes known to it."""
        redraws = _COSTLY_REDRAWS if strategy.nodes_by_name.keys() == {MODEL_NODE} else _REDRAWS
        while len(found) < n and redraws >= 0:
            wanted = 1 if strategy.current_node_name == CENTER_NODE else n - len(found)
            runs = strategy.gen(experiment=experiment, n=wanted, num_trials=1)
            before = len(found)
            for arm in (arm for trial in runs for run in trial for arm in run.arms):
                params = self._axes.decode(arm.parameters)
                new = len(found) < n and self.claim(params)
                if new:
                    found.append(params)
                self._attach(experiment, params, "running" if new else "abandoned")
            redraws -= len(found) - before < wanted
        if self._method.modelled and strategy.adapter is not None:
            rng = self.rng(purpose=2)
            while len(found) < n and (likeliest := self._likeliest(experiment, strategy.adapter, rng)):
                found.append(likeliest)
                self._attach(experiment, likeliest, "running")

    def _likeliest(self, experiment: Experiment, adapter: Any, rng: np.random.Generator) -> Params | None:
        """Of new random points that which the acquisition function likes best; None if there are none."""
        if not adapter.can_predict:
            return None
        rows = rng.random((_POOL, len(self.space)))
        pool = [p for p in map(self.space.decode, rows.tolist()) if self.is_new(p)]
        if not pool:
            return None
        worth = adapter.evaluate_acquisition_function(
            observation_features=[ObservationFeatures(parameters=self._axes.encode(p)) for p in pool],
            pending_observations=extract_pending_observations(experiment=experiment),
        )
        best = pool[int(np.argmax(worth))]
        return best if self.claim(best) else None

    # ---------------------------------------------------------------- what Ax knows

    def _experiment(self) -> Experiment:
        """Ax's experiment with all points so far and what came of them."""
        experiment = Experiment(name="search", search_space=self._axes.search_space())
        for metric in self._goals.metrics():
            experiment.add_metric(metric)
        experiment.optimization_config = self._goals.config()
        results = {}
        for point_id in sorted(self.points):
            observation = self.told.get(point_id)
            trial = self._attach(experiment, self.points[point_id], _state(observation))
            if observation is not None and observation.values is not None:
                results[trial.index, trial.arm.name] = observation
        if results:
            experiment.attach_data(self._goals.data(results))
        return experiment

    def _attach(self, experiment: Experiment, params: Mapping[str, Any], state: str) -> Any:
        trial = experiment.new_trial()
        trial.add_arm(Arm(parameters=self._axes.encode(params)))
        trial.mark_running(no_runner_required=True)
        if state != "running":
            getattr(trial, f"mark_{state}")()
        return trial

    def _checked(self, observation: Observation) -> Observation:
        checked = super()._checked(observation)
        if checked.values is None or (metric := self._goals.lacking(checked.values)) is None:
            return checked
        text = f"the result has no finite {metric}, which an outcome constraint needs"
        return Observation(checked.point_id, failure=Failure("invalid", text))


def _state(observation: Observation | None) -> str:
    """What a trial is marked as."""
    if observation is None:
        return "running"
    if observation.failure is None:
        return "completed"
    return "failed" if observation.failure.kind in _BLAMELESS else "abandoned"


def first_line(exc: Exception) -> str:
    """What a library's error begins with."""
    return str(exc).strip().partition("\n")[0][:200] or type(exc).__name__
