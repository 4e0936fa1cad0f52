"""Who did what when: a lane for each worker slot."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from steering.plots.style import MUTED, OUTCOMES, head, legend_below, new_figure, shortened
from steering.words import host_of, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from steering.run_view import RunView
    from steering.store.base import AttemptRecord, IterationRecord

_NAMED_LANES = 24
_MARKED_ITERATIONS = 40
_INTERRUPTION_S = 120.0


@dataclass
class Lane:
    """A slot of a worker, or of those that took its place one after another.

    Attributes:
        host: its machine.
        slot: its number there.
        bars: begin, end and outcome of each attempt, in seconds since the epoch.
    """

    host: str
    slot: int
    bars: list[tuple[float, float, str]] = field(default_factory=list)


def draw(view: RunView, model: str | None) -> Figure | str:
    """Bars of attempts; vertical lines where iterations were asked for.

    Returns:
        The figure, or why there is none.
    """
    wanted = None if model is None else {p.id for p in view.by_model[model]}
    tried = [a for a in view.attempts if a.started_at is not None and (wanted is None or a.point in wanted)]
    if not tried:
        return "no attempt has begun"
    now = max(max(a.ended_at or 0.0, a.started_at or 0.0) for a in tried)
    lanes = make_lanes(tried, now)
    begin = min(lane.bars[0][0] for lane in lanes)
    unit_s, unit = _unit(now - begin)
    asks = [i for i in view.iterations if model in (None, i.model)]
    figure = new_figure(10.5, 2.2 + min(0.42 * max(len(lanes), 2), 9.0))
    axes = figure.subplots()
    _bars(axes, lanes, begin, unit_s)
    _marks(axes, asks, begin, unit_s, numbered=len({i.model for i in asks}) == 1)
    axes.set_xlim(-0.005 * (now - begin) / unit_s, max((now - begin) / unit_s * 1.005, 1e-3))
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    if len(lanes) <= _NAMED_LANES:
        axes.set_yticks(range(len(lanes)), lane_names(lanes))
    else:
        axes.set_ylabel(f"{len(lanes)} slots")
        axes.set_yticks([])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    legend_below(figure)
    axes.set_xlabel(f"time since the first attempt ({unit})")
    idle = idle_share(lanes, asks)
    of = f" · {model}" if model is not None else ""
    head(
        figure,
        f"{view.name}{of} · timeline · slots idle {100 * idle:.0f} % of the time",
        f"{plural(len(tried), 'attempt')} in {plural(len(lanes), 'slot')}; lines: an iteration was asked for",
    )
    return figure


def make_lanes(tried: Sequence[AttemptRecord], now: float) -> list[Lane]:
    """Attempts by slot. A worker that came after another had gone from its machine takes over its lane.

    Args:
        tried: attempts that have begun, in that order.
        now: where the bars of those that run end.
    """
    by_slot: dict[tuple[str, int], list[tuple[float, float, str]]] = {}
    for a in tried:
        start = a.started_at or 0.0
        end = max(a.ended_at if a.ended_at is not None else now, start)
        by_slot.setdefault((a.worker or "?", a.slot), []).append((start, end, a.outcome or "running"))
    lanes: list[Lane] = []
    for (worker, slot), bars in by_slot.items():
        host = host_of(worker)
        bars.sort()
        free = next((lane for lane in lanes if lane.host == host and lane.bars[-1][1] <= bars[0][0]), None)
        if free is None:
            lanes.append(Lane(host, slot, bars))
        else:
            free.bars += bars
    return sorted(lanes, key=lambda lane: lane.host)


def lane_names(lanes: Sequence[Lane]) -> list[str]:
    """``host 1``, ``host 2``; no number where a machine has one lane."""
    hosts = [lane.host for lane in lanes]
    seen: dict[str, int] = {}
    names = []
    for host in hosts:
        seen[host] = seen.get(host, 0) + 1
        names.append(shortened(host) + (f" · {seen[host]}" if hosts.count(host) > 1 else ""))
    return names


def idle_share(lanes: Sequence[Lane], asks: Sequence[IterationRecord] = ()) -> float:
    """The share of the time in which a slot had nothing to do, pauses of the whole run left out.

    A pause is a time in which nothing ran anywhere that is too long to be an ask. Between two pauses every lane
    counts that has a bar there.
    """
    longest_ask = max((i.ask_s for i in asks), default=0.0)
    pause_s = max(_INTERRUPTION_S, 5 * longest_ask)
    bars = sorted((b[0], b[1]) for lane in lanes for b in lane.bars)
    sessions: list[tuple[float, float]] = []
    for begin, end in bars:
        if sessions and begin - sessions[-1][1] <= pause_s:
            sessions[-1] = (sessions[-1][0], max(sessions[-1][1], end))
        else:
            sessions.append((begin, end))
    offered = busy = 0.0
    for begin, end in sessions:
        for lane in lanes:
            inside = [(b[0], b[1]) for b in lane.bars if begin <= b[0] <= end]
            if inside:
                offered += end - begin
                busy += sum(e - b for b, e in inside)
    return max(0.0, 1.0 - busy / offered) if offered > 0 else 0.0


def _unit(span_s: float) -> tuple[float, str]:
    for unit_s, name, least in ((86400.0, "days", 3.0), (3600.0, "hours", 3.0), (60.0, "minutes", 4.0)):
        if span_s >= least * unit_s:
            return unit_s, name
    return 1.0, "seconds"


def _bars(axes: Axes, lanes: Sequence[Lane], begin: float, unit_s: float) -> None:
    spans: dict[str, list[tuple[int, float, float]]] = {}
    for place, lane in enumerate(lanes):
        for start, end, outcome in lane.bars:
            spans.setdefault(outcome, []).append((place, (start - begin) / unit_s, (end - start) / unit_s))
    typical = statistics.median(width for bars in spans.values() for _, _, width in bars)
    total = max(s + w for bars in spans.values() for _, s, w in bars) or 1.0
    edge = 0.6 if typical / total > 0.004 else 0.0
    for outcome in sorted(spans, key=lambda o: list(OUTCOMES).index(o) if o in OUTCOMES else 99):
        bars = spans[outcome]
        axes.barh(
            [p for p, _, _ in bars],
            [max(w, total * 0.0008) for _, _, w in bars],
            left=[s for _, s, _ in bars],
            height=0.72,
            color=OUTCOMES.get(outcome, MUTED),
            edgecolor="#fefefe",
            linewidth=edge,
            label=f"{outcome} ({len(bars)})",
        )


def _marks(
    axes: Axes, asks: Sequence[IterationRecord], begin: float, unit_s: float, *, numbered: bool
) -> None:
    if len(asks) > _MARKED_ITERATIONS:
        return
    for ask in asks:
        place = (ask.asked_at - begin) / unit_s
        if place < 0:
            continue
        axes.axvline(place, color=MUTED, linewidth=1.1, linestyle=(0, (2, 2)), zorder=4)
        if numbered and len(asks) <= 15:
            axes.annotate(
                str(ask.number),
                (place, 1.0),
                xycoords=axes.get_xaxis_transform(),
                xytext=(0, 1),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=9.5,
                color=MUTED,
                annotation_clip=False,
            )
