"""From a config, or from the command line alone, to a worker that is ready to run."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hpo_steer
from containers.enclosure import Enclosure
from containers.launch import Mount
from containers.process import Seat, Surroundings
from containers.warden import MARK, Warden
from containers.work_folder import WorkFolder
from evaluation.checkpoints.keeper import Keeper
from evaluation.life import terms
from evaluation.link import link_package
from evaluation.outbox import told_of
from evaluation.resources.allotment import Allotment, Portion
from evaluation.runners.children import ChildRunner
from evaluation.runners.command import CommandRunner
from evaluation.runners.files import FilesRunner
from evaluation.runners.shipped import ShippedRunner
from evaluation.runners.targets import FunctionTarget, ServiceTarget
from evaluation.settings import WorkerSettings, worker_id
from evaluation.shipment import Workshop
from evaluation.spool import Spool
from evaluation.supply import Supply
from evaluation.worker import Worker
from hpo_steer import faults
from hpo_steer.config.payload import payload_file
from hpo_steer.config.surroundings import boxed, interpreter
from hpo_steer.errors import ConfigError, HpoSteerError
from hpo_steer.limits import MAX_REASON
from hpo_steer.machine import Unfit, look
from hpo_steer.messages import Bye, Hello
from hpo_steer.shipping import BundleCache
from hpo_steer.transport import ANY_RUN, BrokerSettings, worker_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from evaluation.runners.base import Runner
    from evaluation.tally import Snapshot
    from hpo_steer.config.evaluation import Evaluation
    from hpo_steer.machine import Machine
    from hpo_steer.transport.base import WorkerEnd

_LINK_INSIDE = "/opt/hpo-steer"
"""The folder in a container that holds nothing but the package `hpo_steer`."""
_MIB = 2**20


@dataclass(frozen=True)
class Assignment:
    """What a worker is to do.

    Attributes:
        experiment: name of the experiment.
        evaluation: how points are evaluated.
        objectives: metrics a training must return, those of outcome constraints too; empty: not known.
        parameters: names that the search spaces know.
        broker: how to reach steering.
        folder: files are named relative to it, and trainings run in it.
        work_dir: folders of points, the spool and the logs lie in it.
        logs: where logs go, if elsewhere.
        run: id of the run, if known.
        address: the local steering's socket, if that has started us.
        parent: the steering process that has started us, if one has.
        began: from when the worker's time counts, in seconds since the epoch; None: from now.
        cautions: what to warn of.
        data: the data files of each model that lists its own.
        ships: the code comes from steering.
        ships_all: and with it what is to be run; `evaluation` has what the command line says, and no more.
        portion: the part of this machine that steering leaves to this worker; None: it is alone here.
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
    parent: int | None = None
    began: float | None = None
    cautions: Sequence[str] = ()
    data: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ships: bool = False
    ships_all: bool = False
    portion: Portion | None = None


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
        work_dir.parent.mkdir(parents=True, exist_ok=True)
        for folder in (work_dir, *(work_dir / name for name in ("points", "logs", "spool"))):
            folder.mkdir(mode=0o700, exist_ok=True)
        if work_dir.stat().st_mode & 0o077:
            say(f"warning: others can look into {work_dir}: chmod 700 {shlex.quote(str(work_dir))}")
    except OSError as exc:
        raise ConfigError("", f"cannot write to {work_dir}: {exc.strerror}. Another --work-dir?") from None
    host, worker = worker_id()
    warden = Warden(worker)
    machine = look()
    transport = worker_end(
        assignment.broker,
        assignment.experiment,
        assignment.run,
        address=assignment.address,
        on_retry=on_retry,
    )
    try:
        allotment = Allotment(
            machine,
            evaluation,
            experiment=assignment.experiment,
            folder=work_dir.resolve(),
            warden=warden,
            say=say,
            portion=assignment.portion,
            goes_on=lambda: assignment.parent in (None, os.getppid()),
        )
    except Unfit as unfit:
        _tell(transport, assignment, machine, host, worker, str(unfit))
        raise
    settings = WorkerSettings(
        assignment.experiment,
        assignment.run,
        allotment.slots,
        evaluation.heartbeat_s,
        points=work_dir.resolve() / "points",
        logs=work_dir.resolve() / "logs",
        host=host,
        id=worker,
        grace_s=evaluation.worker.grace_s,
        machine=machine,
        parent=assignment.parent,
        terms=terms(
            evaluation.worker,
            os.environ,
            time.time() if assignment.began is None else assignment.began,
            stays=assignment.parent is not None,
            saves=evaluation.checkpoint is not None,
            timeout_s=evaluation.timeout_s,
        ),
        gpus=tuple(seat.gpus for seat in allotment.seats),
    )
    keeper = Keeper(settings.points, assignment.experiment, say)
    runner, supply = _runner_and_supply(assignment, warden, settings.logs, keeper, say, allotment.seats)
    spool = Spool(work_dir.resolve() / "spool", worker, say)
    made = Worker(
        transport,
        runner,
        spool,
        settings,
        keeper=keeper,
        say=say,
        show=show,
        supply=supply,
        allotment=allotment,
    )
    return made, warden


