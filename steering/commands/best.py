"""``hpo-steer best``: the best points of a run."""

from typing import TYPE_CHECKING, Annotated

import typer

from steering.commands.options import RUNS, AsJson, Config, Model, Run, StoreFolder, say, say_json, show_table

if TYPE_CHECKING:
    from steering.run_view import RunView
    from steering.store.base import PointRecord


def best(
    run: Run = None,
    *,
    config: Config = None,
    store: StoreFolder = RUNS,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            min=1,
            help="How many at most. [default: 5; of each of several models 1; a front: all]",
            show_default=False,
        ),
    ] = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """The best points that keep the outcome constraints: in order, or the Pareto front of several objectives.

    With several models, the best of each. Example: hpo-steer best digits -n 3 --json
    """
    from steering.feasibility import none_feasible
    from steering.run_view import open_view, point_json
    from steering.words import number

    with open_view(run, config=config, store=store) as view:
        found = best_points(view, n, model)
        names = list(view.experiment.measured)
        several = len(view.models) > 1
        volume = view.volume(model if model is not None or several else None)
        none = none_feasible(view.outcomes, view.points_of(model)) or "no point is done yet"
    if as_json:
        say_json([point_json(point, view.outcomes) for point in found])
        return
    if not found:
        say(none)
        return
    _show(found, names, several=several)
    if volume is not None:
        say(f"hypervolume {number(volume.value)}, {volume.reference}")


def best_points(view: "RunView", n: int | None, model: str | None) -> list["PointRecord"]:
    """The points that the command names, those of a model together."""
    names = [model] if model is not None else [m.name for m in view.models]
    if n is None and len(view.goals) == 1:
        n = 5 if len(names) == 1 else 1
    return [point for name in names for point in view.best(name, n)]


def _show(found: list["PointRecord"], names: list[str], *, several: bool) -> None:
    from steering.words import number, params

    heads = [*names, "point", "iteration", *(["model"] if several else []), "parameters"]
    rows = [
        [
            *(number((p.values or {}).get(name)) for name in names),
            str(p.id),
            str(p.iteration),
            *([p.model] if several else []),
            params(p.params),
        ]
        for p in found
    ]
    show_table(heads, rows, right=tuple(range(len(names) + 2)))
