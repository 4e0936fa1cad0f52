"""``hpo-steer logs``: what a point's attempts have printed."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from steering.commands.options import RUNS, AsJson, Config, Run, StoreFolder, say, say_json

if TYPE_CHECKING:
    from steering.run_view import RunView
    from steering.store.base import AttemptRecord

_WIDEST = 2000
INTERRUPTED = 130


def logs(
    point: Annotated[int, typer.Argument(metavar="POINT", help="Id of the point.")],
    run: Run = None,
    *,
    config: Config = None,
    store: StoreFolder = RUNS,
    attempt: Annotated[
        int | None, typer.Option("--attempt", "-a", min=1, help="Only this attempt. [default: all]")
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Show what it prints while it runs, until the point has ended."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The attempts at a point: who tried, how each ended, and the last lines of its log.

    Example: hpo-steer logs 118 digits, and while it runs hpo-steer logs 118 -f
    """
    from hpo_steer.errors import UserError
    from steering.run_view import open_view

    if follow and (as_json or attempt is not None):
        raise UserError(
            "--follow goes with neither --json nor --attempt: it shows all that is printed from now on"
        )
    with open_view(run, config=config, store=store) as view:
        found = view.store.points(ids=[point])
        if not found:
            raise UserError(f"{view.name} has no point {point}; hpo-steer points {view.name} lists them")
        if follow:
            _follow(view, point)
            return
        tried = [a for a in view.store.attempts(point) if attempt in (None, a.attempt)]
        answer = [_as_data(view, one) for one in tried]
    if as_json:
        say_json(answer)
        return
    from steering.words import params

    say(f"point {point}: {params(found[0].params)}")
    if not tried:
        say("  no attempt has begun" if attempt is None else f"  there is no attempt {attempt}")
    for one in answer:
        _show(one)


def _follow(view: "RunView", point: int) -> None:
    import sys

    from steering.following import Follower

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        Follower(view.store, view.folder, point, write).follow()
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _as_data(view: "RunView", tried: "AttemptRecord") -> dict[str, Any]:
    from steering.run_view import timestamp

    file = view.folder / "logs" / f"{tried.point}-{tried.attempt}.log"
    return {
        "attempt": tried.attempt,
        "worker": tried.worker,
        "slot": tried.slot,
        "gpus": list(tried.gpus),
        "started_at": timestamp(tried.started_at),
        "ended_at": timestamp(tried.ended_at),
        "duration_s": tried.duration_s,
        "outcome": tried.outcome,
        "message": tried.message,
        "log": tried.log,
        "file": str(file) if file.is_file() else None,
    }


def _show(one: dict[str, Any]) -> None:
    from steering.words import duration, printable

    ended = one["outcome"] or "is running"
    took = "" if one["duration_s"] is None else f" after {duration(one['duration_s'])}"
    where = [printable(one["worker"] or "no worker"), *(printable(gpu) for gpu in one["gpus"])]
    say(f"attempt {one['attempt']}: {ended}{took} · {' · '.join(where)}")
    message = (one["message"] or "").strip()
    if message:
        say(f"  {printable(message.splitlines()[0], _WIDEST)}")
    if one["log"].strip():
        for line in one["log"].rstrip().splitlines():
            say(f"  | {printable(line, _WIDEST)}")
    elif not one["file"]:
        say("  no log came with it: it is on the worker's machine, in its work folder")
    if one["file"]:
        say(f"  whole log: {one['file']}")
