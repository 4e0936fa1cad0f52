"""``hpo-steer plot``: pictures of a run."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from steering.commands.options import RUNS, Config, Model, Run, StoreFolder, say


class Kind(StrEnum):
    """Which picture."""

    all = "all"
    progress = "progress"
    importance = "importance"
    parallel = "parallel"
    pareto = "pareto"
    timeline = "timeline"
    curves = "curves"


class Format(StrEnum):
    """What kind of file; html is interactive."""

    png = "png"
    svg = "svg"
    html = "html"
    pdf = "pdf"


def plot(
    run: Run = None,
    *,
    config: Config = None,
    store: StoreFolder = RUNS,
    kind: Annotated[Kind, typer.Option("--kind", "-k", help="Which picture.")] = Kind.all,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="[default: plots/ in the run's folder]",
            show_default=False,
        ),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="html can be zoomed and picked in.")
    ] = Format.png,
    model: Model = None,
) -> None:
    """Draws a run: progress, importance of parameters, parallel coordinates, Pareto front, timeline, learning curves.

    Example: hpo-steer plot digits --kind progress --format svg
    """
    from steering.plots import write_plots
    from steering.run_view import open_view

    with open_view(run, config=config, store=store) as view:
        kinds = [k.value for k in Kind if k != Kind.all] if kind == Kind.all else [kind.value]
        for line in write_plots(view, kinds, output or view.folder / "plots", format_.value, model):
            say(line)
