"""``hpo-steer check``: is a config right, and does a user's program keep its contract, before anything is started?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from hpo_steer.bare_options import BareOptions
from steering.commands.options import AsJson, say, say_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpo_steer.findings import Finding
    from steering.contract.making import Alone

_OWN = "\0own"
"""Stands for ``--steering`` and ``--evaluation`` without a command: those of the config."""
_CONFIGS = (".yaml", ".yml", ".toml", ".json")

EPILOG = """Examples:

hpo-steer check my.yaml                                   the config, and nothing is run

hpo-steer check my.yaml --steering --evaluation           runs both halves of it a few times

hpo-steer check --steering "python steer.py %IN %OUT %NUM_POINTS %MAX_POINTS" --space space.json

hpo-steer check --steering "python server.py" --service --container user/steer:1

hpo-steer check --evaluation "python train.py" --space space.json --points 3
"""


class Command(BareOptions):
    """Takes ``--steering`` and ``--evaluation`` with a command or without one."""

    bare: ClassVar[dict[str, str]] = {"--steering": _OWN, "--evaluation": _OWN}


def check(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The config.", show_default=False)
    ] = None,
    steering: Annotated[
        str | None,
        typer.Option(
            metavar="[COMMAND]", help="Run a steering against its contract: FILE's own, or this command."
        ),
    ] = None,
    evaluation: Annotated[
        str | None,
        typer.Option(
            metavar="[COMMAND]",
            help="Run an evaluation likewise: FILE's own, this command, or a function, FILE.py:NAME.",
        ),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The search space for a COMMAND (JSON or YAML, or a config)."),
    ] = None,
    free: Annotated[
        bool, typer.Option("--free", help="The steering COMMAND has a space of its own, and is given none.")
    ] = False,
    service: Annotated[
        bool, typer.Option("--service", help="COMMAND stays up and speaks JSON lines; else it uses files.")
    ] = False,
    container: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Run COMMAND in a container of this image.")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What runs it: docker, podman, apptainer …; else what there is"),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The metric of COMMAND; again, for several. Else: loss"),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(metavar="N", help="Points in an ask (else 5), or trainings of an evaluation (else 6)."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="The longest that a call or a training may take; else 60.", min=0.1
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Checks a config and all that it needs, and starts nothing; or runs a user's program against its contract.

    Exit code 0: all holds. Else, for a config alone, 2; with --steering or --evaluation 1, and 2 for wrong input.

    Example: hpo-steer check my.yaml
    """
    from hpo_steer.errors import UserError

    tried = {"--steering": steering, "--evaluation": evaluation}
    given = {name: value for name, value in tried.items() if value is not None}
    alone = {
        "--space": space is not None,
        "--free": free,
        "--service": service,
        "--container": container is not None,
        "--runtime": runtime is not None,
        "--objective": bool(objective),
    }
    file, own = _config(file, given)
    if not given:
        extra = [*(name for name, used in alone.items() if used)]
        extra += ["--points"] * (points is not None) + ["--timeout"] * (timeout is not None)
        if extra:
            raise UserError(f"{extra[0]} goes with --steering or --evaluation")
        if file is None:
            raise UserError("needs a config, or --steering COMMAND or --evaluation COMMAND (see --help)")
        _report(_of_config(file), as_json, failed=2)
        return
    if own:
        if used := next((name for name, is_used in alone.items() if is_used), None):
            raise UserError(f"{used} goes with a COMMAND; {file} says it for its own halves")
    else:
        _check_alone(given, alone, objective or [])
    if file is not None:
        findings = _own(file, [*given], points, timeout)
    elif steering is not None:
        from steering.contract.making import Alone

        name = (objective or ["loss"])[0]
        it = Alone(steering, service, container, runtime, space, free, name)
        findings = _steering_alone(it, points, timeout)
    else:
        from steering.contract import evaluation as trial

        goals = objective or ["loss"]
        its = trial.Alone(evaluation or "", service, container, runtime, space, goals)
        findings = trial.trial_alone(its, points=points, timeout_s=timeout)
    _report(findings, as_json, failed=1)


