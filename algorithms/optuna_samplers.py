"""The samplers of Optuna behind ask and tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from algorithms.history import HistoryAlgorithm
from algorithms.options import keywords, text
from algorithms.optuna_recipe import Recipe, quiet
from algorithms.optuna_trials import Trials
from hpo_steer.errors import AlgorithmError
from hpo_steer.outcomes import OutcomeConstraint, parse_outcome_constraints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpo_steer.algorithm import Observation, Point, Step
    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_REDRAWS = 20
_COSTLY_REDRAWS = 3


class Optuna(HistoryAlgorithm):
    """Every sampler of Optuna, on an in-memory study.

    Points that were asked for and not told are running trials, which samplers with a constant liar or a joint
    acquisition function (TPE, GP) keep away from. A failure is a failed trial, one that was pruned a pruned
    trial. Parameters are suggested parents first. A suggestion that breaks a constraint or was made before is
    told as a failed trial and drawn again; after some in vain a random new point stands in.

    Outcome constraints are told to TPE, GP, NSGA-II and NSGA-III as Optuna's own; for the other samplers a point
    that breaks one is a failed trial. So is, for all of them, a result without the metric of a constraint.

    TPE and GP go through all trials at every ask, so that their study is kept small (`Trials`).

    Akiba et al., Optuna, KDD 2019; Watanabe, Tree-Structured Parzen Estimator, 2023; Deb et al., NSGA-II,
    2002; Hansen, The CMA Evolution Strategy, 2016.

    Args:
        space: where points come from.
        objectives: one or several.
        seed: fixes every random choice.
        sampler: a key of `SAMPLERS`.
        sampler_options: keywords of that sampler, such as ``{n_startup_trials: 20}``; for ``partial``:
            ``{fixed: {name: value}, sampler: tpe, sampler_options: {…}}``; for ``grid`` optionally
            ``resolution``, for floats without a step.
        outcome_constraints: bounds on metrics, ``["latency_ms <= 20"]``.

    Raises:
        ConfigError: no such sampler, an option it does not take, or a space or objectives it cannot serve.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        sampler: str = "tpe",
        sampler_options: Mapping[str, Any] | None = None,
        outcome_constraints: Sequence[str | OutcomeConstraint] = (),
    ) -> None:
        super().__init__(space, objectives, seed)
        self._constraints = parse_outcome_constraints(outcome_constraints)
        self._recipe = Recipe(
            space,
            len(self.objectives),
            text("sampler", sampler),
            keywords("sampler_options", sampler_options),
        )
        self._begin()

    def _begin(self) -> None:
        self._trials = Trials(self.space, self.objectives, self._recipe.most_results)
        self._renew_sampler()

    def _renew_sampler(self) -> None:
        constrained = self._recipe.constrained and self._constraints
        seed = int(self.rng().integers(2**31))
        with quiet():
            self._trials.use(self._recipe.make(seed, self._trials.violations if constrained else None))

    def reset(self) -> None:
        """Forgets everything but the configuration."""
        super().reset()
        self._begin()

    def restore(self, history: Sequence[Step]) -> None:
        """Adopts the history, or goes through it again for samplers that keep state of their own."""
        if self._recipe.without_state:
            super().restore(history)
        else:
            self.replay(history)

    def adopt(self, points: Sequence[Point]) -> None:
        """Takes in points that this instance did not propose, as running trials."""
        super().adopt(points)
        with quiet():
            for point in points:
                self._trials.add(point.id, dict(point.params))

    def learn(self, news: Sequence[Observation]) -> None:
        """Ends the trials of these points."""
        with quiet():
            for observation in news:
                self._end_trial(observation)
            self._trials.trim()

    def _end_trial(self, observation: Observation) -> None:
        point_id, values = observation.point_id, observation.values
        if values is None:
            pruned = observation.failure is not None and observation.failure.kind == "pruned"
            self._trials.end(point_id, TrialState.PRUNED if pruned else TrialState.FAIL)
            return
        slacks = [each.slack(values) if each.metric in values else math.nan for each in self._constraints]
        known = all(math.isfinite(slack) for slack in slacks)
        if not known or (not self._recipe.constrained and any(slack < 0.0 for slack in slacks)):
            self._trials.end(point_id, TrialState.FAIL)
            return
        objectives = [float(values[goal.name]) for goal in self.objectives]
        self._trials.end(point_id, TrialState.COMPLETE, objectives, [-slack for slack in slacks])

    def propose(self, n: int) -> list[Params]:
        """`n` suggestions of the sampler; random new points where it has none."""
        found: list[Params] = []
        allowed = _COSTLY_REDRAWS if self._recipe.name == "gp" else _REDRAWS
        redraws = allowed
        if self._recipe.without_state:
            self._renew_sampler()
        with quiet():
            while len(found) < n and redraws > 0:
                try:
                    trial, params = self._trials.suggest()
                except Exception as exc:
                    raise AlgorithmError(f'Optuna\'s sampler "{self._recipe.name}" failed: {exc}') from exc
                if self.claim(params):
                    self._trials.accept(self._next_id + len(found), trial, params)
                    found.append(params)
                    redraws = allowed
                else:
                    self._trials.refuse(trial)
                    redraws -= 1
            for params in self.draw(n - len(found)):
                self._trials.add(self._next_id + len(found), params)
                found.append(params)
        return found
