"""Finds algorithms by name: the built-in ones and those of installed plug-ins.

hpo_steer imports nothing above it, so both are reached through entry points:

* ``hpo_steer.registries``: a mapping of name to `AlgorithmEntry` (the built-in algorithms);
* ``hpo_steer.algorithms``: one `SearchAlgorithm` class a name (plug-ins).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import (
    ConfigError,
    HpoSteerError,
    MissingExtra,
    ShadowedPackage,
    UnknownAlgorithm,
    nearest,
)
from hpo_steer.objectives import Objective, parse_objectives
from hpo_steer.space import SearchSpace

if TYPE_CHECKING:
    from hpo_steer.algorithm import SearchAlgorithm


FORMS = ("name", "class", "generator", "command", "service")
"""Keys of which the ``algorithm`` of a config has one: it says which it is; all others are options.

A ``container`` alone is one too: a service, which is what its image's entry point runs.
"""
OUTSIDE = ("command", "service", "container")
"""Those that run in no interpreter of ours."""
_LONGEST_NAME = 60


def algorithm_form(spec: Mapping[str, Any]) -> str | None:
    """Which of the forms an ``algorithm`` of a config has; None if it has none."""
    return next((form for form in (*FORMS, "container") if spec.get(form) is not None), None)


def algorithm_name(spec: Mapping[str, Any]) -> str:
    """What an ``algorithm`` of a config is called: its name, its class, its command, or its image."""
    form = algorithm_form(spec) or "name"
    named = spec[form]
    if isinstance(named, Mapping):
        named = named.get("image", "container")
    text = " ".join(map(str, named)) if isinstance(named, list) else " ".join(str(named).split())
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"


def is_outside(spec: Mapping[str, Any]) -> bool:
    """Whether an ``algorithm`` of a config is a program of the user's."""
    return algorithm_form(spec) in OUTSIDE


@dataclass(frozen=True)
class AlgorithmEntry:
    """One algorithm in a registry.

    Attributes:
        path: ``module:Class``, imported when the algorithm is first used.
        summary: one line for ``hpo-steer algorithms``.
        extra: the extra of hpo-steer that brings what it needs, if any.
        heavy: whether an ask takes long enough to belong in a process of its own.
        plugin: whether somebody else wrote it; what it proposes is checked and numbered like a user's class.
    """

    path: str
    summary: str
    extra: str | None = None
    heavy: bool = False
    plugin: bool = False


def shadowed(package: str) -> ShadowedPackage | None:
    """The error that names a folder of the user's hiding our `package`, or None."""
    ours = Path(__file__).resolve().parent.parent / package
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or [])]
    found = [Path(place).resolve() for place in places if place]
    if not found or any(place == ours or ours in place.parents for place in found):
        return None
    return ShadowedPackage(
        f"{found[0]} hides hpo-steer's own package {package!r}: rename it, or run this script from another folder"
    )


@cache
def registered() -> Mapping[str, AlgorithmEntry]:
    """Every algorithm by name.

    Raises:
        ShadowedPackage: a folder of the user's hides our package of algorithms.
        HpoSteerError: hpo-steer is not installed, so that nothing is registered.
    """
    found: dict[str, AlgorithmEntry] = {}
    for point in entry_points(group="hpo_steer.algorithms"):
        found[point.name] = AlgorithmEntry(
            point.value, f"plug-in {_distribution(point)}", heavy=True, plugin=True
        )
    registries = entry_points(group="hpo_steer.registries")
    if not registries:
        raise HpoSteerError(
            "hpo-steer is not installed here: pip install hpo-steer (or pip install -e . in its folder)"
        )
    for point in registries:
        package = point.module.partition(".")[0]
        if point.name == "builtin" and (error := shadowed(package)):
            raise error
        found.update(point.load())
    return found


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def entry(name: str) -> AlgorithmEntry:
    """The entry of one algorithm.

    Raises:
        UnknownAlgorithm: there is none; the nearest name is offered.
    """
    entries = registered()
    if name not in entries:
        raise UnknownAlgorithm(
            f'unknown algorithm "{name}"; {nearest(name, entries)} (hpo-steer algorithms lists all)'
        )
    return entries[name]


