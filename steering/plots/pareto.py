"""The Pareto front of several objectives."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal, NamedTuple

from steering.plots.style import (
    BLUE,
    MUTED,
    ORANGE,
    PAPER,
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
    from steering.front import Reference
    from steering.run_view import RunView
    from steering.store.base import PointRecord

_NAMED = 12
_PANELS_MOST = 3
_FAR = 1.0  # a reference farther away than the values are wide would press them into a corner


class Groups(NamedTuple):
    """The done points of a model, as the front sorts them.

    Attributes:
        best: on the front, by the first objective.
        dominated: feasible, and not on it.
        infeasible: they break an outcome constraint.
    """

    best: list[PointRecord]
    dominated: list[PointRecord]
    infeasible: list[PointRecord]

    @classmethod
    def of(cls, view: RunView, model: str) -> Groups:
        """Sorts the points of a model."""
        done = [p for p in view.by_model[model] if p.state == "done"]
        best = view.best(model)
        chosen = {p.id for p in best}
        return cls(
            best,
            [p for p in done if p.id not in chosen and view.feasible(p)],
            [p for p in done if not view.feasible(p)],
        )

    @property
    def all(self) -> list[PointRecord]:
        """All of them."""
        return [*self.best, *self.dominated, *self.infeasible]


def draw(view: RunView, model: str | None) -> Figure | str:
    """The front in blue, dominated points in grey, infeasible ones as hollow circles.

    Two or three objectives: a panel for each pair. More of them: parallel coordinates.

    Returns:
        The figure, or why there is none.
    """
    goals = view.goals
    if len(goals) < 2:
        return "it takes two objectives, and there is one"
    name = model or view.models[0].name
    groups = Groups.of(view, name)
    if len(groups.all) < 2:
        return f"{plural(len(groups.all), 'point')} done; it takes two"
    pairs = list(itertools.combinations(goals, 2))
    if len(pairs) > _PANELS_MOST:
        from steering.plots.front_lines import draw_lines

        figure = draw_lines(view, groups)
    else:
        figure = new_figure(8.4 if len(pairs) == 1 else 14.4, 5.8 if len(pairs) == 1 else 5.4)
        volume = view.volume(name)
        reference = None if volume is None else volume.reference
        for axes, pair in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
            _panel(axes, *pair, groups, reference, alone=len(pairs) == 1)
        legend_below(figure)
    of = f" · {name}" if len(view.models) > 1 else ""
    head(figure, f"{view.name}{of} · Pareto front", _subtitle(view, name, groups))
    return figure


def _subtitle(view: RunView, model: str, groups: Groups) -> str:
    done = plural(len(groups.all), "point")
    if not groups.best:
        return f"none of {done} keeps the outcome constraints"
    text = f"{len(groups.best)} of {done} on the front"
    if groups.infeasible:
        text += f", {len(groups.infeasible)} infeasible"
    if (volume := view.volume(model)) is not None:
        text += f"; {volume}"
    return text


def _place(
    points: Sequence[PointRecord], across: Objective, up: Objective
) -> tuple[list[float], list[float]]:
    return [(p.values or {})[across.name] for p in points], [(p.values or {})[up.name] for p in points]


def _panel(
    axes: Axes, across: Objective, up: Objective, groups: Groups, reference: Reference | None, *, alone: bool
) -> None:
    xs, ys = _place(groups.all, across, up)
    if spans_decades(xs):
        logarithmic(axes, "x", xs)
    if spans_decades(ys):
        logarithmic(axes, "y", ys)
    axes.margins(0.07)
    axes.scatter(
        *_place(groups.infeasible, across, up),
        s=26,
        facecolors="none",
        edgecolors=ORANGE,
        linewidths=1.1,
        label="infeasible" if groups.infeasible else None,
    )
    axes.scatter(
        *_place(groups.dominated, across, up),
        s=26,
        color=MUTED,
        alpha=0.45,
        linewidths=0,
        label="dominated" if groups.dominated else None,
    )
    front = sorted(groups.best, key=lambda p: (p.values or {})[across.name])
    if front:
        axes.scatter(
            *_place(front, across, up),
            s=52,
            color=BLUE,
            edgecolors=PAPER,
            linewidths=0.9,
            zorder=4,
            label="Pareto front",
        )
    if alone and front:
        _staircase(axes, across, up, front, reference)
    axes.set_xlabel(_label(across, "→" if across.sign < 0 else "←"))
    axes.set_ylabel(_label(up, "→" if up.sign < 0 else "←"))


def _staircase(
    axes: Axes, across: Objective, up: Objective, front: list[PointRecord], reference: Reference | None
) -> None:
    """The edge of what the front dominates, that region up to the reference, and ids of a short front."""
    fx, fy = _place(front, across, up)
    where: Literal["post", "pre"] = "post" if across.sign > 0 else "pre"
    if reference is not None and _near(axes, across, up, reference):
        rx, ry = reference.values[across.name], reference.values[up.name]
        inside = [(x, y) for x, y in zip(fx, fy, strict=True) if across.better(x, rx) and up.better(y, ry)]
        ix, iy = [x for x, _ in inside], [y for _, y in inside]
        if inside:
            ix, iy = ([*ix, rx], [*iy, iy[-1]]) if across.sign > 0 else ([rx, *ix], [iy[0], *iy])
            axes.fill_between(ix, iy, ry, step=where, color=BLUE, alpha=0.08, linewidth=0, zorder=0)
        text = f"reference{' (inferred)' if reference.inferred else ''}"
        axes.plot([rx], [ry], "+", color=BLUE, markersize=11, markeredgewidth=1.8, zorder=4, label=text)
    axes.step(fx, fy, where=where, color=BLUE, linewidth=1.6, alpha=0.6, zorder=3)
    if len(front) > _NAMED:
        return
    axes.autoscale_view()
    to_axes = axes.transData + axes.transAxes.inverted()
    named: list[tuple[float, float]] = []
    for p, x, y in zip(front, fx, fy, strict=True):
        u, v = to_axes.transform((x, y))
        if any(abs(u - a) < 0.05 and abs(v - b) < 0.045 for a, b in named):
            continue  # its number would lie on another one
        named.append((u, v))
        axes.annotate(
            str(p.id),
            (x, y),
            xytext=(-6 * across.sign, -6 * up.sign),
            textcoords="offset points",
            ha="right" if across.sign > 0 else "left",
            va="top" if up.sign > 0 else "bottom",
            fontsize=10,
            color=BLUE,
        )


def _near(axes: Axes, across: Objective, up: Objective, reference: Reference) -> bool:
    """Whether the reference can be shown without pressing the points into a corner."""
    for (low, high), goal, log in (
        (axes.get_xlim(), across, axes.get_xscale() == "log"),
        (axes.get_ylim(), up, axes.get_yscale() == "log"),
    ):
        value = reference.values[goal.name]
        if log and (value <= 0 or value > high * (high / low) or value < low / (high / low)):
            return False
        if not log and not low - _FAR * (high - low) <= value <= high + _FAR * (high - low):
            return False
    return True


def _label(goal: Objective, arrow: str) -> str:
    better = f"{'smaller' if goal.sign > 0 else 'larger'} is better"
    return (
        f"{arrow} {shortened(goal.name)} ({better})"
        if arrow == "←"
        else f"{shortened(goal.name)} ({better}) {arrow}"
    )
