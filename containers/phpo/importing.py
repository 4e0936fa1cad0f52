"""Makes a config of ours from what was given to phpo, and says of each option what became of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from containers.phpo.evaluation_options import evaluation_section
from containers.phpo.fates import Fate, Ledger
from containers.phpo.options import Given
from containers.phpo.spaces import per_segment, translate
from containers.phpo.steering_options import algorithm_section, steering_section
from hpo_steer.errors import ConfigError, UserError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Imported:
    """A config, and where each part of it comes from."""

    config: dict[str, Any]
    fates: list[Fate]

    @property
    def caveats(self) -> list[str]:
        """What is lost or needs attention, a sentence each."""
        return [f"{fate.option}: {fate.text}" for fate in self.fates if not fate.kept]


def imported(given: Given, folder: Path, *, name: str = "phpo", target: Path | None = None) -> Imported:
    """The config that does what phpo would do.

    Args:
        given: the options.
        folder: where the files lie that they name.
        name: of the experiment, where there is no outDS.
        target: the folder that the config will lie in; by default `folder`.

    Raises:
        UserError: an option that phpo cannot do without is missing, or a file that one names is not there.
        ConfigError: a value that makes no sense; its key is the option.
    """
    return _Import(Ledger(given), folder, name, target or folder).run()


@dataclass
class _Import:
    ledger: Ledger
    folder: Path
    name: str
    target: Path

    def run(self) -> Imported:
        for needed in ("steeringExec", "evaluationExec"):
            if not self.ledger.get(needed):
                raise UserError(f"phpo needs --{needed}, and it is not given")
        segments = self._segments()
        config: dict[str, Any] = {"name": self._name(), **self._spaces(segments)}
        config["objectives"] = {"loss": "minimize"}
        config["algorithm"] = algorithm_section(
            self.ledger, segmented=segments is not None, relocate=self._relocate
        )
        if segments is not None:
            config["models"] = self._models(segments, config.pop("models"))
        config["steering"] = steering_section(self.ledger)
        config["evaluation"] = evaluation_section(self.ledger, _count(segments), config["search_space"])
        return Imported(config, self.ledger.fates())

    def _name(self) -> str:
        out = self.ledger.get("outDS")
        if out is None:
            return _fit_name(self.name)
        name = _fit_name(out)
        self.ledger.say("outDS", f"name: {name}")
        return name

    def _read(self, option: str) -> Any:
        """The JSON in the file that an option names."""
        path = self.folder / self.ledger.get(option)
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            raise UserError(f"--{option}: there is no file {path}") from None
        except (OSError, ValueError, RecursionError) as exc:
            raise UserError(f"--{option}: {path} is no JSON: {exc}") from None

    def _segments(self) -> list[dict[str, Any]] | None:
        if self.ledger.get("segmentSpecFile") is None:
            return None
        segments = self._read("segmentSpecFile")
        if not isinstance(segments, list) or not segments:
            raise ConfigError("segmentSpecFile", 'expected a list like [{"name": "A", "files": ["a.root"]}]')
        for i, segment in enumerate(segments):
            if not isinstance(segment, Mapping) or not isinstance(segment.get("name"), str):
                raise ConfigError(f"segmentSpecFile[{i}]", 'expected {"name": "A", "files": ["a.root"]}')
        return [dict(segment) for segment in segments]

    def _models(self, segments: list[dict[str, Any]], spaces: list[Any]) -> list[dict[str, Any]]:
        models = []
        unresolved = []
        for segment, space in zip(segments, spaces, strict=True):
            model: dict[str, Any] = {"name": segment["name"]}
            if segment.get("files"):
                model["data"] = list(segment["files"])
            if segment.get("datasets"):
                unresolved.append(segment["name"])
            if space is not None:
                model["search_space"] = space
            models.append(model)
        self.ledger.say("segmentSpecFile", f"models: {len(models)}, each a search of its own")
        if unresolved:
            self.ledger.say(
                "segmentSpecFile",
                f"the datasets of {_some(unresolved)} cannot be looked up here: list files as the model's data",
                kept=False,
            )
        return models

    def _spaces(self, segments: list[dict[str, Any]] | None) -> dict[str, Any]:
        """``search_space``, and with segments a list ``models`` of those that have another one."""
        option = "searchSpaceFile"
        if self.ledger.get(option) is None:
            none: dict[str, Any] = {"search_space": {}}
            return none if segments is None else {**none, "models": [None] * len(segments)}
        spec = self._read(option)
        spaces: list[dict[str, Any]] = []
        notes: list[str] = []
        if isinstance(spec, list) and segments is None:
            raise ConfigError(option, "lists several search spaces, and there is no segmentSpecFile")
        try:
            for space in per_segment(spec, _count(segments), option):
                made = translate(space, option)
                spaces.append(made.search_space)
                notes += [note for note in made.notes if note not in notes]
        except ConfigError as exc:
            spaces, notes = [{}] * _count(segments), []
            self.ledger.say(
                option,
                f"algorithm.opt_space, as it is; search_space: {{}}, any parameters, since {exc.key} {exc.message}",
                kept=False,
            )
        else:
            self.ledger.say(option, "search_space, translated, and algorithm.opt_space, as it is")
            for note in notes:
                self.ledger.say(option, note.removeprefix(f"{option}."))
        if segments is None:
            return {"search_space": spaces[0]}
        others = [None if space == spaces[0] else space for space in spaces]
        return {"search_space": spaces[0], "models": others}

    def _relocate(self, name: str) -> str:
        """A file's name as seen from the config's folder."""
        path = os.path.relpath(self.folder / name, self.target)
        return name if os.path.normpath(name) == path else path


def _fit_name(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text.strip().rstrip("/")).lstrip("_.-")[:100].rstrip("-.")
    return name or "phpo"


def _count(segments: list[dict[str, Any]] | None) -> int:
    return 1 if segments is None else len(segments)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
