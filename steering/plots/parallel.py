"""Parallel coordinates: every point a line through all its parameters."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import OutsideSpace
from hpo_steer.parameters import Float, Int, Parameter
from steering.plots.style import MUTED, RED, head, new_figure, plain, shortened, spans_decades
from steering.words import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hpo_steer.objectives import Objective
    from steering.run_view import RunView
    from steering.store.base import PointRecord

_AXES_MOST = 14
_LINES_MOST = 1000
_OFF = -0.1  # where a line passes the axis of a parameter that is switched off
_SHADES = ("#a7aeb9", "#7fb3d9", "#0072b2")


def draw(view: RunView, model: str | None) -> Figure | str:
    """The lines take their colour from the rank by the first objective, infeasible points ranked last.

    Returns:
        The figure, or why there is none.
    """
    name = model or view.models[0].name
    done = sorted(
        (p for p in view.by_model[name] if p.state == "done"),
        key=lambda p: (not view.feasible(p), view.rank(p)),
    )
    if len(done) < 2:
        return f"{plural(len(done), 'point')} done; it takes two"
    thinned = done[:: math.ceil(len(done) / _LINES_MOST)]
    space = list(view.space(name))
    axes_shown = space[: _AXES_MOST - len(view.goals)]
    figure = new_figure(max(8.0, 1.35 * (len(axes_shown) + len(view.goals)) + 1.0), 5.6)
    axes = figure.subplots()
    columns = [_parameter_axis(axes, i, p, thinned) for i, p in enumerate(axes_shown)]
    columns += [
        _goal_axis(axes, len(axes_shown) + k, goal, done, thinned) for k, goal in enumerate(view.goals)
    ]
    _lines(axes, columns, best=view.feasible(thinned[0]))
    names = [shortened(p.name, 18) for p in axes_shown]
    names += [f"{shortened(g.name, 18)}\n({'minimised' if g.sign > 0 else 'maximised'})" for g in view.goals]
    axes.set_xticks(range(len(columns)), names)
    crowded = len(columns) > 9 or max(len(line) for n in names for line in n.splitlines()) > 14
    if crowded:
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0, pad=8)
    axes.set_yticks([])
    axes.set_xlim(-0.35, len(columns) - 0.55)
    off = any(p.name not in q.params for p in axes_shown for q in thinned)
    axes.set_ylim(_OFF - 0.04 if off else -0.03, 1.03)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    of = f" · {name}" if len(view.models) > 1 else ""
    head(
        figure, f"{view.name}{of} · parameters and results", _subtitle(view, space, axes_shown, done, thinned)
    )
    return figure


def _subtitle(
    view: RunView,
    space: Sequence[Parameter],
    shown: Sequence[Parameter],
    done: Sequence[PointRecord],
    thinned: Sequence[PointRecord],
) -> str:
    goal = shortened(view.goals[0].name)
    text = f"{plural(len(done), 'point')}, the bluer the better by {goal}"
    if view.feasible(done[0]):
        text += "; red: the best"
    if infeasible := sum(not view.feasible(p) for p in done):
        text += f"; {infeasible} infeasible, after all others"
    if len(thinned) < len(done):
        text += f"; {len(thinned)} are drawn"
    if len(shown) < len(space):
        text += f"; the first {len(shown)} of {len(space)} parameters"
    return text


def _parameter_axis(
    axes: Axes, place: int, parameter: Parameter, points: Sequence[PointRecord]
) -> list[float]:
    axes.plot([place, place], [0, 1], color=MUTED, linewidth=1.0, zorder=5)
    for height, text in _ticks(parameter):
        _tick(axes, place, height, text)
    ys = [parameter.encode(p.params[parameter.name]) if parameter.name in p.params else _OFF for p in points]
    if _OFF in ys:
        _tick(axes, place, _OFF, "off")
    return ys


def _tick(axes: Axes, place: int, height: float, text: str) -> None:
    axes.plot([place - 0.03, place], [height, height], color=MUTED, linewidth=1.0, zorder=5)
    axes.annotate(
        text,
        (place - 0.05, height),
        ha="right",
        va="center",
        fontsize=9.5,
        zorder=6,
        bbox={"facecolor": "#fefefe", "alpha": 0.72, "edgecolor": "none", "pad": 0.8},
    )


def _ticks(parameter: Parameter) -> list[tuple[float, str]]:
    """Heights and texts: both ends of a range and round numbers between, or the choices."""
    if not isinstance(parameter, (Float, Int)):
        values = parameter.values()
        step = math.ceil(len(values) / 12)
        return [(parameter.encode(v), shortened(str(v), 12)) for v in values[::step]]
    low, high = float(parameter.low), float(parameter.high)
    if isinstance(parameter, Int) and not parameter.log and (parameter.count or 0) <= 8:
        return [(parameter.encode(v), str(v)) for v in parameter.values()]
    ends = [parameter.decode(0.0), parameter.decode(1.0)]
    ticks = [(parameter.encode(end), plain(float(end))) for end in ends]
    for value in _round_numbers(low, high, log=parameter.log):
        height = _height(parameter, value)
        if height is not None and all(abs(height - other) > 0.07 for other, _ in ticks):
            ticks.append((height, plain(value)))
    return ticks


def _height(parameter: Float | Int, value: float) -> float | None:
    """Where a number stands, if it is one of the parameter's values."""
    try:
        return parameter.encode(parameter.check(round(value) if isinstance(parameter, Int) else value))
    except OutsideSpace:
        return None


