"""Looks for what would fail every point, before anything is started: programs, interpreters, files, functions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hpo_steer.config.evaluation import Evaluation
from hpo_steer.config.payload import check_payload, payload_file
from hpo_steer.config.secrets import without_secrets
from hpo_steer.errors import ConfigError, nearest

INPUT, OUTPUT = "input", "output"
PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w.-]*)\}")
OLDEST_PYTHON = (3, 9)
_PROBE = """
import sys
sys.path[:] = sys.argv[2:] + [p for p in sys.path if p]
found = True
if sys.argv[1]:
    import importlib.util
    try:
        found = importlib.util.find_spec(sys.argv[1]) is not None
    except ImportError:
        found = False
print("hpo-steer-probe", sys.version_info[0], sys.version_info[1], int(found))
"""


def check_evaluation(
    evaluation: Evaluation, folder: Path, parameters: Sequence[str], say: Callable[[str], None]
) -> str:
    """Checks that this machine can run what a config evaluates points with.

    Args:
        evaluation: the config's section.
        folder: the config's folder.
        parameters: names that a command's placeholders may have; empty: not known.
        say: told what looks wrong without being an error.

    Returns:
        What will run.

    Raises:
        ConfigError: no such file, function, module, interpreter or program.
    """
    command, service = evaluation.command, evaluation.service
    if command is not None or service is not None:
        key = "evaluation.command" if command is not None else "evaluation.service"
        if command is not None and evaluation.files is None:
            _check_placeholders(command, parameters, say)
        if boxed(evaluation):
            return (
                "the image's entry point" if not (command or service) else " ".join(command or service or [])
            )
        return _find_program(command or service or [], evaluation, folder, key)
    assert evaluation.function is not None  # noqa: S101 - the schema sees to it
    check_payload(evaluation.function, folder, "evaluation.function")
    if boxed(evaluation):
        return f"{evaluation.function}, run by {evaluation.python or 'python3'} in its container"
    file, module, _ = payload_file(evaluation.function, folder)
    python = interpreter(evaluation.python, folder)
    if file is None or evaluation.python is not None:
        version = _probe(python, module if file is None else "", folder, evaluation)
    else:
        version = sys.version_info[:2]
    return f"{evaluation.function}, run by {python} (Python {version[0]}.{version[1]})"


def interpreter(python: str | None, folder: Path) -> Path:
    """The interpreter that runs trainings.

    Args:
        python: as configured: a path relative to the config's folder, or a name on the PATH; None: this one.
        folder: the config's folder.

    Raises:
        ConfigError: there is none.
    """
    if python is None:
        return Path(sys.executable)
    name = os.path.expanduser(python)  # noqa: PTH111 - Path.expanduser raises
    if os.sep in name:
        path = folder / name
        found = path.is_file() and os.access(path, os.X_OK)
        hint = f"; did you mean {path}/bin/python?" if (path / "bin/python").exists() else ""
    else:
        place = shutil.which(name)
        path, found, hint = Path(place or name), place is not None, " on the PATH"
    if not found:
        raise ConfigError("evaluation.python", f"there is no interpreter {path}{hint}")
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolving the link would leave its virtual environment


def _probe(python: Path, module: str, folder: Path, evaluation: Evaluation) -> tuple[int, int]:
    """Asks an interpreter for its version, and whether it finds a module."""
    try:
        done = subprocess.run(
            [str(python), "-c", _PROBE, module, str(folder)],
            cwd=folder,
            env={**without_secrets(os.environ), **evaluation.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConfigError("evaluation.python", f"{python} cannot be run: {exc}") from None
    answer = next((s for s in done.stdout.splitlines() if s.startswith("hpo-steer-probe")), "").split()
    if len(answer) != 4:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise ConfigError("evaluation.python", f"{python} is no working Python: {last}")
    version = int(answer[1]), int(answer[2])
    if version < OLDEST_PYTHON:
        raise ConfigError(
            "evaluation.python", f"{python} is Python {version[0]}.{version[1]}; trainings need 3.9 or later"
        )
    if answer[3] == "0":
        raise ConfigError(
            "evaluation.function",
            f'{python} finds no module "{module}"; is it installed there, or in {folder}?',
        )
    return version


def boxed(evaluation: Evaluation) -> bool:
    """Whether what is run lies in a container, out of this machine's sight."""
    return evaluation.container is not None and evaluation.container.runtime != "none"


def _find_program(command: Sequence[str], evaluation: Evaluation, folder: Path, key: str) -> str:
    program = command[0]
    path = evaluation.env.get("PATH", os.environ.get("PATH"))
    place = str(folder / program) if os.sep in program else program
    found = program if "{" in program else shutil.which(place, path=path)
    if found is None:
        where = "" if os.sep in program else " on the PATH"
        raise ConfigError(key, f'there is no program "{program}"{where}')
    return found


def _check_placeholders(
    command: Sequence[str], parameters: Sequence[str], say: Callable[[str], None]
) -> None:
    known = {*parameters, INPUT, OUTPUT}
    for name in PLACEHOLDER.findall(" ".join(command)) if parameters else ():
        if name not in known:
            hint = nearest(name, known)
            say(f"evaluation.command: {{{name}}} is no parameter and stays as it is; {hint}")
