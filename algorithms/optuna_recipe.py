"""Which sampler of Optuna to make, and with what options."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import warnings
from typing import TYPE_CHECKING, Any

import optuna

from algorithms.options import keywords, text
from hpo_steer.errors import ConfigError, MissingExtra, nearest
from hpo_steer.parameters import Categorical, Parameter, canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from optuna.trial import FrozenTrial

    from hpo_steer.space import SearchSpace

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
_CONSTRAINED = {"gp", "nsgaii", "nsgaiii", "tpe"}
_MOST_RESULTS = {"gp": 200, "random": 100, "tpe": 1_000}


class Recipe:
    """How to make a sampler, checked once.

    Attributes:
        name: a key of `SAMPLERS`.
        without_state: whether a new sampler goes on from a study as well as an old one.
        constrained: whether it takes in how far trials are outside constraints.
        most_results: how many finished trials it should not have to go through, twice that at most; None: any
            number.
    """

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
        self.constrained = name in _CONSTRAINED
        self.most_results = _MOST_RESULTS.get(name)
        self._base: Recipe | None = None
        if name == "partial":
            self._read_partial(objectives)
        elif name == "grid":
            self._read_grid()
        elif name == "bruteforce" and (endless := [p.name for p in space if p.count is None]):
            raise ConfigError("algorithm.sampler", f'"bruteforce" needs a step for the float "{endless[0]}"')
        self._check_keywords()
        try:
            with quiet():
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
        self._base = Recipe(self.space, objectives, base, inner)
        self.without_state = self._base.without_state
        self.constrained = self._base.constrained
        self.most_results = self._base.most_results
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

    def make(
        self, seed: int, violations: Callable[[FrozenTrial], Sequence[float]] | None = None
    ) -> optuna.samplers.BaseSampler:
        """A sampler of this kind.

        Args:
            seed: of its random numbers.
            violations: how far a trial that has ended well is outside each constraint, negative inside; for a
                `constrained` one.
        """
        if self._base is not None:
            base = self._base.make(seed, violations)
            return optuna.samplers.PartialFixedSampler(base_sampler=base, **self.options)
        made: type[optuna.samplers.BaseSampler] = getattr(optuna.samplers, SAMPLERS[self.name])
        options = dict(self.options)
        accepted = inspect.signature(made).parameters
        for name in ("warn_independent_sampling", "warn_asynchronous_seeding"):
            if name in accepted:
                options.setdefault(name, False)
        if self.name == "qmc":
            options.setdefault("scramble", True)
        if self.name == "tpe":
            options.setdefault("constant_liar", True)
        if violations is not None:
            options["constraints_func"] = violations
        if self.name in ("bruteforce", "grid"):
            made = _endless(made)
        return made(seed=seed, **options)


def _endless(made: type[optuna.samplers.BaseSampler]) -> type[optuna.samplers.BaseSampler]:
    """The sampler without its wish to stop the study at last, which only `optimize` can grant."""
    return type(made.__name__, (made,), {"after_trial": optuna.samplers.BaseSampler.after_trial})


def _internal(p: Parameter, value: Any) -> Any:
    checked = p.check(value)
    return canonical(checked) if isinstance(p, Categorical) else checked


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
