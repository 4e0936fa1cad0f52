"""The arguments that commands share, and how they answer."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo_steer.limits import harmless

RUN_HELP = "Name of the run, or its folder. [default: the only run there is]"

Run = Annotated[str | None, typer.Argument(metavar="[RUN]", help=RUN_HELP, show_default=False)]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="The run of this config, in place of its name."),
]
StoreFolder = Annotated[
    Path, typer.Option("--store", metavar="FOLDER", help="The folder that the run folders lie in.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
Model = Annotated[str | None, typer.Option("--model", "-m", metavar="NAME", help="Only this model.")]

RUNS = Path("runs")
_CONTROLS = re.compile(r"[\x7f-\x9f]")
"""Control characters that JSON may hold as they are, and terminals obey."""


def say(text: str) -> None:
    """Prints a line."""
    sys.stdout.write(harmless(text) + "\n")


def say_json(answer: Any) -> None:
    """Prints an answer for programs; numbers that JSON lacks become null."""
    from steering.run_view import finite

    text = json.dumps(finite(answer), indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def show_table(heads: list[str], rows: list[list[str]], *, right: tuple[int, ...] = ()) -> None:
    """A table: with rules and colour on a terminal, in plain columns elsewhere.

    Args:
        heads: of the columns.
        rows: cells as text.
        right: numbers of the columns whose cells stand at the right.
    """
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for i, head in enumerate(heads):
            table.add_column(Text(harmless(head)), justify="right" if i in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(harmless(cell)) for cell in row))
        Console(highlight=False).print(table)
        return
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows]:
        cells = [
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())
