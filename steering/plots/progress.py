"""The best value so far, and every point on the way."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hpo_steer.objectives import dominates
from steering.front import hypervolume
from steering.plots.style import (
    BLUE,
    MUTED,
    ORANGE,
    RED,
    SERIES,
    SKY,
    head,
    legend_below,
    logarithmic,
    new_figure,
    shortened,
    spans_decades,
)
from steering.words import number, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hpo_steer.objectives import Objective
    from steering.run_view import RunView
    from steering.store.base import PointRecord

_NAMED = 7
_ITERATIONS_NAMED = 24


def draw(view: RunView, model: str | None) -> Figure | str:
    """One panel an objective; of several models only their best so far.

    Returns:
        The figure, or why there is none.
    """
    names = [model] if model is not None else [m.name for m in view.models]
    done = sum(p.state == "done" for name in names for p in view.by_model[name])
    if done < 2:
        return f"{plural(done, 'point')} done; it takes two"
    goals = view.goals
    volumes = _volumes(view, names[0]) if len(names) == 1 and len(goals) > 1 else []
    rows = len(goals) + bool(volumes)
    figure = new_figure(9.0, 5.6 if rows == 1 else 2.2 + 2.7 * rows)
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    if volumes:
        _volume_panel(panels[0], view.by_model[names[0]], volumes)
    for axes, goal in zip(panels[bool(volumes) :], goals, strict=True):
        if len(names) == 1:
            _one(axes, view, view.by_model[names[0]], goal, numbered=not volumes)
        else:
            _several(axes, view, names, goal)
        axes.set_ylabel(f"{shortened(goal.name)} ({'smaller' if goal.sign > 0 else 'larger'} is better)")
    legend_below(figure)
    panels[-1].set_xlabel("point, in the order of proposal")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    of = f" · {names[0]}" if model is not None else ""
    head(figure, f"{view.name}{of} · best so far", _subtitle(view, names))
    return figure


def _subtitle(view: RunView, names: list[str]) -> str:
    if len(names) > 1:
        return f"{len(names)} models, {plural(sum(len(view.by_model[n]) for n in names), 'point')}"
    points = view.by_model[names[0]]
    text = f"{plural(len(points), 'point')} in {plural(max(p.iteration for p in points), 'iteration')}"
    if len(view.goals) > 1:
        volume = view.volume(names[0])
        text += f"; {plural(len(view.best(names[0])), 'point')} on the Pareto front"
        return text if volume is None else f"{text}, {volume}"
    found = view.best(names[0], 1)
    if not found:
        return f"{text}; none keeps the outcome constraints"
    best, first = found[0], view.first_iteration_best(names[0])
    name = view.goals[0].name
    text += f"; best {number((best.values or {})[name])} at point {best.id}"
    if first is not None and first.id != best.id:
        text += f", first iteration's best {number((first.values or {})[name])}"
    return text


def _volumes(view: RunView, model: str) -> list[tuple[int, float]]:
    """The place of each point that enlarged the front's hypervolume, and the hypervolume then.

    All are measured from the reference of the front as it is now, so that it only grows.
    """
    volume = view.volume(model)
    if volume is None:
        return []
    rows: list[tuple[float, ...]] = []
    found: list[tuple[int, float]] = []
    for i, point in enumerate(view.by_model[model], 1):
        if not view.contends(point):
            continue
        row = view.costs(point)
        if any(other == row or dominates(other, row) for other in rows):
            continue
        rows = [other for other in rows if not dominates(row, other)] + [row]
        found.append((i, hypervolume(view.goals, rows, volume.reference)))
    return found


def _volume_panel(axes: Axes, points: list[PointRecord], volumes: list[tuple[int, float]]) -> None:
    _shade(axes, points)
    xs, ys = [i for i, _ in volumes], [v for _, v in volumes]
    axes.step([*xs, len(points)], [*ys, ys[-1]], where="post", color=BLUE, linewidth=2.2)
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("hypervolume (larger is better)")
    axes.grid(visible=False, axis="x")


def _one(axes: Axes, view: RunView, points: list[PointRecord], goal: Objective, *, numbered: bool) -> None:
    xs, values, failed = _series(points, goal)
    good = [view.feasible(points[i - 1]) for i in xs]
    contends = [view.contends(points[i - 1]) for i in xs]
    bests = _running_best([v for v, kept in zip(values, contends, strict=True) if kept], goal)
    if log := spans_decades(values):
        logarithmic(axes, "y", values)
    limit = None if log else _cut(values, goal)
    _shade(axes, points, numbered=numbered)
    shown = [v if limit is None else goal.sign * min(goal.sign * v, goal.sign * limit) for v in values]
    beyond = [i for i, v in enumerate(values) if limit is not None and goal.better(limit, v)]
    kept = [i for i in range(len(values)) if good[i] and i not in set(beyond)]
    broken = [i for i in range(len(values)) if not good[i] and i not in set(beyond)]
    size = 26 if len(points) <= 200 else 12 if len(points) <= 2000 else 4
    axes.scatter(
        [xs[i] for i in kept],
        [shown[i] for i in kept],
        s=size,
        color=SKY,
        alpha=0.8,
        linewidths=0,
        label="a point",
    )
    if broken:
        axes.scatter(
            [xs[i] for i in broken],
            [shown[i] for i in broken],
            s=size,
            facecolors="none",
            edgecolors=ORANGE,
            linewidths=1.1,
            label="infeasible",
        )
    if beyond:
        marker = "^" if goal.sign > 0 else "v"
        axes.scatter(
            [xs[i] for i in beyond],
            [shown[i] for i in beyond],
            s=30,
            color=MUTED,
            marker=marker,
            label="worse than shown",
        )
    if bests:
        places = [i for i, kept_ in zip(xs, contends, strict=True) if kept_]
        axes.step(
            [*places, len(points)],
            [*bests, bests[-1]],
            where="post",
            color=BLUE,
            linewidth=2.2,
            label="best so far",
        )
    if goal.target is not None:
        axes.axhline(goal.target, color=ORANGE, linewidth=1.2, linestyle=(0, (4, 3)), label="target")
    if failed:
        axes.plot(
            failed,
            [0.02] * len(failed),
            "x",
            color=RED,
            markersize=7,
            markeredgewidth=1.6,
            transform=axes.get_xaxis_transform(),
            label="failed",
        )
    axes.set_xlim(0.3, len(points) + 0.7)
    axes.grid(visible=False, axis="x")


def _series(
    points: list[PointRecord], goal: Objective, view: RunView | None = None
) -> tuple[list[int], list[float], list[int]]:
    """Places and values of the done points (with a view: of those that contend), and places of the failed ones."""
    done = [
        (i, (p.values or {})[goal.name])
        for i, p in enumerate(points, 1)
        if (p.state == "done" if view is None else view.contends(p))
    ]
    failed = [i for i, p in enumerate(points, 1) if p.state == "failed"]
    return [i for i, _ in done], [v for _, v in done], failed


def _running_best(values: list[float], goal: Objective) -> list[float]:
    bests: list[float] = []
    for value in values:
        bests.append(value if not bests or goal.better(value, bests[-1]) else bests[-1])
    return bests


def _cut(values: list[float], goal: Objective) -> float | None:
    """Where a few very bad values are cut off, that would press all others flat."""
    costs = sorted(goal.sign * v for v in values)
    if len(costs) < 10:
        return None
    middle, high = costs[len(costs) // 2], costs[math.ceil(0.9 * len(costs)) - 1]
    limit = high + 2.0 * max(high - costs[0], middle - costs[0])
    return goal.sign * limit if costs[-1] > limit > costs[0] else None


def _shade(axes: Axes, points: list[PointRecord], *, numbered: bool = True) -> None:
    """Every other iteration has a ground of its own; few enough of them are numbered."""
    begins: dict[int, list[int]] = {}
    for i, point in enumerate(points, 1):
        begins.setdefault(point.iteration, []).append(i)
    if len(begins) < 2 or len(begins) > len(points) / 2:
        return
    for iteration, places in begins.items():
        if iteration % 2 == 0:
            axes.axvspan(places[0] - 0.5, places[-1] + 0.5, color=MUTED, alpha=0.09, linewidth=0, zorder=0)
        if numbered and len(begins) <= _ITERATIONS_NAMED:
            axes.annotate(
                f"iteration {iteration}" if iteration == 1 and len(begins) <= 8 else str(iteration),
                ((places[0] + places[-1]) / 2, 1.0),
                xycoords=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=9.5,
                color=MUTED,
                annotation_clip=False,
            )


def _several(axes: Axes, view: RunView, names: list[str], goal: Objective) -> None:
    """Best so far of each model; many of them in grey with their median."""
    curves = {}
    for name in names:
        points = view.by_model[name]
        xs, values, _ = _series(points, goal, view)
        if values:
            curves[name] = ([*xs, len(points)], [*(b := _running_best(values, goal)), b[-1]])
    if not curves:
        return
    every = [value for _, ys in curves.values() for value in ys]
    if spans_decades(every):
        logarithmic(axes, "y", every)
    few = len(curves) <= _NAMED
    for i, (name, (xs, ys)) in enumerate(curves.items()):
        look: dict[str, Any] = {"color": MUTED, "alpha": 0.35, "linewidth": 1.0}
        if few:
            look = {"color": SERIES[i], "linewidth": 2.0, "label": shortened(name)}
        axes.step(xs, ys, where="post", **look)
    if not few:
        xs = list(range(1, max(x[-1] for x, _ in curves.values()) + 1))
        axes.step(
            xs,
            [_median_at(curves, x) for x in xs],
            where="post",
            color=BLUE,
            linewidth=2.4,
            label="median model",
        )


def _median_at(curves: dict[str, tuple[list[int], list[float]]], place: int) -> float:
    """The median over models of the best by then, among those that have one (nan before)."""
    import bisect

    found = sorted(ys[i - 1] for xs, ys in curves.values() if (i := bisect.bisect_right(xs, place)))
    return found[len(found) // 2] if found else math.nan
