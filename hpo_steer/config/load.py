"""From a config file to a checked `Experiment`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from hpo_steer.config.complaints import translated
from hpo_steer.config.foreign import translated as translated_config
from hpo_steer.config.schema import Experiment
from hpo_steer.config.source import Source, _Loader
from hpo_steer.errors import ConfigError, UnknownAlgorithm, nearest
from hpo_steer.transport.settings import conceal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class LoadedConfig:
    """A checked config.

    Attributes:
        experiment: what it says.
        path: its file.
        folder: where it lies; the user's files are named relative to it.
        source: its text, for line numbers in later errors.
        remarks: what there is to say about a config that another program's was translated to, a sentence each.
    """

    experiment: Experiment
    path: Path
    source: Source
    remarks: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The config's folder."""
        return self.path.resolve().parent


def load_config(path: Path, overrides: Iterable[str] = ()) -> LoadedConfig:
    """Reads and checks a config.

    Args:
        path: a YAML, TOML or JSON file; the JSON of PanDA's phpo is translated.
        overrides: ``key=value`` texts, as in ``steering.max_points=50``.

    Raises:
        ConfigError: names the file, the line and the key, and says what to do.
    """
    source = Source.read(path)
    remarks: tuple[str, ...] = ()
    if (foreign := translated_config(source.data, path)) is not None:
        data, remarks = foreign
        source = Source(path, data, {})
    overrides = list(overrides)
    for text in overrides:
        _override(source.data, text)
    try:
        experiment = validate(source.data)
        check_algorithms(experiment)
    except ConfigError as exc:
        raise exc.at(_blame(exc.key, overrides) or source.where(exc.key)) from None
    return LoadedConfig(experiment, path, source, remarks)


def _blame(key: str, overrides: Iterable[str]) -> str | None:
    """The override that an error is about, if it is about one."""
    for text in overrides:
        changed = text.partition("=")[0].strip()
        if key and (
            key == changed or key.startswith((f"{changed}.", f"{changed}[")) or changed.startswith(f"{key}.")
        ):
            return f"--set {conceal(text)}"
    return None


def validate(data: Mapping[str, Any]) -> Experiment:
    """Checks a config's data.

    Raises:
        ConfigError: names the key.
    """
    try:
        return Experiment.model_validate(dict(data))
    except ValidationError as exc:
        raise translated(exc, Experiment) from None


def check_algorithms(experiment: Experiment) -> None:
    """Checks the algorithms' names, before anything is started.

    Raises:
        ConfigError: an unknown name, with the nearest valid one, or an option that belongs elsewhere.
    """
    from hpo_steer.registry import FORMS, algorithm_form, entry, is_outside

    for model in {id(m.algorithm): m for m in experiment.models}.values():
        spec = experiment.algorithm_of(model)
        if "outcome_constraints" in spec:
            raise ConfigError(
                "algorithm.outcome_constraints",
                "is no option of an algorithm: put outcome_constraints at the top level, beside objectives",
            )
        if sum(form in spec for form in FORMS) != 1 and algorithm_form(spec) != "container":
            raise ConfigError("algorithm", _formless(spec))
        if is_outside(spec):
            continue
        if "container" in spec:
            raise ConfigError(
                "algorithm.container",
                "goes with command or service, or alone; hpo-steer's own methods need none",
            )
        for form in ("class", "generator"):
            if form in spec and not re.fullmatch(r"[^:]+:[A-Za-z_]\w*", str(spec[form])):
                raise ConfigError(
                    f"algorithm.{form}", f"expected FILE.py:CLASS or module:CLASS, got {spec[form]!r}"
                )
        name = spec.get("name")
        if name is not None:
            try:
                entry(str(name))
            except UnknownAlgorithm as exc:
                raise _Unnamed("algorithm", str(exc)) from None


def _formless(spec: Mapping[str, Any]) -> str:
    """What to say about an ``algorithm`` that has none of its leading keys, or several."""
    from hpo_steer.registry import FORMS

    text = (
        "needs exactly one of name: NAME, class: FILE.py:CLASS, generator: MODULE:CLASS, command: PROGRAM … and "
        "service: PROGRAM …"
    )
    given = [form for form in FORMS if form in spec]
    if given:
        return f"{text}, and has {' and '.join(given)}"
    hints = {key: nearest(str(key), FORMS) for key in spec}
    close = next((key for key, hint in hints.items() if hint.startswith("did you mean")), None)
    return text if close is None else f'{text}; "{close}": {hints[close]}'


class _Unnamed(ConfigError):
    """A config error whose sentence names its subject already."""

    def at(self, where: str) -> ConfigError:
        return ConfigError("", self.message, where)


_SHORT_FORMS = {"broker": "url", "store": "folder", "algorithm": "name"}
"""Sections that may be written as one word, and the key that the word stands for."""


def _override(data: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            "", f"--set takes KEY=VALUE, as in --set steering.max_points=50, got {conceal(text)!r}"
        )
    parts = key.strip().split(".")
    target = data
    short = data.get(parts[0])
    if len(parts) > 1 and isinstance(short, str) and parts[0] in _SHORT_FORMS:
        data[parts[0]] = {"url" if "://" in short else _SHORT_FORMS[parts[0]]: short}
    for part in parts[:-1]:
        inner = target.get(part)
        if inner is None:
            inner = target[part] = {}
        if part == "container" and isinstance(inner, str):
            inner = target[part] = {"image": inner}
        if not isinstance(inner, dict):
            raise ConfigError(key, f'--set cannot reach into it: "{part}" holds {conceal(repr(inner))}')
        target = inner
    try:
        target[parts[-1]] = yaml.load(value, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError:
        target[parts[-1]] = value
