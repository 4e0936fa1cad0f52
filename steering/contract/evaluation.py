"""An evaluation that is tried in a process of `evaluation`: which trainings, and what came back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo_steer.config.evaluation import Evaluation
from hpo_steer.config.secrets import without_secrets
from hpo_steer.config.surroundings import PLACEHOLDER
from hpo_steer.errors import ConfigError, HpoSteerError, UserError
from hpo_steer.findings import Finding
from hpo_steer.free_space import FreeSpace
from hpo_steer.space import SearchSpace
from steering.contract.making import TIMEOUT_S, read_space
from steering.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hpo_steer.config import LoadedConfig
    from hpo_steer.space import Params

TRAININGS = 6
MOST = 20
_PROGRAM = ("-c", "from hpo_steer.launcher import trial; trial()")
_CORNERS = (("the lowest corner", 0.0), ("the highest corner", float(np.nextafter(1.0, 0.0))))
_FUNCTION = re.compile(r"\S+:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Alone:
    """An evaluation that is given on the command line.

    Attributes:
        command: program and arguments, or ``FILE.py:NAME``.
        service: whether it speaks JSON lines.
        container: the image that it runs in.
        runtime: what runs that.
        space: a JSON or YAML file with the search space.
        objectives: metrics that it has to give.
    """

    command: str
    service: bool
    container: str | None
    runtime: str | None
    space: Path | None
    objectives: Sequence[str]


def trial_alone(alone: Alone, *, points: int | None, timeout_s: float | None) -> Iterator[Finding]:
    """Tries an evaluation that is given on the command line; it runs in the current folder.

    Raises:
        ConfigError: no space, no such program, or a command that cannot be one.
        ContainerError: no such image, or nothing to run it.
    """
    if alone.space is None:
        raise ConfigError("--evaluation", "needs --space FILE, the search space that its points come from")
    space = SearchSpace.from_dict(read_space(alone.space))
    spec, form = _form(alone)
    if alone.container is not None:
        spec["container"] = {"image": alone.container, "runtime": alone.runtime or "auto"}
    yield Finding("evaluation", None, form)
    request = {
        "evaluation": _checked(spec).model_dump(),
        "folder": str(Path.cwd()),
        "objectives": list(alone.objectives),
        "parameters": [parameter.name for parameter in space],
        "data": {},
        "model": "main",
    }
    yield from _trial(request, space, {}, points, timeout_s)


def trial_of(config: LoadedConfig, *, points: int | None, timeout_s: float | None) -> Iterator[Finding]:
    """Tries a config's evaluation with points of its first model.

    Raises:
        ConfigError: there is nothing that could be run, or its space is not known.
        ContainerError: as in `trial_alone`.
    """
    experiment = config.experiment
    model = experiment.models[0]
    space = experiment.space(model)
    if isinstance(space, FreeSpace):
        raise ConfigError(
            "search_space",
            "is empty, so only the steering knows points. Try the evaluation on its own: "
            "hpo-steer check --evaluation COMMAND --space FILE",
        )
    if len(experiment.models) > 1:
        yield Finding("evaluation", None, f"tried for model {model.name} of {len(experiment.models)}")
    request = {
        "evaluation": experiment.evaluation.model_dump(),
        "folder": str(config.folder),
        "objectives": list(experiment.measured),
        "parameters": [*(parameter.name for parameter in space), *model.constants],
        "data": {each.name: each.data for each in experiment.models if each.data},
        "model": model.name,
    }
    limit = timeout_s or experiment.evaluation.timeout_s
    yield from _trial(request, space, model.constants, points, limit)


# ---------------------------------------------------------------- what is run


def plan(space: SearchSpace, constants: Mapping[str, Any], n: int) -> list[tuple[str, str, Params]]:
    """The trainings to run: what each is called, what it is for, and its point.

    Args:
        space: where points come from.
        constants: handed to every training.
        n: how many at most.
    """
    first, second, *more = space.sample(max(n, 2), np.random.default_rng(0))
    planned = [
        ("a point", "random", first),
        ("another point", "random", second),
        ("the first point again", "again", first),
        ("asked to end", "end", first),
    ]
    for name, place in _CORNERS:
        corner = space.decode([place] * len(space))
        if space.broken(corner) is None:
            planned.append((name, "corner", corner))
    planned += [("one more point", "random", params) for params in more]
    return [(name, role, params | dict(constants)) for name, role, params in planned[:n]]


def _trial(
    request: dict[str, Any],
    space: SearchSpace,
    constants: Mapping[str, Any],
    points: int | None,
    timeout_s: float | None,
) -> Iterator[Finding]:
    n = TRAININGS if points is None else points
    if not 1 <= n <= MOST:
        raise ConfigError("--points", f"is 1 to {MOST} for an evaluation, which trains so often, got {n}")
    limit = timeout_s or TIMEOUT_S
    planned = plan(space, constants, n)
    yield Finding(
        "evaluation",
        None,
        f"runs {plural(len(planned), 'training')}, one after the other, each for at most {limit:g} s",
    )
    yield from _run(request | {"plan": planned, "timeout_s": limit})


def _run(request: Mapping[str, Any]) -> Iterator[Finding]:
    """Has a process of its own try it; its warnings go where ours go.

    Raises:
        UserError: there is nothing that could be run.
        HpoSteerError: the process has ended before it was done.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", *_PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=without_secrets(os.environ),
        start_new_session=True,
    )
    assert process.stdin is not None  # noqa: S101 - opened as pipes above
    assert process.stdout is not None  # noqa: S101 - likewise
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin as requests:
            requests.write(json.dumps(request).encode())
        with process.stdout as answers:
            for line in answers:
                answer = json.loads(line)
                if answer.get("done"):
                    return
                if "error" in answer:
                    raise _error(answer)
                yield Finding.from_json(answer)
        raise HpoSteerError(
            f"the process that tries the evaluation ended with exit code {process.wait()}; see above"
        )
    finally:
        process.terminate()  # its warden ends what it runs
        process.wait()


def _error(answer: Mapping[str, Any]) -> HpoSteerError:
    if answer["key"] is not None:
        return ConfigError(answer["key"], answer["error"])
    return UserError(answer["error"]) if answer["user"] else HpoSteerError(answer["error"])


# ---------------------------------------------------------------- what kind it is


def _form(alone: Alone) -> tuple[dict[str, Any], str]:
    """The ``evaluation`` of a config for a command, and what it was taken for."""
    text = alone.command.strip()
    if alone.service:
        return {"service": text}, "a service: JSON lines on its standard input and output"
    if _FUNCTION.fullmatch(text):
        return {"function": text}, "a function"
    if PLACEHOLDER.search(text):
        return {"command": text}, "a command, with parameters in its arguments"
    return (
        {"command": text, "files": {}},
        "a command that meets us through input.json and output.json, as it has no {name}, {input} or {output}",
    )


def _checked(spec: dict[str, Any]) -> Evaluation:
    from pydantic import ValidationError

    from hpo_steer.config.complaints import translated

    try:
        return Evaluation.model_validate(spec)
    except ValidationError as exc:
        raise translated(exc, Evaluation, "evaluation") from None