def _config(file: Path | None, given: dict[str, str]) -> tuple[Path | None, bool]:
    """The config, and whether its own halves are tried; ``--steering my.yaml`` names it too.

    Raises:
        UserError: a command beside a config, or neither.
    """
    from hpo_steer.errors import UserError

    for name, value in given.items():
        if file is None and value.endswith(_CONFIGS) and " " not in value.strip() and Path(value).is_file():
            file, given[name] = Path(value), _OWN
    for name, value in given.items():
        if value == _OWN and file is None:
            raise UserError(
                f"{name} needs a COMMAND, or a config whose own half is run: hpo-steer check FILE {name}"
            )
        if value != _OWN and file is not None:
            raise UserError(
                f"{name} COMMAND does not go with a config, which has a half of its own (that is {name} alone). "
                f"Without the config: hpo-steer check {name} COMMAND --space {file}"
            )
    return file, file is not None and bool(given)


def _check_alone(given: dict[str, str], alone: dict[str, bool], objectives: list[str]) -> None:
    """Refuses options that contradict each other.

    Raises:
        UserError: some do.
    """
    from hpo_steer.errors import UserError

    if len(given) > 1:
        raise UserError("--steering COMMAND and --evaluation COMMAND are checked one at a time")
    (name,) = given
    if not given[name].strip() and not (alone["--service"] and alone["--container"]):
        raise UserError(f"{name} is empty; only an image has an entry point to run as a --service instead")
    if name == "--evaluation" and alone["--free"]:
        raise UserError("--free goes with --steering: an evaluation needs points from a --space")
    if alone["--free"] and alone["--space"]:
        raise UserError("--free and --space contradict each other")
    if alone["--runtime"] and not alone["--container"]:
        raise UserError("--runtime goes with --container")
    if name == "--steering" and len(objectives) > 1:
        raise UserError("a steering COMMAND is checked with one objective; several need a config")


def _of_config(file: Path) -> "Iterator[Finding]":
    from steering.checks import check_config

    return check_config(file)


def _own(file: Path, halves: list[str], points: int | None, timeout: float | None) -> "Iterator[Finding]":
    """Tries the halves of a config."""
    import tempfile

    from hpo_steer.config import load_config
    from hpo_steer.findings import Finding
    from steering.contract.evaluation import trial_of
    from steering.contract.making import checks_of

    config = load_config(file)
    if "--steering" in halves:
        with tempfile.TemporaryDirectory(prefix="hpo-steer-check-") as scratch:
            checks, named = checks_of(
                config,
                Path(scratch),
                points=None if "--evaluation" in halves else points,
                timeout_s=timeout,
            )
            yield Finding("steering", None, named)
            yield from checks.run()
    if "--evaluation" in halves:
        yield from trial_of(config, points=points, timeout_s=timeout)


def _steering_alone(alone: "Alone", points: int | None, timeout: float | None) -> "Iterator[Finding]":
    import tempfile

    from steering.contract.making import checks_alone

    with tempfile.TemporaryDirectory(prefix="hpo-steer-check-") as scratch:
        yield from checks_alone(alone, Path(scratch), points=points, timeout_s=timeout).run()


def _report(findings: "Iterator[Finding]", as_json: bool, *, failed: int) -> None:
    """Says what was found, each line as soon as it is known, and leaves with the exit code."""
    import sys

    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            say(str(finding))
            sys.stdout.flush()
    bad = sum(finding.ok is False for finding in found)
    if as_json:
        say_json({"ok": bad == 0, "checks": [finding.to_json() for finding in found]})
    elif bad:
        say(f"{bad} of {sum(finding.ok is not None for finding in found)} checks failed")
    if bad:
        raise typer.Exit(failed)
