"""The Pareto front of four or more objectives: every point a line through all of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from steering.plots.style import (
    BLUE,
    MUTED,
    ORANGE,
    PAPER,
    legend_below,
    new_figure,
    plain,
    shortened,
    spans_decades,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hpo_steer.objectives import Objective
    from steering.plots.pareto import Groups
    from steering.run_view import RunView
    from steering.store.base import PointRecord

_LINES_MOST = 400


def draw_lines(view: RunView, groups: Groups) -> Figure:
    """An axis for each objective, the better end at its top; logarithmic where values span a decade."""
    goals = view.goals
    figure = new_figure(max(8.4, 1.9 * len(goals) + 1.0), 5.8)
    axes = figure.subplots()
    columns = [_Column(goal, groups.all) for goal in goals]
    looks = (
        (groups.infeasible, ORANGE, 0.9, (0, (4, 3)), "infeasible"),
        (groups.dominated, MUTED, 0.9, "-", "dominated"),
        (groups.best, BLUE, 1.7, "-", "Pareto front"),
    )
    for points, colour, width, dashes, label in looks:
        _lines(axes, columns, points, colour, width, dashes, label)
    for place, column in enumerate(columns):
        column.draw(axes, place)
    names = [f"{shortened(g.name, 18)}\n({'minimised' if g.sign > 0 else 'maximised'})" for g in goals]
    axes.set_xticks(range(len(goals)), names)
    axes.tick_params(axis="x", length=0, pad=8)
    axes.set_yticks([])
    axes.set_ylabel("better →")
    axes.set_xlim(-0.35, len(goals) - 0.75)
    axes.set_ylim(-0.03, 1.03)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    legend_below(figure)
    return figure


class _Column:
    """One objective's axis."""

    def __init__(self, goal: Objective, points: Sequence[PointRecord]) -> None:
        self.goal = goal
        values = [(p.values or {})[goal.name] for p in points]
        self.low, self.high, self.log = min(values), max(values), spans_decades(values)

    def height(self, value: float) -> float:
        """Where a value stands, 1 for the best of all."""
        if self.low == self.high:
            return 0.5
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return 1.0 - share if self.goal.sign > 0 else share

    def draw(self, axes: Axes, place: int) -> None:
        axes.plot([place, place], [0, 1], color=MUTED, linewidth=1.6, zorder=5)
        for value in dict.fromkeys((self.low, self.high)):
            axes.annotate(
                plain(float(f"{value:.3g}")),
                (place - 0.04, self.height(value)),
                ha="right",
                va="center",
                fontsize=10,
                zorder=6,
                bbox={"facecolor": PAPER, "alpha": 0.72, "edgecolor": "none", "pad": 0.8},
            )


def _lines(
    axes: Axes,
    columns: Sequence[_Column],
    points: Sequence[PointRecord],
    colour: str,
    width: float,
    dashes: object,
    label: str,
) -> None:
    shown = points[:: math.ceil(len(points) / _LINES_MOST)] if points else []
    strength = 0.85 if label == "Pareto front" else 0.5
    alpha = strength * min(1.0, (60 / max(len(shown), 1)) ** 0.5)
    for i, point in enumerate(shown):
        heights = [column.height((point.values or {})[column.goal.name]) for column in columns]
        axes.plot(
            range(len(columns)),
            heights,
            color=colour,
            linewidth=width,
            linestyle=dashes,
            alpha=max(alpha, 0.12),
            label=label if i == 0 else None,
        )
