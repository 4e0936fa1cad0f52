"""The samplers of Optuna behind ask and tell."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import warnings
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from algorithms.history import HistoryAlgorithm
from algorithms.options import keywords, text
from hpo_steer.errors import AlgorithmError, ConfigError, MissingExtra, nearest
from hpo_steer.parameters import Categorical, Float, Int, Parameter, canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hpo_steer.algorithm import Observation, Point, Step
    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

SAMPLERS: dict[str, str] = {
    "bruteforce": "BruteForceSampler",
    "cmaes": "CmaEsSampler",
    "gp": "GPSampler",
    "grid": "GridSampler",
    "nsgaii": "NSGAIISampler",
    "nsgaiii": "NSGAIIISampler",
    "partial": "PartialFixedSampler",
    "qmc": "QMCSampler",
    "random": "RandomSampler",
    "tpe": "TPESampler",
}
"""Short name to class in `optuna.samplers`."""

_WITHOUT_STATE = {"gp", "random", "tpe"}
_ONE_OBJECTIVE = {"cmaes"}
_REDRAWS = 20
_COSTLY_REDRAWS = 3


class Optuna(HistoryAlgorithm):
    """Every sampler of Optuna, on an in-memory study.

    Points that were asked for and not told are running trials, which samplers with a constant liar or a joint
    acquisition function (TPE, GP) keep away from. A failure is a failed trial, one that was pruned a pruned
    trial. Parameters are suggested parents first. A suggestion that breaks a constraint or was made before is
    told as a failed trial and drawn again; after some in vain a random new point stands in.

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
    ) -> None:
        super().__init__(space, objectives, seed)
        self._recipe = _Recipe(
            space,
            len(self.objectives),
            text("sampler", sampler),
            keywords("sampler_options", sampler_options),
        )
        self._distributions = {p.name: _distribution(p) for p in space}
        self._children_last = _parents_first(space)
        self._begin()

    def _begin(self) -> None:
        self._trials: dict[int, int] = {}
        self._trial_count = 0
        with _quiet():
            self._study = optuna.create_study(
                directions=[goal.direction for goal in self.objectives],
                sampler=self._recipe.make(self._sampler_seed()),
                pruner=optuna.pruners.NopPruner(),
            )

    def _sampler_seed(self) -> int:
        return int(self.rng().integers(2**31))

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
        with _quiet():
            for point in points:
                self._add_running(point.id, dict(point.params))

    def learn(self, news: Sequence[Observation]) -> None:
        """Ends the trials of these points."""
        with _quiet():
            for observation in news:
                number = self._trials[observation.point_id]
                if observation.values is not None:
                    values = [float(observation.values[goal.name]) for goal in self.objectives]
                    self._study.tell(number, values)
                else:
                    pruned = observation.failure is not None and observation.failure.kind == "pruned"
                    self._study.tell(number, state=TrialState.PRUNED if pruned else TrialState.FAIL)

    def propose(self, n: int) -> list[Params]:
        """`n` suggestions of the sampler; random new points where it has none."""
        found: list[Params] = []
        allowed = _COSTLY_REDRAWS if self._recipe.name == "gp" else _REDRAWS
        redraws = allowed
        with _quiet():
            if self._recipe.without_state:
                self._study.sampler = self._recipe.make(self._sampler_seed())
            while len(found) < n and redraws > 0:
                trial = self._study.ask()
                self._trial_count = trial.number + 1
                try:
                    params = self._suggest(trial)
                except ValueError as exc:
                    raise AlgorithmError(f'Optuna\'s sampler "{self._recipe.name}" failed: {exc}') from exc
                if self.claim(params):
                    self._trials[self._next_id + len(found)] = trial.number
                    found.append(params)
                    redraws = allowed
                else:
                    self._study.tell(trial, state=TrialState.FAIL)
                    redraws -= 1
            for params in self.draw(n - len(found)):
                self._add_running(self._next_id + len(found), params)
                found.append(params)
        return found

    def _suggest(self, trial: optuna.Trial) -> Params:
        params: Params = {}
        for p in self._children_last:
            if p.active(params):
                params[p.name] = _suggested(trial, p, self._distributions[p.name])
        return {p.name: params[p.name] for p in self.space if p.name in params}

    def _add_running(self, point_id: int, params: Params) -> None:
        internal = {
            p.name: canonical(params[p.name]) if isinstance(p, Categorical) else params[p.name]
            for p in self._children_last
            if p.name in params
        }
        self._trials[point_id] = self._trial_count
        self._trial_count += 1
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=internal,
                distributions={name: self._distributions[name] for name in internal},
            )
        )


