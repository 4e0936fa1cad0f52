"""From a config, or from a command alone, to a steering that can be tried."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_steer.config.container import Container
from hpo_steer.errors import ConfigError
from hpo_steer.free_space import search_space
from hpo_steer.objectives import parse_objectives
from hpo_steer.registry import algorithm_form, algorithm_name, is_outside
from steering.contract.checks import FEWEST, MOST_FULL, SteeringChecks
from steering.contract.files import CommandProgram
from steering.contract.hosted import HostedProgram
from steering.contract.service import ServiceProgram
from steering.hosts import Opening
from steering.outside.file_command import FileCommand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpo_steer.config import LoadedConfig
    from hpo_steer.space import SearchSpace
    from steering.contract.program import Program

BUILT_IN: dict[str, Any] = {
    "lr": {"type": "float", "low": 0.0001, "high": 0.1, "log": True},
    "layers": {"type": "int", "low": 1, "high": 8},
    "activation": {"type": "categorical", "choices": ["relu", "tanh", "gelu"]},
}
"""The search space of a command that is tried without one."""
FINITE: dict[str, Any] = {
    "layers": {"type": "int", "low": 1, "high": 3},
    "activation": {"type": "categorical", "choices": ["relu", "tanh"]},
}
"""A space to fill, for the same command."""
TIMEOUT_S = 60.0
POINTS = 5


@dataclass(frozen=True)
class Alone:
    """A steering that is given on the command line.

    Attributes:
        command: program and arguments.
        service: whether it speaks JSON lines; else it meets us through files.
        container: the image that it runs in.
        runtime: what runs that.
        space: a JSON or YAML file with the search space; None: `BUILT_IN`.
        free: whether it has a space of its own, which nobody else knows.
        objective: what is minimised.
    """

    command: str
    service: bool = False
    container: str | None = None
    runtime: str | None = None
    space: Path | None = None
    free: bool = False
    objective: str = "loss"


def checks_alone(
    alone: Alone, scratch: Path, *, points: int | None, timeout_s: float | None
) -> SteeringChecks:
    """The checks of a steering that is given on the command line; it runs in the current folder.

    Raises:
        ConfigError: no such program, or a space that is none.
        ContainerError: no such image, or nothing to run it.
    """
    space_spec = read_space(alone.space) if alone.space is not None else ({} if alone.free else BUILT_IN)
    spec: dict[str, Any] = {"service" if alone.service else "command": alone.command}
    if alone.container is not None:
        container: dict[str, Any] = {"image": alone.container, "runtime": alone.runtime or "auto"}
        spec["container"] = container
    opening = Opening(
        "main",
        spec,
        search_space(space_spec),
        parse_objectives({alone.objective: "minimize"}),
        0,
        (),
        Path.cwd(),
        "reuse",
    )
    finite = search_space(FINITE) if space_spec is BUILT_IN else None
    return _checks(opening, scratch, points, timeout_s, finite)


def checks_of(
    config: LoadedConfig, scratch: Path, *, points: int | None, timeout_s: float | None
) -> tuple[SteeringChecks, str]:
    """The checks of a config's own algorithm, that of its first model, and what that is called.

    Raises:
        ConfigError: an option that is wrong.
        ContainerError: as in `checks_alone`.
    """
    experiment = config.experiment
    model = experiment.models[0]
    opening = Opening.of(experiment, model, 0, config.folder)
    named = f"{algorithm_name(opening.spec)}" + (
        f", for model {model.name} of {len(experiment.models)}" if len(experiment.models) > 1 else ""
    )
    return _checks(opening, scratch, points, timeout_s, None), named


def _checks(
    opening: Opening,
    scratch: Path,
    points: int | None,
    timeout_s: float | None,
    finite: SearchSpace | None,
) -> SteeringChecks:
    n = POINTS if points is None else points
    if n < FEWEST:
        raise ConfigError("--points", f"is at least {FEWEST} for a steering, got {n}")
    program = _program(opening, opening.space, scratch, timeout_s)
    full = None
    size = opening.space.size
    if finite is not None:
        full = (_program(opening, finite, scratch, timeout_s), finite)
    elif size is not None and 0 < size <= MOST_FULL:
        full = (program, opening.space)
    return SteeringChecks(program, opening.space, n, full)


def _program(opening: Opening, space: SearchSpace, scratch: Path, timeout_s: float | None) -> Program:
    spec, log = opening.spec, scratch / "steering.log"
    limit = timeout_s or spec.get("timeout_s") or TIMEOUT_S
    if not is_outside(spec):
        return HostedProgram(opening, log, limit)
    named = {key: spec[key] for key in ("container", "env") if key in spec}
    if algorithm_form(spec) == "command":
        if len(opening.objectives) != 1:
            raise ConfigError("algorithm.command", "goes with one objective: its file has one loss a point")
        given = {key: spec[key] for key in ("opt_space", "failed") if key in spec}
        return CommandProgram(
            FileCommand(
                space,
                opening.folder,
                command=spec["command"],
                segment=spec.get("segment", 0) if spec.get("segmented") else None,
                timeout_s=limit,
                log_fd=_nowhere(log),
                **named,
                **given,
            )
        )
    if spec.get("container") is not None:
        Container.read(spec["container"], "algorithm.container")
    return ServiceProgram(
        space,
        opening.objectives,
        opening.folder,
        log=log,
        service=spec.get("service"),
        options=spec.get("options"),
        seed=opening.seed,
        timeout_s=limit,
        **named,
    )


def _nowhere(log: Path) -> int:
    """A descriptor that takes what commands print; it lives as long as this process."""
    import os

    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def read_space(path: Path) -> Mapping[str, Any]:
    """A search space in a file: parameters by name, or a config's, under ``search_space``.

    Raises:
        ConfigError: no such file, or none of that form.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError("--space", f"{path} cannot be read: {exc.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError("--space", f"{path} is no YAML and no JSON: {exc}") from None
    if isinstance(data, dict) and isinstance(data.get("search_space"), dict):
        data = data["search_space"]
    if not isinstance(data, dict) or not data:
        raise ConfigError(
            "--space",
            f"{path} holds no parameters by name, such as lr: {{type: float, low: 0.0001, high: 0.1}}",
        )
    return data
