"""The Pareto front of two or three objectives."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from steering.plots.style import BLUE, MUTED, head, logarithmic, new_figure, shortened, spans_decades
from steering.words import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hpo_steer.objectives import Objective
    from steering.run_view import RunView
    from steering.store.base import PointRecord

_NAMED = 12


def draw(view: RunView, model: str | None) -> Figure | str:
    """Each pair of objectives in a panel: the front of all objectives in blue, dominated points in grey.

    Returns:
        The figure, or why there is none.
    """
    goals = view.goals
    if not 2 <= len(goals) <= 3:
        count = "is one" if len(goals) == 1 else f"are {len(goals)}"
        return f"it takes two or three objectives, and there {count}"
    name = model or view.models[0].name
    done = [p for p in view.by_model[name] if p.state == "done"]
    if len(done) < 2:
        return f"{plural(len(done), 'point')} done; it takes two"
    best = view.best(name)
    pairs = list(itertools.combinations(goals, 2))
    figure = new_figure(8.4 if len(pairs) == 1 else 14.4, 5.8 if len(pairs) == 1 else 5.2)
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, (across, up) in zip(panels, pairs, strict=True):
        _panel(axes, across, up, done, best, staircase=len(pairs) == 1)
    panels[-1].legend(loc="best")
    of = f" · {name}" if len(view.models) > 1 else ""
    head(
        figure,
        f"{view.name}{of} · Pareto front",
        f"{len(best)} of {plural(len(done), 'point')} are dominated by no other",
    )
    return figure


def _panel(
    axes: Axes,
    across: Objective,
    up: Objective,
    done: Sequence[PointRecord],
    best: Sequence[PointRecord],
    *,
    staircase: bool,
) -> None:
    def place(points: Sequence[PointRecord]) -> tuple[list[float], list[float]]:
        return [(p.values or {})[across.name] for p in points], [(p.values or {})[up.name] for p in points]

    xs, ys = place(done)
    if spans_decades(xs):
        logarithmic(axes, "x", xs)
    if spans_decades(ys):
        logarithmic(axes, "y", ys)
    chosen = {p.id for p in best}
    axes.scatter(
        *place([p for p in done if p.id not in chosen]),
        s=26,
        color=MUTED,
        alpha=0.45,
        linewidths=0,
        label="dominated",
    )
    front = sorted(best, key=lambda p: (p.values or {})[across.name])
    if staircase:
        fx, fy = place(front)
        axes.step(
            fx, fy, where="post" if across.sign > 0 else "pre", color=BLUE, linewidth=1.6, alpha=0.6, zorder=3
        )
    axes.scatter(
        *place(front), s=52, color=BLUE, edgecolors="#fefefe", linewidths=0.9, zorder=4, label="Pareto front"
    )
    if len(front) <= _NAMED and staircase:
        for p in front:
            values = p.values or {}
            axes.annotate(
                str(p.id),
                (values[across.name], values[up.name]),
                xytext=(-6 * across.sign, -6 * up.sign),
                textcoords="offset points",
                ha="right" if across.sign > 0 else "left",
                va="top" if up.sign > 0 else "bottom",
                fontsize=10,
                color=BLUE,
            )
    axes.set_xlabel(_label(across, "→" if across.sign < 0 else "←"))
    axes.set_ylabel(_label(up, "→" if up.sign < 0 else "←"))
    axes.margins(0.07)


def _label(goal: Objective, arrow: str) -> str:
    better = f"{'smaller' if goal.sign > 0 else 'larger'} is better"
    return (
        f"{arrow} {shortened(goal.name)} ({better})"
        if arrow == "←"
        else f"{shortened(goal.name)} ({better}) {arrow}"
    )
