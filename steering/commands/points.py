"""``hpo-steer points``: the points of a run, one a line."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from steering.commands.options import RUNS, AsJson, Config, Model, Run, StoreFolder, say, say_json, show_table

_SHOWN = 200


class State(StrEnum):
    """Where a point stands."""

    queued = "queued"
    running = "running"
    done = "done"
    failed = "failed"


def points(
    run: Run = None,
    *,
    config: Config = None,
    store: StoreFolder = RUNS,
    model: Model = None,
    state: Annotated[
        list[State] | None, typer.Option("--state", help="Only points in this state (may be repeated).")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            help="How many at most. [default: 200; with --json all]",
            show_default=False,
        ),
    ] = None,
    after: Annotated[int, typer.Option("--after", min=0, help="Only points with an id above this.")] = 0,
    as_json: AsJson = False,
) -> None:
    """The points: parameters, state, values, failures.

    Example: hpo-steer points digits --state failed --json
    """
    from steering.run_view import open_view, point_json

    with open_view(run, config=config, store=store) as view:
        if model is not None:
            view.check_model(model)
        several = len(view.models) > 1 and model is None
        names, outcomes = list(view.experiment.measured), view.outcomes
        wanted = limit if as_json or limit is not None else _SHOWN + 1
        states: list[Any] | None = [s.value for s in state] if state else None
        found = view.store.points(model=model, states=states, after=after, limit=wanted)
    if as_json:
        say_json([point_json(point, outcomes) for point in found])
        return
    if not found:
        say("no such points")
        return
    more = limit is None and len(found) > _SHOWN
    found = found[:_SHOWN] if more else found
    heads = ["point", *(["model"] if several else []), "iteration", "state", *names, "time", "parameters"]
    show_table(
        heads,
        [_row(point, names, outcomes, several=several) for point in found],
        right=_right(names, several=several),
    )
    if more:
        say(f"… the first {_SHOWN}; go on with --after {found[-1].id}, or --limit N, or --json for all")


def _right(names: list[str], *, several: bool) -> tuple[int, ...]:
    begin = 2 if several else 1
    return (0, begin, *range(begin + 2, begin + 3 + len(names)))


def _row(point: Any, names: list[str], outcomes: Any, *, several: bool) -> list[str]:
    from steering.feasibility import feasibility
    from steering.words import duration, number, params

    state = point.state if point.failure is None else point.failure.kind
    state = "infeasible" if feasibility(outcomes, point) is False else state
    state += (
        " (reused)"
        if point.duplicate_of is not None
        else f" (attempt {point.attempts})"
        if point.attempts > 1
        else ""
    )
    return [
        str(point.id),
        *([point.model] if several else []),
        str(point.iteration),
        state,
        *(number(point.values[name]) if name in (point.values or {}) else "-" for name in names),
        "-" if point.duration_s is None else duration(point.duration_s),
        params(point.params) + ("" if point.parent is None else f" (from point {point.parent})"),
    ]