def algorithm_class(name: str) -> type[SearchAlgorithm]:
    """The class behind a name.

    Raises:
        UnknownAlgorithm: there is none.
        MissingExtra: what it needs is not installed.
    """
    found = entry(name)
    module, _, attribute = found.path.partition(":")
    try:
        loaded = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as exc:
        if found.extra is None or (exc.name or "").partition(".")[0] == module.partition(".")[0]:
            raise
        raise MissingExtra(f'algorithm "{name}"', found.extra) from exc
    return loaded  # type: ignore[no-any-return]


def create_algorithm(
    name: str,
    space: SearchSpace | Mapping[str, Any],
    objectives: Mapping[str, Any] | Sequence[Objective],
    seed: int = 0,
    **options: Any,
) -> SearchAlgorithm:
    """Creates a search method by its name.

    Args:
        name: as in ``hpo-steer algorithms``.
        space: the search space, or the ``search_space`` of a config.
        objectives: ``{"loss": "minimize"}`` and the like.
        seed: the same seed and the same history give the same points.
        options: keywords of that algorithm; an unknown one is an error that names the nearest. A method that
            handles them takes ``outcome_constraints=["latency_ms <= 20"]`` here.

    Raises:
        UnknownAlgorithm: no algorithm of that name.
        MissingExtra: what it needs is not installed; says the pip line.
        ConfigError: an option it does not know or cannot take, or a space it cannot search.

    Example:
        >>> search = create_algorithm(
        ...     "random", {"x": {"type": "float", "low": 0, "high": 1}}, {"loss": "minimize"}, seed=1
        ... )
        >>> len(search.ask(3))
        3
    """
    if isinstance(space, Mapping):
        space = SearchSpace.from_dict(space)
    goals = parse_objectives(objectives) if isinstance(objectives, Mapping) else tuple(objectives)
    return build(algorithm_class(name), name, space, goals, seed, options)


def takes_outcome_constraints(cls: type[SearchAlgorithm]) -> bool:
    """Whether an algorithm's constructor has the keyword ``outcome_constraints``; ``**options`` do not count."""
    import inspect

    keyword = inspect.signature(cls).parameters.get("outcome_constraints")
    return keyword is not None and keyword.kind in (keyword.KEYWORD_ONLY, keyword.POSITIONAL_OR_KEYWORD)


def build(
    cls: type[SearchAlgorithm],
    name: str,
    space: SearchSpace,
    objectives: Sequence[Objective],
    seed: int,
    options: Mapping[str, Any],
) -> SearchAlgorithm:
    """Calls an algorithm's constructor, turning a wrong option into a `ConfigError`."""
    import inspect

    if "outcome_constraints" in options and not takes_outcome_constraints(cls):
        raise ConfigError(
            "outcome_constraints",
            f'"{name}" takes none: tell it a point that breaks one as Failure("invalid", "why"). In an experiment '
            "steering does so for it",
        )
    accepted = inspect.signature(cls).parameters
    keywords = (
        {key for key, p in accepted.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        - {
            "space",
            "objectives",
            "seed",
        }
        - {"outcome_constraints"}
    )
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        for key in options:
            if key not in keywords and key != "outcome_constraints":
                raise ConfigError(
                    f"algorithm.{key}", f'"{name}" has no such option; {nearest(key, keywords)}'
                )
    try:
        return cls(space, objectives, seed=seed, **options)
    except TypeError as exc:
        raise ConfigError(
            "algorithm",
            f'"{name}" cannot be created: {exc}. It is called with (space, objectives, seed=…, options)',
        ) from exc
