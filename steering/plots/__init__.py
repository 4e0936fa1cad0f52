"""Pictures of a run. A new one is a file with a `draw` and a line in `_DRAWERS`."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from hpo_steer.errors import MissingExtra, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from steering.run_view import RunView

_DRAWERS: Mapping[str, str] = {
    "progress": "steering.plots.progress",
    "importance": "steering.plots.importance",
    "parallel": "steering.plots.parallel",
    "pareto": "steering.plots.pareto",
    "timeline": "steering.plots.timeline",
    "curves": "steering.plots.curves",
}
KINDS = tuple(_DRAWERS)
_OF_ONE_MODEL = ("importance", "parallel", "pareto")
_MODELS_DRAWN = 4


class Drawing(NamedTuple):
    """One plot of a run.

    Attributes:
        kind: one of `KINDS`.
        model: of which model; None: of all.
        figure: what was drawn.
        skipped: why nothing was, then.
    """

    kind: str
    model: str | None
    figure: Figure | None
    skipped: str = ""

    @property
    def stem(self) -> str:
        """The name of its file."""
        return (
            self.kind if self.model is None else f"{self.kind}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', self.model)}"
        )


def need_plots() -> None:
    """Makes sure that what draws is installed.

    Raises:
        MissingExtra: it is not.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtra("hpo-steer plot", "plot")


def drawings(view: RunView, kinds: Sequence[str], model: str | None = None) -> Iterator[Drawing]:
    """Draws; use it inside `steering.plots.style.styled`.

    Args:
        view: the run.
        kinds: of `KINDS`.
        model: only this model; None: all together, or for plots of one model each of a few.
    """
    for kind, of in _wanted(view, kinds, model):
        if of is None and kind in _OF_ONE_MODEL:
            yield Drawing(kind, None, None, f"{len(view.models)} models; choose one with --model NAME")
            continue
        try:
            result = import_module(_DRAWERS[kind]).draw(view, of)
        except (ArithmeticError, ValueError) as exc:  # data that a plotting library cannot scale
            result = f"these values cannot be drawn ({exc})"
        named = model if model is not None else of if len(view.models) > 1 else None
        if isinstance(result, str):
            yield Drawing(kind, named, None, result)
        else:
            yield Drawing(kind, named, result)


def _wanted(view: RunView, kinds: Sequence[str], model: str | None) -> Iterator[tuple[str, str | None]]:
    names = [m.name for m in view.models]
    for kind in kinds:
        if model is not None:
            yield kind, view.check_model(model)
        elif kind in _OF_ONE_MODEL and len(names) <= _MODELS_DRAWN:
            yield from ((kind, name) for name in names)
        else:
            yield kind, None


def write_plots(
    view: RunView, kinds: Sequence[str], folder: Path, suffix: str, model: str | None = None
) -> Iterator[str]:
    """Writes plots as files.

    Args:
        view: the run.
        kinds: of `KINDS`.
        folder: where they go.
        suffix: ``png``, ``svg``, ``pdf`` or ``html``.
        model: see `drawings`.

    Yields:
        The path of each, or ``skipped KIND: why``.

    Raises:
        MissingExtra: what draws is not installed.
        UserError: the folder cannot be written, or there is no such model.
    """
    need_plots()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if suffix == "html":
            yield from _write_pages(view, kinds, folder, model)
            return
        from steering.plots.style import save, styled

        with styled():
            for drawing in drawings(view, kinds, model):
                if drawing.figure is None:
                    yield _skipped(drawing)
                    continue
                path = folder / f"{drawing.stem}.{suffix}"
                save(drawing.figure, path)
                yield str(path)
    except OSError as exc:
        raise UserError(f"plots cannot be written to {folder}: {exc.strerror or exc}") from exc


def _skipped(drawing: Drawing) -> str:
    of = f" of {drawing.model}" if drawing.model is not None else ""
    return f"skipped {drawing.kind}{of}: {drawing.skipped}"


def _write_pages(view: RunView, kinds: Sequence[str], folder: Path, model: str | None) -> Iterator[str]:
    """Interactive ones, where there is such a form; else the picture in a page."""
    from steering.plots.interactive import page
    from steering.plots.style import inline_svg, styled

    if find_spec("plotly") is None:
        raise MissingExtra("hpo-steer plot --format html", "plot")
    with styled():
        for drawing in drawings(view, kinds, model):
            if drawing.figure is None:
                yield _skipped(drawing)
                continue
            path = folder / f"{drawing.stem}.html"
            text: Any = page(view, drawing.kind, drawing.model)
            path.write_text(
                text or _static_page(inline_svg(drawing.figure, drawing.stem), drawing.stem), "utf-8"
            )
            yield str(path)


def _static_page(svg: str, title: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>:root{color-scheme:light dark;--page:canvas}body{margin:1rem}"
        "svg{width:100%;height:auto}</style>"
        f"{svg}</html>\n"
    )