def _round_numbers(low: float, high: float, *, log: bool) -> list[float]:
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        decades = [10.0**e for e in range(first, last + 1) if low < 10.0**e < high]
        if len(decades) >= 2:
            return decades[:: math.ceil(len(decades) / 6)]
        found = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
        return [v for v in found if low < v < high]
    from matplotlib.ticker import MaxNLocator

    return [float(v) for v in MaxNLocator(5).tick_values(low, high) if low < v < high]


def _goal_axis(
    axes: Axes, place: int, goal: Objective, done: Sequence[PointRecord], points: Sequence[PointRecord]
) -> list[float]:
    values = [(p.values or {})[goal.name] for p in done]
    log = spans_decades(values)
    low, high = min(values), max(values)
    axes.plot([place, place], [0, 1], color=MUTED, linewidth=2.2, zorder=5)
    if low == high:
        _tick(axes, place, 0.5, plain(low))
        return [0.5] * len(points)

    def height(value: float) -> float:
        if log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    ticks = [(0.0, plain(float(f"{low:.3g}"))), (1.0, plain(float(f"{high:.3g}")))]
    for value in _round_numbers(low, high, log=log):
        if all(abs(height(value) - other) > 0.07 for other, _ in ticks):
            ticks.append((height(value), plain(value)))
    for h, text in ticks:
        _tick(axes, place, h, text)
    return [height((p.values or {})[goal.name]) for p in points]


def _lines(axes: Axes, columns: list[list[float]], *, best: bool) -> None:
    """Smooth lines, from the worst below to the best on top (points are sorted best first)."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("rank", _SHADES)
    count = len(columns[0])
    xs = range(len(columns))
    lines: list[list[tuple[float, float]]] = []
    colours: list[Any] = []
    for i in range(count - 1, -1, -1):
        goodness = 1 - i / max(count - 1, 1)
        lines.append(_smooth([(x, columns[x][i]) for x in xs]))
        red, green, blue, _ = shades(goodness)
        colours.append((red, green, blue, (0.25 + 0.55 * goodness**2) * min(1.0, (150 / count) ** 0.5)))
    axes.add_collection(LineCollection(lines[:-1], colors=colours[:-1], linewidths=1.3, zorder=2))
    axes.add_collection(
        LineCollection(lines[-1:], colors=[RED] if best else colours[-1:], linewidths=2.6, zorder=3)
    )


def _smooth(corners: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Cosine arcs between the axes, so that lines through one value can be told apart."""
    line: list[tuple[float, float]] = []
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        for k in range(20):
            t = k / 20
            s = (1 - math.cos(math.pi * t)) / 2
            line.append((x0 + t * (x1 - x0), y0 + s * (y1 - y0)))
    return [*line, corners[-1]]
