"""The program `hpo-evaluate`."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hpo_steer.bare_options import BareOptions
from hpo_steer.machine.slots import RESOURCES

if TYPE_CHECKING:
    from evaluation.launch import Assignment
    from evaluation.settings import WorkerSettings
    from evaluation.tally import Snapshot
    from hpo_steer.config.worker_life import WorkerLife
    from hpo_steer.machine import Wants

LOCAL, RUN, RUN_FOLDER = "HPO_STEER_LOCAL", "HPO_STEER_RUN", "HPO_STEER_RUN_FOLDER"
PARENT, SLOTS, SINCE = "HPO_STEER_PARENT", "HPO_STEER_SLOTS", "HPO_STEER_SINCE"
"""The environment that steering gives to the workers it starts itself."""

_SHOW = "show"
"""Stands for ``--slots`` without a number."""


class Command(BareOptions):
    """Takes ``--slots`` with a number or without one."""

    bare: ClassVar[dict[str, str]] = {"--slots": _SHOW}


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.command(
    cls=Command,
    epilog="Examples:\n\n"
    "`hpo-evaluate --config sweep.yaml --slots 4`\n\n"
    "`hpo-evaluate --config sweep.yaml --gpus 0.25` four points on each GPU\n\n"
    "`hpo-evaluate --slots` what this machine has\n\n"
    "`hpo-evaluate --broker amqps://steer@broker/hpo --experiment digits --function train.py:train`\n\n"
    "`hpo-evaluate --broker amqp://localhost --experiment demo --command './train {lr} --out {output}'`\n\n"
    "`hpo-evaluate --broker amqps://steer@broker/hpo --experiment digits --ship`\n\n"
    "`hpo-evaluate --config sweep.yaml --idle-exit 300 --max-time 28800` (in a batch job of 8 h)\n\n"
    "Ctrl-C finishes what runs; again stops at once. SIGTERM has trainings save their checkpoints, and other workers "
    "carry on with them. None of these loses a result.",
)
def evaluate(
    config: Annotated[Path | None, typer.Option(help="The experiment's file (YAML, TOML or JSON).")] = None,
    broker: Annotated[
        str | None,
        typer.Option(help="amqp://user@host/vhost or amqps://…; password: HPO_STEER_BROKER_PASSWORD."),
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="The experiment's name, without a config.")] = None,
    function: Annotated[
        str | None, typer.Option(help="What to run: FILE.py:NAME or package.module:NAME.")
    ] = None,
    command: Annotated[str | None, typer.Option(help="Or a command, with {name}, {input}, {output}.")] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="A metric that must come back (may be given again), without a config."),
    ] = None,
    ship: Annotated[
        bool,
        typer.Option(
            "--ship",
            help="Run the code that steering ships (evaluation.ship); without a config, it also says what to run.",
        ),
    ] = False,
    slots: Annotated[
        str | None,
        typer.Option(
            metavar="[N|auto]",
            help="How many points to evaluate at once; auto: as many as fit. Without a number: shows what this machine "
            "has, and ends.",
        ),
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="GPUs for each point, or the share of one, such as 0.25.")
    ] = None,
    cores: Annotated[int | None, typer.Option(help="Cores for each point.")] = None,
    memory_mib: Annotated[int | None, typer.Option(help="Memory for each point, in MiB.")] = None,
    max_points: Annotated[int | None, typer.Option(min=1, help="End after so many points.")] = None,
    idle_exit: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="End after so long without a point.")
    ] = None,
    max_time: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="End after so long, and begin no point that would not end before. The end of a Slurm job is known.",
        ),
    ] = None,
    python: Annotated[str | None, typer.Option(help="The interpreter that runs the function.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides a key of the config.")
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(help="Where checkpoints, unsent results and logs are kept. [~/.cache/hpo-steer/NAME]"),
    ] = None,
) -> None:
    """Evaluates points of an experiment: takes them from the broker, trains, and sends the results back."""
    given: dict[str, Any] = {
        "broker": broker,
        "experiment": experiment,
        "function": function,
        "command": command,
    }
    given |= {"python": python, "ship": ship, "worker": _life(max_points, idle_exit, max_time)}
    given |= {
        "slots": None if slots == _SHOW else slots,
        "gpus": gpus,
        "cores": cores,
        "memory_mib": memory_mib,
    }
    if slots == _SHOW:
        raise typer.Exit(_show(config, given, settings or []))
    if config is not None:
        assignment = _from_config(config, given, settings or [], work_dir)
    else:
        assignment = _from_options(given, objective or [], settings or [], work_dir)
    raise typer.Exit(_work(assignment))


def _life(max_points: int | None, idle_exit: float | None, max_time: float | None) -> dict[str, Any]:
    """The keys of ``evaluation.worker`` that options say."""
    from hpo_steer.errors import ConfigError

    for option, value in (("--idle-exit", idle_exit), ("--max-time", max_time)):
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(option, f"is a number of seconds above 0, got {value:g}")
    told = {"max_points": max_points, "idle_exit_s": idle_exit, "max_time_s": max_time}
    return {name: value for name, value in told.items() if value is not None}


def _bounded(keys: dict[str, Any]) -> WorkerLife:
    from pydantic import ValidationError

    from hpo_steer.config.worker_life import WorkerLife
    from hpo_steer.errors import ConfigError

    try:
        return WorkerLife(**keys)
    except ValidationError as exc:
        message = exc.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError("--max-time", message) from None


def main() -> None:
    """Runs the program; exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    from hpo_steer import faults
    from hpo_steer.errors import HpoSteerError, UserError

    faults.arm(os.environ)
    code: Any = 0
    try:
        code = app(standalone_mode=False)
    except UserError as exc:
        code = _error(str(exc), 2)
    except HpoSteerError as exc:
        code = _error(str(exc), 1)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as exc:
        show = getattr(exc, "show", None)  # a wrong option: typer says which
        if show is None:
            raise
        show()
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _from_config(
    config: Path, given: dict[str, Any], overrides: list[str], work_dir: Path | None
) -> Assignment:
    from evaluation.launch import Assignment, default_work_dir
    from evaluation.resources.allotment import Portion
    from hpo_steer.config import load_config
    from hpo_steer.config.secrets import broker_settings, cautions
    from hpo_steer.errors import ConfigError

    if given["broker"] is not None:
        overrides = [*overrides, f"broker.url={given['broker']}"]
    loaded = load_config(config, [*overrides, *_resources(given)])
    goals = loaded.experiment
    for name in ("experiment", "function", "command"):
        if given[name] is not None:
            raise ConfigError("", f"--{name} does not go with --config, which says it; use --set")
    evaluation = goals.evaluation
    changes: dict[str, Any] = {name: given[name] for name in ("python",) if given[name] is not None}
    changes["worker"] = _bounded(evaluation.worker.model_dump() | given["worker"])
    broker = goals.broker
    local = os.environ.get(LOCAL)
    if broker.local and not local:
        raise ConfigError(
            "broker",
            "is local: hpo-steer starts these workers itself. For a worker of your own, on this machine or "
            "another, both need a broker: amqps://user@host/vhost",
        )
    names = dict.fromkeys(p.name for model in goals.models for p in goals.space(model))
    constants = dict.fromkeys(name for model in goals.models for name in model.constants)
    return Assignment(
        goals.name,
        evaluation.model_copy(update=changes),
        objectives=goals.measured,
        parameters=[*names, *constants],
        broker=broker_settings(broker, loaded.folder),
        folder=loaded.folder,
        work_dir=_run_folder() or _own(work_dir, goals.name) or default_work_dir(goals.name),
        run=os.environ.get(RUN),
        address=local,
        parent=int(os.environ[PARENT]) if PARENT in os.environ else None,
        began=float(os.environ[SINCE]) if SINCE in os.environ else time.time(),
        portion=Portion.parse(os.environ[SLOTS]) if SLOTS in os.environ else None,
        cautions=() if PARENT in os.environ else cautions(broker, None, loaded.folder),
        data={model.name: model.data for model in goals.models if model.data},
        ships=evaluation.ship is not None or given["ship"],
    )