class _Recipe:
    """How to make a sampler, checked once."""

    def __init__(self, space: SearchSpace, objectives: int, name: str, options: dict[str, Any]) -> None:
        if name not in SAMPLERS:
            hint = nearest(name, SAMPLERS)
            if name.lower() in ("auto", "autosampler"):
                hint = "it is part of OptunaHub and not of Optuna; tpe or gp is what it would mostly choose"
            raise ConfigError("algorithm.sampler", f'Optuna has no sampler "{name}"; {hint}')
        if name in _ONE_OBJECTIVE and objectives > 1:
            raise ConfigError(
                "algorithm.sampler",
                f'"{name}" takes one objective, and there are {objectives}; use nsgaii or tpe',
            )
        if name == "gp" and importlib.util.find_spec("torch") is None:
            raise MissingExtra("Optuna's sampler gp", "botorch")
        self.name, self.options = name, options
        self.space = space
        self.without_state = name in _WITHOUT_STATE
        self._base: _Recipe | None = None
        if name == "partial":
            self._read_partial(objectives)
        elif name == "grid":
            self._read_grid()
        elif name == "bruteforce" and (endless := [p.name for p in space if p.count is None]):
            raise ConfigError("algorithm.sampler", f'"bruteforce" needs a step for the float "{endless[0]}"')
        self._check_keywords()
        try:
            with _quiet():
                self.make(0)
        except (TypeError, ValueError, ImportError) as exc:
            raise ConfigError("algorithm.sampler_options", f'"{name}" refuses them: {exc}') from exc

    def _read_partial(self, objectives: int) -> None:
        options = dict(self.options)
        fixed = keywords("sampler_options.fixed", options.pop("fixed", None))
        base = text("sampler_options.sampler", options.pop("sampler", "tpe"))
        inner = keywords("sampler_options.sampler_options", options.pop("sampler_options", None))
        if base == "partial":
            raise ConfigError("algorithm.sampler_options.sampler", '"partial" cannot stand in itself')
        for name in fixed:
            if name not in self.space:
                known = [p.name for p in self.space]
                raise ConfigError(
                    "algorithm.sampler_options.fixed", f'no parameter "{name}"; {nearest(name, known)}'
                )
        for name in options:
            valid = ["fixed", "sampler", "sampler_options"]
            raise ConfigError(f"algorithm.sampler_options.{name}", f"unknown key; {nearest(name, valid)}")
        self._base = _Recipe(self.space, objectives, base, inner)
        self.without_state = self._base.without_state
        self.options = {
            "fixed_params": {name: _internal(self.space[name], value) for name, value in fixed.items()}
        }

    def _read_grid(self) -> None:
        resolution = self.options.pop("resolution", None)
        if self.space.conditional:
            raise ConfigError(
                "algorithm.sampler", '"grid" cannot serve conditional parameters; use name: grid'
            )
        if "search_space" not in self.options:
            self.options["search_space"] = {
                p.name: [canonical(v) if isinstance(p, Categorical) else v for v in p.values(resolution)]
                for p in self.space
            }

    def _check_keywords(self) -> None:
        accepted = inspect.signature(getattr(optuna.samplers, SAMPLERS[self.name])).parameters
        valid = set(accepted) - {"seed", "base_sampler", "constraints_func"}
        for name in self.options:
            if name not in valid:
                raise ConfigError(
                    f"algorithm.sampler_options.{name}",
                    f'the sampler "{self.name}" has no such option; {nearest(name, valid)}',
                )

    def make(self, seed: int) -> optuna.samplers.BaseSampler:
        """A sampler of this kind."""
        if self._base is not None:
            return optuna.samplers.PartialFixedSampler(base_sampler=self._base.make(seed), **self.options)
        made: type[optuna.samplers.BaseSampler] = getattr(optuna.samplers, SAMPLERS[self.name])
        options = dict(self.options)
        accepted = inspect.signature(made).parameters
        for name in ("warn_independent_sampling", "warn_asynchronous_seeding"):
            if name in accepted:
                options.setdefault(name, False)
        if self.name == "qmc":
            options.setdefault("scramble", True)
        if self.name in ("bruteforce", "grid"):
            made = _endless(made)
        return made(seed=seed, **options)


def _endless(made: type[optuna.samplers.BaseSampler]) -> type[optuna.samplers.BaseSampler]:
    """The sampler without its wish to stop the study at last, which only `optimize` can grant."""
    return type(made.__name__, (made,), {"after_trial": optuna.samplers.BaseSampler.after_trial})


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


def _internal(p: Parameter, value: Any) -> Any:
    checked = p.check(value)
    return canonical(checked) if isinstance(p, Categorical) else checked


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Optuna's log lines and its warnings of experimental features from the user's terminal."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
