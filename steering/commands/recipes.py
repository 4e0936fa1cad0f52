"""``hpo-steer recipes``: what images are built from, for those who have the installed package alone."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from steering.commands.options import say


def recipes(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to; it is made if need be.")
    ] = Path("recipes"),
) -> None:
    """Writes the recipes of the two images, and a compose.yaml that runs them; nothing is overwritten.

    Example: hpo-steer recipes --output recipes
    """
    import containers
    from hpo_steer.errors import UserError

    source = Path(containers.__file__).parent / "recipes"
    files = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()]
    files = [
        path for path in files if path.suffix != ".whl" and path.name != "constraints.txt"
    ]  # of a checkout
    for path in files:
        if (output / path).exists():
            raise UserError(
                f"{output / path} exists; nothing was written. Choose another folder: "
                f"hpo-steer recipes --output OTHER"
            )
    try:
        for path in files:
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, output / path)
    except OSError as exc:
        raise UserError(f"{exc.filename} cannot be written: {exc.strerror}") from exc
    for path in files:
        say(f"wrote {output / path}")
    for name in ("steering", "evaluation"):
        say(f"next: docker build -f {output}/Containerfile.{name} -t hpo-steer/{name} {output}")
