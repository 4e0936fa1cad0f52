"""How plots look: one palette that colour-blind readers can tell apart, readable sizes, light and dark."""

from __future__ import annotations

import io
import math
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008): Color Universal Design
BLUE, SKY, GREEN, ORANGE, RED, PURPLE, YELLOW = (
    "#0072b2",
    "#56b4e9",
    "#009e73",
    "#e69f00",
    "#d55e00",
    "#cc79a7",
    "#c9b000",  # theirs (#f0e442) is too light on white
)
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW)
INK, MUTED, PAPER = "#20242a", "#747b86", "#fefefe"
_HEAD_INCHES = 0.72
OUTCOMES = {
    "done": BLUE,
    "running": SKY,
    "error": RED,
    "timeout": ORANGE,
    "lost": PURPLE,
    "invalid": YELLOW,
    "pruned": GREEN,
    "released": MUTED,
    "cancelled": MUTED,
}
_RC: dict[str, Any] = {
    "font.size": 12.0,
    "font.family": "sans-serif",
    "text.parse_math": False,  # users' names may hold dollar signs
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11.5,
    "axes.titlecolor": MUTED,
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.labelsize": 12.0,
    "axes.unicode_minus": True,
    "grid.color": MUTED,
    "grid.alpha": 0.18,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
    "legend.frameon": False,
    "legend.fontsize": 11.0,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": "auto",
    "svg.fonttype": "path",
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save inside of it."""
    import matplotlib as mpl

    with warnings.catch_warnings(), mpl.rc_context({**_RC, "svg.hashsalt": "hpo-steer"}):
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")  # a name in a script that the font lacks
        yield


def new_figure(width: float = 9.0, height: float = 5.2) -> Figure:
    """A figure of its own, that no global state knows of; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.12, h_pad=0.1)
    return figure


def head(figure: Figure, title: str, subtitle: str) -> None:
    """The title, and below it a sentence on what is to be seen, in a strip above the axes."""
    height = float(figure.get_size_inches()[1])
    left = 0.14 / float(figure.get_size_inches()[0])
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, 0, 1, 1 - _HEAD_INCHES / height))
    figure.text(left, 1 - 0.12 / height, shortened(title, 80), va="top", fontsize=14.5, fontweight="bold")
    figure.text(left, 1 - 0.42 / height, shortened(subtitle, 110), va="top", fontsize=11.5, color=MUTED)


def legend_below(figure: Figure) -> None:
    """One legend for all panels, each label once, below them."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if not found:
        return
    columns = min(len(found), 6)
    figure.legend(
        found.values(),
        found.keys(),
        loc="outside lower left",
        ncols=columns,
        columnspacing=1.6,
        handletextpad=0.5,
    )


def shortened(text: str, most: int = 28) -> str:
    """At most so many characters, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


# ---------------------------------------------------------------- scales


def spans_decades(values: Sequence[float]) -> bool:
    """Whether values are better shown on a logarithmic scale: all positive, and over a decade."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > 10


def logarithmic(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Makes an axis logarithmic, with plain numbers at its ticks.

    Args:
        axes: whose.
        which: ``x`` or ``y``.
        values: what it shows.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    decades = math.log10(max(values) / min(values))
    subs = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_formatter(NullFormatter())


def plain(value: float) -> str:
    """A tick's number.

    >>> [plain(v) for v in (0.01, 20.0, 1e-05, 3e6, -0.5)]
    ['0.01', '20', '1e-5', '3e6', '-0.5']
    """
    text = f"{value:.4g}"
    return re.sub(r"e([+-])0*(\d+)", lambda m: "e" + m[1].replace("+", "") + m[2], text)


# ---------------------------------------------------------------- files


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG, SVG or PDF."""
    kind = path.suffix[1:]
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    figure.savefig(path, format=kind, dpi=150, metadata=metadata)


def inline_svg(figure: Figure, label: str) -> str:
    """The figure as an SVG element for a page: transparent, its text in the page's own colour.

    Args:
        figure: drawn inside `styled`.
        label: what it shows, for screen readers; plain text.
    """
    import html

    buffer = io.StringIO()
    figure.patch.set_visible(False)
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups()  # type: ignore[union-attr]
    svg = svg.replace(
        f'width="{width}pt" height="{height}pt"', f'role="img" aria-label="{html.escape(label)}"', 1
    )
    return svg.replace(INK, "currentColor").replace(PAPER, "var(--page)")
