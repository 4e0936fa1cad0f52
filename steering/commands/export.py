"""``hpo-steer export``: the points as a table for other programs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hpo_steer.errors import UserError
from steering.commands.options import RUNS, Config, Model, Run, StoreFolder, say


class Format(StrEnum):
    """What kind of file is written."""

    csv = "csv"
    json = "json"
    parquet = "parquet"


def export(
    run: Run = None,
    *,
    config: Config = None,
    store: StoreFolder = RUNS,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="[default: by the name of the file, else csv]", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="[default: standard output]", show_default=False),
    ] = None,
    model: Model = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Writes all points as a table: one row a point, columns such as params.eta and values.loss.

    Example: hpo-steer export digits --output digits.parquet
    """
    from steering.export import export_points
    from steering.run_view import open_view
    from steering.words import plural

    suffix = output.suffix[1:] if output is not None else ""
    if format_ is None and suffix and suffix not in set(Format):
        raise UserError(f"there is no format for {output}; name one with --format, of {', '.join(Format)}")
    kind = format_ or (Format(suffix) if suffix else Format.csv)
    with open_view(run, config=config, store=store) as view:
        rows = export_points(view, kind.value, output, model=model, force=force)
    if output is not None:
        say(f"{plural(rows, 'point')} in {output}")
