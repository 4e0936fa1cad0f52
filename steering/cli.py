"""The command ``hpo-steer``."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo_steer import faults
from hpo_steer.errors import HpoSteerError, UserError
from hpo_steer.limits import harmless

OK, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

_COMMANDS = (
    "status",
    "best",
    "points",
    "logs",
    "retry",
    "export",
    "plot",
    "check",
    "init",
    "import-phpo",
    "algorithms",
    "replay",
    "permissions",
    "recipes",
)

_EPILOG = """Examples:

hpo-steer --config configs/quickstart.yaml      run it, or carry on where it was

hpo-steer --config my.yaml --set steering.max_points=50

hpo-steer best digits --json
"""

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    invoke_without_command=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"hpo-steer {version('hpo-steer')}")
        raise typer.Exit


@app.callback()
def run(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The experiment (YAML, TOML or JSON).", metavar="FILE"),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the config.", metavar="KEY=VALUE")
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(help="Override the broker: local, or amqps://user@host/vhost.", metavar="URL"),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew; an earlier run is moved aside.")
    ] = False,
    extend: Annotated[
        bool, typer.Option("--extend", help="Go on with a run under other stop rules.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and the summary.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tunes hyperparameters on machines that are somewhere else.

    With --config it runs an experiment, or resumes it where it was, whatever ended it. The commands below look at
    runs and help to write configs.
    """
    if context.invoked_subcommand is not None:
        if config is not None:
            raise UserError(
                f"--config goes behind the command: hpo-steer {context.invoked_subcommand} --config {config}"
            )
        return
    if config is None:
        typer.echo(context.get_help())
        raise typer.Exit(WRONG_INPUT)
    from steering.running import run_experiment

    texts = [*(overrides or []), *([f"broker.url={broker}"] if broker else [])]
    raise typer.Exit(
        run_experiment(config, texts, fresh=fresh, extend=extend, yes=yes, quiet=quiet, as_json=as_json)
    )


def _register() -> None:
    folder = Path(__file__).parent / "commands"
    for name in _COMMANDS:
        module = name.replace("-", "_")
        if (folder / f"{module}.py").exists():
            found = import_module(f"steering.commands.{module}")
            how = app.command(
                name, cls=getattr(found, "Command", None), epilog=getattr(found, "EPILOG", None)
            )
            how(getattr(found, module))


def fail(error: BaseException) -> int:
    """Prints an error as one sentence.

    Returns:
        The exit code that goes with it.
    """
    sys.stderr.write(f"error: {harmless(str(error))}\n")
    return WRONG_INPUT if isinstance(error, UserError) else FAILED


def main(argv: list[str] | None = None) -> Any:
    """Runs the program.

    Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted (and resumable).
    """
    _register()
    faults.arm(os.environ)
    try:
        return app(argv, standalone_mode=True)
    except HpoSteerError as exc:
        sys.exit(fail(exc))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