def _tell(
    transport: WorkerEnd, assignment: Assignment, machine: Machine, host: str, worker: str, why: str
) -> None:
    """Lets steering know of a machine that has not what a point asks for; nobody waits for it then."""
    about: dict[str, Any] = {
        "experiment": assignment.experiment,
        "run": assignment.run or ANY_RUN,
        "worker": worker,
        "at": time.time(),
    }
    try:
        transport.open()
        transport.publish(Hello(**about, host=host, slots=1, **told_of(machine)), token=about)
        transport.publish(Bye(**about, reason=why[:MAX_REASON]), token=why)
    except HpoSteerError:
        pass  # the sentence is on this terminal
    finally:
        transport.close()


def _runner_and_supply(
    assignment: Assignment,
    warden: Warden,
    logs: Path,
    keeper: Keeper,
    say: Callable[[str], None],
    seats: Sequence[Seat],
) -> tuple[Runner, Supply | None]:
    """What runs points, and where its code comes from if that is not here."""

    def make(todo: Assignment) -> Runner:
        keeper.follow(todo.evaluation.checkpoint)
        return make_runner(todo, warden, logs, say, seats)

    if not assignment.ships:
        return make(assignment), None
    runner = ShippedRunner()
    workshop = Workshop(assignment, make, say)
    cache = BundleCache(assignment.work_dir.resolve() / "bundles")
    return runner, Supply(cache, workshop, runner, say)


def make_runner(
    assignment: Assignment,
    warden: Warden,
    logs: Path,
    say: Callable[[str], None],
    seats: Sequence[Seat] = (),
) -> Runner:
    """The runner that a config asks for.

    Args:
        assignment: what the worker is to do.
        warden: ends what it starts, if the worker is killed.
        logs: where logs go.
        say: told what people should know.
        seats: what each slot has; none: all have the same.

    Raises:
        ContainerError: it asks for a container that cannot be had here.
    """
    evaluation, folder = assignment.evaluation, assignment.folder.resolve()
    work_dir = assignment.work_dir.resolve()
    link = link_package(work_dir)
    enclosure, mounts, seen_link = None, list[Mount](), str(link)
    if evaluation.container is not None:
        if boxed(evaluation):
            seen_link = _LINK_INSIDE
            package = str(Path(hpo_steer.__file__).resolve().parent)
            mounts = [Mount(package, f"{seen_link}/hpo_steer", writable=False)]
        inner = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": seen_link, "HOME": "/tmp"} | evaluation.env  # noqa: S108
        container = evaluation.container
        if evaluation.gpus:
            container = container.model_copy(update={"gpus": True})
        enclosure = Enclosure(container, folder, warden.mark, inner, os.environ)
        enclosure.provide(say)
    keep = evaluation.log_mib * _MIB
    around = Surroundings(_environment(evaluation, link, warden.mark), folder, warden, enclosure, seats)
    if evaluation.files is not None and evaluation.command is not None:
        return FilesRunner(
            evaluation.command,
            around,
            assignment.objectives,
            evaluation.files,
            WorkFolder(folder, [work_dir]),
            parameters=assignment.parameters,
            data=assignment.data,
            mounts=mounts,
            keeps=evaluation.checkpoint is not None,
            keep=keep,
        )
    if evaluation.command is not None:
        return CommandRunner(
            evaluation.command, around, assignment.objectives, assignment.parameters, mounts, keep
        )
    points = Mount(str(work_dir / "points"), str(work_dir / "points"))
    if evaluation.service is not None:
        service = ServiceTarget(evaluation.service, assignment.objectives, (*mounts, points))
        return ChildRunner(service, around, logs, keep=keep, renewal=evaluation.reuse)
    function = _function(assignment, seen_link, enclosure, (*mounts, points))
    return ChildRunner(function, around, logs, keep=keep, renewal=evaluation.reuse)


def _function(
    assignment: Assignment, link: str, enclosure: Enclosure | None, mounts: Sequence[Mount]
) -> FunctionTarget:
    evaluation, folder = assignment.evaluation, assignment.folder.resolve()
    assert evaluation.function is not None  # noqa: S101 - the schema sees to it
    file, module, name = payload_file(evaluation.function, folder)
    path = [folder]
    if evaluation.function.rpartition(":")[0].endswith(".py") and file is not None:
        path = list(dict.fromkeys((file.parent, folder)))
    else:
        file = None  # found by its name, as `import` does
    inside = boxed(evaluation)
    seen = enclosure.inside if enclosure is not None else lambda path, _: str(path)
    return FunctionTarget(
        None if file is None else seen(file, folder),
        module,
        name,
        [seen(each, folder) for each in path],
        evaluation.python or "python3" if inside else str(interpreter(evaluation.python, folder)),
        link,
        assignment.objectives,
        evaluation.reuse is not None,
        stdio=inside,
        mounts=mounts,
    )


def _environment(evaluation: Evaluation, link: Path, mark: str) -> dict[str, str]:
    """The worker's environment without our variables (passwords are there), plus the config's."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HPO_STEER_") or name.startswith(faults.FAULTS)
    }
    env.setdefault("PYTHONUNBUFFERED", "1")  # what a killed training has printed is in its log
    env |= evaluation.env
    env["PYTHONPATH"] = os.pathsep.join(part for part in (env.get("PYTHONPATH"), str(link)) if part)
    env[MARK] = mark
    return env
