"""The contenders by name; a library is imported when a contender of its is first used."""

from __future__ import annotations

import functools
import importlib.util
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import UserError, nearest
from hpo_steer.registry import registered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.search.contender import Contender
    from benchmarks.search.problem import Setting

_NOT_RACED = {
    "grid": "it needs a step for every float",
    "pbt": "it continues trainings, and these problems have none",
    "random": "the peer of that name does the same",
    "successive_halving": "likewise, and it needs a budget",
}
"""Of our algorithms."""
_ONE_OBJECTIVE, _SEVERAL_OBJECTIVES = {"bayesian"}, {"mobo"}
PACKAGES = (
    "torch",
    "botorch",
    "gpytorch",
    "ax-platform",
    "optuna",
    "nevergrad",
    "bayesian-optimization",
    "numpy",
)
"""Whose versions stand beside figures."""


@dataclass(frozen=True)
class Entry:
    """A contender by name.

    Attributes:
        summary: one line.
        path: ``module:Class`` in `benchmarks.search`.
        arguments: of the class, after the setting.
        module: that it needs, besides ours.
        package: that brings the module, as pip knows it.
        ours: whether it is one of our own methods.
        most_objectives: how many it can take.
        fewest_objectives: how many it needs.
    """

    summary: str
    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""
    package: str = ""
    ours: bool = False
    most_objectives: int = 99
    fewest_objectives: int = 1

    def serves(self, objectives: int) -> bool:
        """Whether it takes so many objectives."""
        return self.fewest_objectives <= objectives <= self.most_objectives

    def check(self) -> None:
        """Looks whether its package is installed, without importing it.

        Raises:
            UserError: it is not; says the pip line.
        """
        if self.module and importlib.util.find_spec(self.module) is None:
            raise UserError(f'a contender needs a package that is missing: pip install "{self.package}"')

    def load(self) -> Callable[[Setting], Contender]:
        """Imports what it needs; the answer makes the contender."""
        module, _, name = self.path.partition(":")
        made = getattr(importlib.import_module(f"benchmarks.search.{module}"), name)
        return functools.partial(made, **self.arguments)


def _optuna(summary: str, sampler: str, fewest: int = 1, **options: Any) -> Entry:
    arguments = {"sampler": sampler, "options": options}
    return Entry(
        summary,
        "peers.optuna_study:Optuna",
        arguments,
        module="optuna",
        package="optuna>=5,<6",
        fewest_objectives=fewest,
    )


PEERS: dict[str, Entry] = {
    "random": Entry("uniform random points", "peers.uniform:Uniform"),
    "optuna-tpe": _optuna("Optuna's TPE with its defaults, of which a constant liar is one", "TPESampler"),
    "optuna-tpe-no-liar": _optuna("the same without the liar", "TPESampler", constant_liar=False),
    "optuna-tpe-multivariate": _optuna("the same, multivariate", "TPESampler", multivariate=True),
    "optuna-gp": _optuna("Optuna's Gaussian process", "GPSampler"),
    "optuna-nsgaii": _optuna("Optuna's NSGA-II", "NSGAIISampler", fewest=2),
    "ax-client": Entry(
        "Ax's client with its default strategy",
        "peers.ax_client:Ax",
        module="ax",
        package="ax-platform==1.3.1",
    ),
    "nevergrad-ngopt": Entry(
        "Nevergrad's NGOpt",
        "peers.nevergrad_optimizer:Nevergrad",
        {"optimizer": "NGOpt"},
        module="nevergrad",
        package="nevergrad>=1.0.12",
    ),
    "bayesian-optimization": Entry(
        "the library of that name, with a constant liar",
        "peers.bayes_opt_suggest:BayesOpt",
        module="bayes_opt",
        package="bayesian-optimization==1.4.0",
        most_objectives=1,
    ),
    "botorch": Entry(
        "plain BoTorch: SingleTaskGP and qLogNEI, or qLogNEHVI",
        "peers.plain_botorch:BoTorch",
        module="botorch",
        package="botorch>=0.18",
    ),
}


@functools.cache
def entries() -> Mapping[str, Entry]:
    """Every contender, ours first."""
    ours = {
        name: Entry(
            algorithm.summary,
            "ours:Ours",
            {"name": name, "options": {}},
            ours=True,
            most_objectives=1 if name in _ONE_OBJECTIVE else 99,
            fewest_objectives=2 if name in _SEVERAL_OBJECTIVES else 1,
        )
        for name, algorithm in registered().items()
        if name not in _NOT_RACED
    }
    return ours | PEERS


def contender(text: str) -> Entry:
    """The entry of a name, or of one of ours with options, as in ``bayesian:candidates=512``.

    Raises:
        UserError: there is no such contender, or it takes no options.
    """
    name, *pairs = text.split(":")
    if name not in entries():
        reason = _NOT_RACED.get(name)
        hint = reason or f"{nearest(name, entries())} (--list lists all)"
        raise UserError(f'no contender "{name}"; {hint}')
    entry = entries()[name]
    if not pairs:
        return entry
    if not entry.ours:
        raise UserError(f'"{name}" is a peer and has its own defaults; it takes no options')
    options = dict(_option(name, pair) for pair in pairs)
    return replace(entry, arguments={"name": name, "options": options})


def _option(name: str, pair: str) -> tuple[str, Any]:
    key, equals, value = pair.partition("=")
    if not equals:
        raise UserError(f'"{pair}" is no option of "{name}"; write it as {name}:key=value')
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def contender_names(text: str) -> list[str]:
    """Names of contenders, separated by commas; `all`, `ours` and `peers` stand for several.

    Raises:
        UserError: there is no such contender.
    """
    groups = {
        "all": list(entries()),
        "ours": [name for name, entry in entries().items() if entry.ours],
        "peers": list(PEERS),
    }
    names: dict[str, None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part not in groups:
            contender(part)
        names |= dict.fromkeys(groups.get(part, [part]))
    if not names:
        raise UserError("--contenders names none; --list lists all")
    return list(names)
