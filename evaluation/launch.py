"""From a config, or from the command line alone, to a worker that is ready to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.link import link_package
from evaluation.process import Surroundings
from evaluation.runners.command import INPUT, OUTPUT, PLACEHOLDER, CommandRunner
from evaluation.runners.function import FunctionRunner, FunctionTarget
from evaluation.settings import WorkerSettings, worker_id
from evaluation.spool import Spool
from evaluation.warden import MARK, Warden
from evaluation.worker import Worker
from hpo_steer.config.payload import check_payload, payload_file
from hpo_steer.errors import ConfigError, nearest
from hpo_steer.transport import BrokerSettings, worker_end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evaluation.runners.base import Runner
    from evaluation.tally import Snapshot
    from hpo_steer.config.schema import Evaluation

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


@dataclass(frozen=True)
class Assignment:
    """What a worker is to do.

    Attributes:
        experiment: name of the experiment.
        evaluation: how points are evaluated.
        objectives: metrics a training must return; empty: not known.
        parameters: names that the search spaces know.
        broker: how to reach steering.
        folder: files are named relative to it, and trainings run in it.
        work_dir: folders of points, the spool and the logs lie in it.
        logs: where logs go, if elsewhere.
        run: id of the run, if known.
        address: the local steering's socket, if that has started us.
    """

    experiment: str
    evaluation: Evaluation
    objectives: Sequence[str]
    parameters: Sequence[str]
    broker: BrokerSettings
    folder: Path
    work_dir: Path
    run: str | None = None
    address: str | None = None


def default_work_dir(experiment: str) -> Path:
    """A private folder of the user's for an experiment's workers on this machine.

    ``$XDG_CACHE_HOME/hpo-steer/NAME``, or ``~/.cache/hpo-steer/NAME``; where there is no home, a folder of
    the user's in the temporary one.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.path.expanduser(cache)) / "hpo-steer" / experiment  # noqa: PTH111 - Path.expanduser raises
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    folder = Path(tempfile.gettempdir()) / f"hpo-steer-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise ConfigError("", f"{folder} belongs to somebody else; give a --work-dir")
    return folder / experiment


def check(assignment: Assignment, say: Callable[[str], None]) -> None:
    """Looks for what would fail every point, before anything is started.

    Raises:
        ConfigError: no such file, function, interpreter or program.
    """
    evaluation, folder = assignment.evaluation, assignment.folder
    if evaluation.command is not None:
        _check_command(assignment, say)
        return
    assert evaluation.function is not None  # noqa: S101 - the schema sees to it
    check_payload(evaluation.function, folder, "evaluation.function")
    file, module, _ = payload_file(evaluation.function, folder)
    python = _interpreter(evaluation.python, folder)
    if file is None or evaluation.python is not None:
        _probe(python, module if file is None else "", folder, evaluation)


def make_worker(
    assignment: Assignment,
    *,
    say: Callable[[str], None],
    show: Callable[[Snapshot], None] | None = None,
    on_retry: Callable[[str], None] | None = None,
) -> tuple[Worker, Warden]:
    """Puts a worker together; nothing is connected or started yet.

    Raises:
        ConfigError: as `check`, or a folder that cannot be written.
        SpoolError: the spool cannot be written.
    """
    work_dir, evaluation = assignment.work_dir, assignment.evaluation
    try:
        for name in ("points", "logs", "spool"):
            (work_dir / name).mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError("", f"cannot write to {work_dir}: {exc.strerror}. Another --work-dir?") from None
    host, worker = worker_id()
    warden = Warden(worker)
    settings = WorkerSettings(
        assignment.experiment,
        assignment.run,
        evaluation.slots,
        evaluation.heartbeat_s,
        points=work_dir.resolve() / "points",
        logs=work_dir.resolve() / "logs",
        host=host,
        id=worker,
    )
    transport = worker_end(
        assignment.broker,
        assignment.experiment,
        assignment.run,
        address=assignment.address,
        on_retry=on_retry,
    )
    runner = make_runner(assignment, warden, settings.logs)
    spool = Spool(work_dir.resolve() / "spool", worker, say)
    return Worker(transport, runner, spool, settings, say=say, show=show), warden


def make_runner(assignment: Assignment, warden: Warden, logs: Path) -> Runner:
    """The runner that a config asks for."""
    evaluation, folder = assignment.evaluation, assignment.folder.resolve()
    link = link_package(assignment.work_dir.resolve())
    around = Surroundings(_environment(evaluation, link, warden.mark), folder, warden)
    if evaluation.command is not None:
        return CommandRunner(evaluation.command, around, assignment.objectives, assignment.parameters)
    assert evaluation.function is not None  # noqa: S101 - the schema sees to it
    file, module, name = payload_file(evaluation.function, folder)
    path = [folder]
    if evaluation.function.rpartition(":")[0].endswith(".py") and file is not None:
        path = list(dict.fromkeys((file.parent, folder)))
    else:
        file = None  # found by its name, as `import` does
    target = FunctionTarget(
        file,
        module,
        name,
        path,
        _interpreter(evaluation.python, folder),
        link,
        assignment.objectives,
        evaluation.reuse,
    )
    return FunctionRunner(target, around, logs)


def _environment(evaluation: Evaluation, link: Path, mark: str) -> dict[str, str]:
    """The worker's environment without our variables (passwords are there), plus the config's."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HPO_STEER_")}
    env.setdefault("PYTHONUNBUFFERED", "1")  # what a killed training has printed is in its log
    env |= evaluation.env
    env["PYTHONPATH"] = os.pathsep.join(part for part in (env.get("PYTHONPATH"), str(link)) if part)
    env[MARK] = mark
    return env


def _interpreter(python: str | None, folder: Path) -> Path:
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


def _probe(python: Path, module: str, folder: Path, evaluation: Evaluation) -> None:
    """Asks an interpreter for its version, and whether it finds a module."""
    try:
        done = subprocess.run(
            [str(python), "-c", _PROBE, module, str(folder)],
            cwd=folder,
            env={**os.environ, **evaluation.env},
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


def _check_command(assignment: Assignment, say: Callable[[str], None]) -> None:
    command, folder = assignment.evaluation.command or [], assignment.folder
    program = command[0]
    path = assignment.evaluation.env.get("PATH", os.environ.get("PATH"))
    place = str(folder / program) if os.sep in program else program
    if "{" not in program and shutil.which(place, path=path) is None:
        where = "" if os.sep in program else " on the PATH"
        raise ConfigError("evaluation.command", f'there is no program "{program}"{where}')
    known = {*assignment.parameters, INPUT, OUTPUT}
    for name in PLACEHOLDER.findall(" ".join(command)) if assignment.parameters else ():
        if name not in known:
            hint = nearest(name, known)
            say(f"warning: evaluation.command: {{{name}}} is no parameter and stays as it is; {hint}")
