"""``hpo-steer import-phpo``: a config from what was given to PanDA's phpo."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steering.commands.options import AsJson, say, say_json

if TYPE_CHECKING:
    from containers.phpo.fates import Fate
    from containers.phpo.options import Given

_WIDTH = 60


def import_phpo(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE | -- phpo OPTION…",
            help="phpo's JSON, or a text file with its command line; or that command line itself, behind --.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the config here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Makes a config from phpo's options, and says on stderr what became of each; nothing is overwritten.

    Example: hpo-steer import-phpo phpo.json -o my.yaml
    """
    from containers.phpo.importing import imported
    from hpo_steer.errors import UserError

    if output is not None and output.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"a config is written as YAML: name it {output.stem or 'experiment'}.yaml, not {output.name}"
        )
    if output is not None and output.exists():
        raise UserError(f"{output} exists; nothing was written. Choose another name")
    given, folder, name = _given(words)
    target = folder if output is None else output.resolve().parent
    made = imported(given, folder, name=name, target=target)
    if as_json:
        say_json(
            {
                "config": made.config,
                "options": [
                    {"option": f.option, "value": f.value, "became": f.text, "kept": f.kept}
                    for f in made.fates
                ],
            }
        )
    else:
        _show(made.fates)
    if output is not None:
        _write(output, _yaml(made.config))
        if not as_json:
            say(f"wrote {output}")
            say(f"next: hpo-steer check {output} · hpo-steer --config {output}")
    elif not as_json:
        sys.stdout.write(_yaml(made.config))


def _given(words: list[str]) -> "tuple[Given, Path, str]":
    """The options, the folder that their files lie in, and a name."""
    from containers.phpo.files import BadFile, read_json
    from containers.phpo.options import from_json, from_words, words_of
    from hpo_steer.errors import UserError

    if len(words) > 1 or words[0].startswith("-"):
        return from_words(words, Path()), Path(), "phpo"
    path = Path(words[0])
    folder, name = path.resolve().parent, path.stem
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"there is no file {path}. A command line goes behind --: hpo-steer import-phpo -- phpo --maxPoints 10 …"
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise UserError(f"{path} cannot be read: {exc}") from None
    if path.suffix != ".json" and not text.lstrip().startswith("{"):
        return from_words(words_of(text), folder), folder, name
    try:
        data = read_json(path, "the file", max_bytes=_MAX_BYTES)
    except BadFile as exc:
        raise UserError(str(exc)) from None
    if not isinstance(data, dict):
        raise UserError(f"{path} is no JSON of phpo: expected an object of options")
    return from_json(data), folder, name


_MAX_BYTES = 8_000_000


def _show(fates: "list[Fate]") -> None:
    """The table, on stderr: the config alone goes to stdout."""
    from hpo_steer.limits import harmless

    rows = [(fate.option, _short(fate.value), ("" if fate.kept else "! ") + fate.text) for fate in fates]
    heads = ("option", "value", "what became of it")
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(2)]
    for option, value, text in [heads, *rows]:
        line = f"{option.ljust(widths[0])}  {value.ljust(widths[1])}  {text}"
        sys.stderr.write(harmless(line.replace("\n", " ")).rstrip() + "\n")
    if any(not fate.kept for fate in fates):
        sys.stderr.write("! marks what is lost, or needs a look\n")
    sys.stderr.write("assumed: the loss is minimised, as phpo does\n")


def _short(value: Any) -> str:
    if value is None or value is True:
        return "" if value is None else "given"
    text = str(value)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _yaml(config: dict[str, Any]) -> str:
    import yaml

    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110)
    return f"# Made from the options of phpo by hpo-steer import-phpo.\n{text}"


def _write(path: Path, text: str) -> None:
    from hpo_steer.errors import UserError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as exc:
        raise UserError(f"{exc.filename} cannot be written: {exc.strerror}") from exc