def _from_options(
    given: dict[str, Any], objectives: list[str], overrides: list[str], work_dir: Path | None
) -> Assignment:
    from pydantic import ValidationError

    from evaluation.launch import Assignment, default_work_dir
    from hpo_steer.config.evaluation import Evaluation
    from hpo_steer.config.schema import NAME, Broker
    from hpo_steer.config.secrets import broker_settings, cautions
    from hpo_steer.errors import ConfigError

    if given["broker"] is None or given["experiment"] is None:
        raise ConfigError("", "needs --config FILE, or --broker URL and --experiment NAME")
    if overrides:
        raise ConfigError("", "--set changes a key of a config; there is no --config")
    if not NAME.fullmatch(given["experiment"]):
        raise ConfigError("--experiment", f"{given['experiment']!r} is no name of an experiment")
    told = [name for name in ("function", "command") if given[name] is not None]
    if given["ship"] and (told or objectives):
        raise ConfigError("--ship", f"says what to run, so --{[*told, 'objective'][0]} does not go with it")
    if not given["ship"] and len(told) != 1:
        raise ConfigError(
            "",
            "without a config, say what to run: --function FILE.py:NAME or --command 'PROGRAM …', or --ship, if "
            "steering ships the code",
        )
    spec: dict[str, Any] = {
        name: given[name] for name in ("function", "command", "python") if given[name] is not None
    }
    spec |= {name: given[name] for name in RESOURCES if given[name] is not None}
    if str(spec.get("slots")).isdigit():  # else auto, or what the schema complains of
        spec["slots"] = int(spec["slots"])
    if isinstance(spec.get("command"), str):
        spec["command"] = shlex.split(spec["command"])
    spec["worker"] = _bounded(given["worker"])
    try:
        evaluation = Evaluation(**(spec | {"function": "shipped:shipped"} if given["ship"] else spec))
        if given["ship"]:  # what comes with the code is checked when it is there
            evaluation = evaluation.model_copy(update={"function": None})
        broker = Broker(url=given["broker"])
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"--{key}" if key else "", first["msg"].removeprefix("Value error, ")) from None
    if broker.local:
        raise ConfigError(
            "--broker", "local workers are started by hpo-steer itself; give amqps://user@host/vhost"
        )
    name = given["experiment"]
    return Assignment(
        name,
        evaluation,
        objectives=objectives,
        parameters=[],
        broker=broker_settings(broker, Path.cwd()),
        folder=Path.cwd(),
        work_dir=_own(work_dir, name) or default_work_dir(name),
        cautions=cautions(broker, None, Path.cwd()),
        ships=given["ship"],
        ships_all=given["ship"],
    )


