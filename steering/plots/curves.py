"""Learning curves: what trainings have reported, those ended early in another colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steering.curves import curves
from steering.plots.style import (
    BLUE,
    INK,
    ORANGE,
    RED,
    SKY,
    head,
    legend_below,
    logarithmic,
    new_figure,
    shortened,
    spans_decades,
)
from steering.words import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hpo_steer.objectives import Objective
    from steering.curves import Curve
    from steering.run_view import RunView
    from steering.store.base import PointRecord

_MOST = 400
"""More curves than this hide each other: the newest are drawn, and the best."""
_LOOKS = {"pruned": (ORANGE, 0.75), "done": (BLUE, 0.5), "failed": (RED, 0.6), "running": (SKY, 0.9)}

Line = tuple[list[int], list[float]]


def draw(view: RunView, model: str | None) -> Figure | str:
    """One panel for each metric that decides: that of ``pruning``, else the objectives.

    Returns:
        The figure, or why there is none.
    """
    points = view.points_of(model)
    best = {
        point.id
        for name in ([model] if model else [m.name for m in view.models])
        for point in view.best(name, 1)
    }
    first = points[-_MOST].id if len(points) > _MOST else 0
    drawn = [p for p in points if p.id in best or p.id >= first]
    found = curves(view.store, [point.id for point in drawn])
    rules = view.experiment.pruning
    metrics = view.goals if rules is None else rules.metrics(view.goals)
    panels = [
        (metric, lines)
        for metric in metrics
        if (lines := _lines(metric.name, [p for p in drawn if p.id in found], found))
    ]
    if not panels:
        return "no training has reported " + " or ".join(metric.name for metric in metrics)
    figure = new_figure(9.0, 5.6 if len(panels) == 1 else 2.2 + 2.9 * len(panels))
    for axes, (metric, lines) in zip(
        figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels, strict=True
    ):
        _panel(axes, metric, lines, best)
    legend_below(figure)
    figure.axes[-1].set_xlabel("step")
    locator: Any = figure.axes[-1].xaxis.get_major_locator()
    locator.set_params(integer=True)
    of = f" · {model}" if model is not None else ""
    head(
        figure, f"{view.name}{of} · learning curves", _subtitle(points, found, more=len(points) > len(drawn))
    )
    return figure


def _lines(
    metric: str, points: Sequence[PointRecord], found: dict[int, Curve]
) -> list[tuple[PointRecord, Line]]:
    lines = []
    for point in points:
        steps = [(step, metrics[metric]) for step, metrics in found[point.id] if metric in metrics]
        if steps:
            lines.append((point, ([step for step, _ in steps], [value for _, value in steps])))
    return lines


def _panel(axes: Axes, metric: Objective, lines: Sequence[tuple[PointRecord, Line]], best: set[int]) -> None:
    every = [value for _, (_, values) in lines for value in values]
    if spans_decades(every):
        logarithmic(axes, "y", every)
    for point, (steps, values) in lines:
        kind = _kind(point)
        colour, alpha = _LOOKS[kind]
        width, label = 1.3, {"done": "completed"}.get(kind, kind)
        if point.id in best:
            colour, alpha, width, label = INK, 1.0, 2.4, "best"
        axes.plot(
            steps,
            values,
            color=colour,
            alpha=alpha,
            linewidth=width,
            marker="." if len(steps) == 1 else None,
            label=label,
            zorder=3 if point.id in best else 2,
        )
        if kind == "pruned":
            axes.plot(steps[-1:], values[-1:], "x", color=colour, markersize=5, alpha=alpha, zorder=2)
    axes.set_ylabel(f"{shortened(metric.name)} ({'smaller' if metric.sign > 0 else 'larger'} is better)")


def _kind(point: PointRecord) -> str:
    if point.failure is not None:
        return "pruned" if point.failure.kind == "pruned" else "failed"
    return "done" if point.state == "done" else "running"


def _subtitle(points: Sequence[PointRecord], found: dict[int, Curve], *, more: bool) -> str:
    kinds = [_kind(point) for point in points if point.id in found]
    pruned = kinds.count("pruned")
    text = f"{plural(len(kinds), 'training')} with reports: {kinds.count('done')} completed, {pruned} pruned"
    spent = sum(len(found[point.id]) for point in points if point.id in found)
    whole = max((len(found[point.id]) for point in points if point.id in found), default=0)
    if pruned:
        text += f"; {spent / (whole * len(kinds)):.0%} of the steps of whole trainings".replace("%", " %")
    return text + (f"; the newest {_MOST} of {len(points):,}" if more else "")