def _own(work_dir: Path | None, experiment: str) -> Path | None:
    return None if work_dir is None else work_dir / experiment


def _run_folder() -> Path | None:
    folder = os.environ.get(RUN_FOLDER)
    return Path(folder) if folder else None


def _work(assignment: Assignment) -> int:
    from evaluation.display import Display, line
    from evaluation.launch import make_worker
    from hpo_steer.config.surroundings import check_evaluation
    from hpo_steer.pulse import Pulse

    quiet = assignment.address is not None
    pulse = (
        Pulse(None) if PARENT in os.environ else Pulse.named_in(os.environ)
    )  # with a parent, it is steering's

    def show(now_is: Snapshot) -> None:
        display.show(now_is)
        pulse.beat(lambda: line(now_is))

    def wait(text: str) -> None:
        display.say(f"waiting: {text}")
        pulse.beat(lambda: text)

    with Display(quiet=quiet) as display:
        if not assignment.ships:  # else once it is here
            check_evaluation(
                assignment.evaluation,
                assignment.folder,
                assignment.parameters,
                lambda text: display.say(f"warning: {text}"),
            )
        for text in assignment.cautions:
            display.say(f"warning: {text}")
        worker, warden = make_worker(
            assignment,
            say=display.say,
            show=show,
            on_retry=wait,
        )
        display.say(_heading(assignment, worker.settings))
        try:
            code = 0 if worker.run() else 130
        finally:
            warden.close()
    if worker.hung:
        sys.stdout.flush()
        os._exit(code)  # the interpreter would wait for it
    return code


def _heading(assignment: Assignment, settings: WorkerSettings) -> str:
    return (
        f"{settings.machine.name if settings.machine else settings.host}: {settings.machine} → "
        f"{_slots(settings.slots, assignment.evaluation.wants)} · {assignment.broker.url} · "
        f"experiment {assignment.experiment} · {assignment.work_dir}"
    )


def _slots(number: int, wants: Wants) -> str:
    return f"{number} slot{'s' * (number != 1)}" + (f" of {wants}" if wants else "")


def _resources(given: dict[str, Any]) -> list[str]:
    """What the command line says about slots, as settings of a config."""
    return [f"evaluation.{name}={given[name]}" for name in RESOURCES if given[name] is not None]


def _show(config: Path | None, given: dict[str, Any], overrides: list[str]) -> int:
    """Says what this machine has, and how many points fit."""
    from hpo_steer.config import load_config
    from hpo_steer.machine import Wants, look, slots_here

    if config is not None:
        evaluation = load_config(config, [*overrides, *_resources(given)]).experiment.evaluation
        wants, slots = evaluation.wants, evaluation.slots
    else:
        wants, slots = Wants(given["gpus"], given["cores"], given["memory_mib"]), None
    machine = look()
    print(f"{machine.name}: {machine} → {_slots(slots_here(machine, wants, slots or 'auto'), wants)}")  # noqa: T201 - asked for
    for gpu in machine.gpus:
        print(f"  {gpu.uuid}  {gpu.name}  {gpu.memory_mib:,} MiB{'  slice' * gpu.slice}")  # noqa: T201 - likewise
    return 0


def _error(text: str, code: int) -> int:
    from hpo_steer.limits import harmless

    print(f"error: {harmless(text)}", file=sys.stderr, flush=True)  # noqa: T201 - the program's own words
    return code
