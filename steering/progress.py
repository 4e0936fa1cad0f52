"""What the user sees while steering runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from hpo_steer.limits import harmless
from hpo_steer.registry import algorithm_name
from steering.front import measure
from steering.words import duration, number, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, RenderableType

    from steering.session import Session

_PLAIN_EVERY_S = 60.0
_ORDINARY = ("asking", "delayed", "busy", "trigger")
"""Causes of waiting that are no news in a log."""
_MEASURED_MOST = 5
"""The hypervolume of more objectives takes longer than a live view may."""
_SPARKS = "▁▂▃▄▅▆▇█"


class Progress(ABC):
    """Shows how a session goes."""

    @abstractmethod
    def notify(self, kind: str, text: str) -> None:
        """Something happened."""

    @abstractmethod
    def begin(self, session: Session) -> None:
        """The session is open."""

    @abstractmethod
    def loaded(self, session: Session) -> None:
        """The session has taken up what an earlier one left."""

    @abstractmethod
    def tick(self, session: Session) -> None:
        """A moment has passed."""

    @abstractmethod
    def end(self) -> None:
        """The session is over; what comes next is plain print."""


# ---------------------------------------------------------------- the words


def headline(session: Session) -> str:
    """One line that says what runs."""
    experiment = session.experiment
    goals = ", ".join(
        [*(f"{g.direction} {g.name}" for g in experiment.goals), *map(str, experiment.outcomes)]
    )
    parts = [
        f"{plural(len(next(iter(session.loop.models.values())).space), 'parameter')}, {goals}",
        *([plural(len(experiment.models), "model")] if len(experiment.models) > 1 else []),
        _algorithm(session),
        _workers(session.slots_here)
        if session.slots_here
        else f"workers at {session.transport.status().detail}",
        str(session.folder.path),
    ]
    return f"{experiment.name}: " + " · ".join(parts)


def _workers(slots: Sequence[int]) -> str:
    """Those that steering starts.

    >>> _workers([1, 1]), _workers([4])
    ('2 workers here', '1 worker here, 4 slots')
    """
    many = f", {sum(slots)} slots" if sum(slots) > len(slots) else ""
    return f"{plural(len(slots), 'worker')} here{many}"


def resumption(session: Session) -> str | None:
    """How far an earlier session had come, if there was one."""
    if session.resumed is None:
        return None
    loop = session.loop
    total = expected(session)
    text = f"{session.experiment.name}: resuming {session.folder.path}: {session.resumed}"
    text += f" of {total} points done" if total else " points done"
    if session.again and session.experiment.broker.local:
        attempts = {p.attempt for p in loop.book.queued() if p.attempts}
        which = f" (attempt {attempts.pop()})" if len(attempts) == 1 else ""
        were = "was running and goes" if session.again == 1 else "were running and go"
        text += f", {session.again} {were} out again{which}"
    elif session.again:
        text += f", {session.again} may still be running"
    return text


def expected(session: Session) -> int | None:
    """How many points there will be, where a rule fixes that."""
    rules = session.experiment.steering
    limit = rules.point_limit
    sizes = []
    for tuned in session.loop.models.values():
        bounds = [limit, tuned.search.proposed if tuned.search.stopped else None]
        if tuned.space.size is not None and rules.duplicates == "forbid":
            bounds.append(tuned.space.size)
        known = [b for b in bounds if b is not None]
        if not known:
            return None
        sizes.append(max(min(known), tuned.search.proposed) + tuned.search.known)
    return sum(sizes)


def failures(failed: Mapping[str, int]) -> str:
    """``2 failed (1 timeout, 1 error), 5 pruned, 3 cancelled``."""
    apart = [f"{failed[kind]} {kind}" for kind in ("pruned", "cancelled") if failed.get(kind)]
    rest = {kind: n for kind, n in sorted(failed.items()) if kind not in ("pruned", "cancelled") and n}
    kinds = ", ".join(f"{n} {kind}" if len(rest) > 1 else kind for kind, n in rest.items())
    parts = [f"{sum(rest.values())} failed ({kinds})"] if rest else []
    return ", ".join(parts + apart)


def best_text(session: Session) -> str:
    """The best value so far; in several objectives the size of the front and its hypervolume."""
    goals = session.experiment.goals
    found = [(name, t.search.best) for name, t in session.loop.models.items() if t.search.best is not None]
    if not found:
        done = session.experiment.outcomes and session.loop.counts.done
        return "no point keeps the outcome constraints yet" if done else "no result yet"
    if len(goals) > 1:
        fronts = [tuned.search.front for tuned in session.loop.models.values()]
        text = f"{plural(sum(map(len, fronts)), 'point')} on the Pareto front" + (
            "s" if len(fronts) > 1 else ""
        )
        if len(fronts) > 1 or len(goals) > _MEASURED_MOST or (volume := measure(goals, fronts[0])) is None:
            return text
        return f"{text}, {volume}"
    goal = goals[0]
    values = [(best[goal.name], name) for name, best in found]
    value, name = min(values, key=lambda pair: goal.sign * pair[0])
    return f"best {goal.name} {number(value)}" + (f" ({name})" if len(values) > 1 else "")


def _algorithm(session: Session) -> str:
    return algorithm_name(session.experiment.algorithm_of())


def iteration_text(session: Session) -> str:
    """Where the iterations stand."""
    models = list(session.loop.models.values())
    if len(models) > 1:
        over = sum(t.ended is not None for t in models)
        return f"{over} of {len(models)} models finished"
    search = models[0].search
    rules = session.experiment.steering
    trigger = rules.trigger
    text = f"iteration {search.iterations}"
    if search.stopped is None and trigger.fraction is not None and search.current_size:
        text += f": starts {search.iterations + 1} at {trigger} ({search.current_ended}/{search.current_size} done)"
    elif search.stopped is not None:
        text += f": the last ({search.stopped})"
    if search.asking:
        asked_s = session.loop.clock.monotonic() - models[0].ask_began
        text += " · choosing the next points" + (f" ({duration(asked_s)})" if asked_s >= 1.0 else "")
    return text


class Rate:
    """Points per second over the last minute, and the time left at that pace."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []

    def mark(self, now: float, ended: int) -> None:
        """Notes how many points have ended."""
        self._marks = [*((t, n) for t, n in self._marks if now - t < 60.0), (now, ended)]

    @property
    def per_s(self) -> float | None:
        """Points per second; None while unknown."""
        (t0, n0), (t1, n1) = (self._marks[0], self._marks[-1]) if self._marks else ((0.0, 0), (0.0, 0))
        return (n1 - n0) / (t1 - t0) if t1 - t0 > 1.0 and n1 > n0 else None


def rate_text(per_s: float) -> str:
    """Points per second, minute or hour, whichever reads well."""
    if per_s >= 1:
        return f"{per_s:.1f} points/s" if per_s < 100 else f"{per_s:,.0f} points/s"
    if per_s * 60 >= 1:
        return f"{per_s * 60:.1f} points/min"
    return f"{per_s * 3600:.1f} points/h"


def counts_text(session: Session, rate: Rate) -> str:
    """Points done, running, failed, the pace and what is left."""
    counts = session.loop.counts
    total = expected(session)
    parts = [f"{counts.ended}/{total} points" if total else plural(counts.ended, "point")]
    if counts.running:
        parts.append(f"{counts.running} running")
    if counts.failed:
        parts.append(failures(counts.failed))
    if counts.duplicates:
        parts.append(plural(counts.duplicates, "duplicate") + " reused")
    if per_s := rate.per_s:
        parts.append(rate_text(per_s))
        if total and total > counts.ended:
            parts.append(f"{duration((total - counts.ended) / per_s)} left")
    return " · ".join(parts)


def slots_text(session: Session) -> str:
    """How busy the workers are, how long the last ask took, and how many points were chosen early because of it."""
    fleet = session.loop.fleet
    parts = [f"{plural(len(fleet.present()), 'worker')}, {plural(fleet.slots, 'slot')}"]
    if (share := fleet.busy_share) is not None and session.loop.counts.ended:
        parts.append(f"{100 * share:.0f} % busy")
    asks = [t.last_ask_s for t in session.loop.models.values() if t.last_ask_s is not None]
    if asks:
        parts.append(f"last ask {duration(asks[-1] if len(asks) == 1 else max(asks))}")
    if ahead := session.loop.chosen_ahead:
        parts.append(f"{plural(ahead, 'point')} chosen ahead")
    return " · ".join(parts)


# ---------------------------------------------------------------- the views


class PlainProgress(Progress):
    """A line a state change and one a minute; no control characters.

    Args:
        quiet: say nothing but warnings.
    """

    _SHOWN = frozenset(
        {
            "iteration",
            "failed",
            "lost",
            "released",
            "retry",
            "worker",
            "broker",
            "warning",
            "ended",
            "algorithm",
            "known",
            "store",
            "fresh",
            "ship",
            "drain",
        }
    )

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._rate = Rate()
        self._said = time.monotonic()
        self._cause: str | None = None

    def _say(self, text: str) -> None:
        sys.stdout.write(harmless(text) + "\n")
        sys.stdout.flush()
        self._said = time.monotonic()

    def notify(self, kind: str, text: str) -> None:
        """Prints what happened."""
        if kind == "warning":
            sys.stderr.write(f"warning: {harmless(text)}\n")
            sys.stderr.flush()
        elif kind in self._SHOWN and not self._quiet:
            self._say(text)

    def begin(self, session: Session) -> None:
        """Says what runs."""
        if not self._quiet:
            self._say(headline(session))

    def loaded(self, session: Session) -> None:
        """Says how far an earlier session had come."""
        if not self._quiet and (text := resumption(session)):
            self._say(text)

    def tick(self, session: Session) -> None:
        """Says once a minute where things stand, and at once when nothing moves."""
        self._rate.mark(time.monotonic(), session.loop.counts.ended)
        if self._quiet:
            return
        news = session.cause != self._cause and session.cause not in _ORDINARY
        self._cause = session.cause
        if session.waiting and news:
            self._say(session.waiting)
        elif time.monotonic() - self._said > _PLAIN_EVERY_S:
            self._say(
                f"{counts_text(session, self._rate)} · {best_text(session)} · {iteration_text(session)}"
            )

    def end(self) -> None:
        """Nothing to clear."""


class LiveProgress(Progress):
    """A view that is redrawn four times a second, notices scrolling above it.

    Args:
        console: where to draw.
    """

    _SHOWN = frozenset(
        {
            "failed",
            "lost",
            "released",
            "retry",
            "broker",
            "warning",
            "ended",
            "algorithm",
            "known",
            "store",
            "fresh",
            "ship",
            "drain",
        }
    )

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._rate = Rate()
        self._drawn = 0.0
        self._curve: list[float] = []

    def notify(self, kind: str, text: str) -> None:
        """Prints what matters above the view."""
        from rich.text import Text

        if kind in self._SHOWN:
            text = harmless(text)
            style = {"warning": "yellow", "failed": "yellow", "lost": "yellow", "broker": "yellow"}.get(
                kind, ""
            )
            self._console.print(Text(f"warning: {text}" if kind == "warning" else text, style=style))

    def begin(self, session: Session) -> None:
        """Says what runs."""
        from rich.text import Text

        self._console.print(Text(headline(session), style="bold"))

    def loaded(self, session: Session) -> None:
        """Says how far an earlier session had come, and begins to draw."""
        from rich.text import Text

        if text := resumption(session):
            self._console.print(Text(text))
        self._live.start()

    def tick(self, session: Session) -> None:
        """Redraws."""
        now = time.monotonic()
        self._rate.mark(now, session.loop.counts.ended)
        if now - self._drawn < 0.25:
            return
        self._drawn = now
        self._note_best(session)
        self._live.update(self._view(session), refresh=True)

    def _note_best(self, session: Session) -> None:
        goals = session.experiment.goals
        best = next(iter(session.loop.models.values())).search.best
        if len(goals) == 1 and best is not None:
            value = goals[0].sign * best[goals[0].name]
            if not self._curve or value < self._curve[-1]:
                self._curve.append(value)

    def _view(self, session: Session) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        counts, total = session.loop.counts, expected(session)
        top = Table.grid(padding=(0, 2), expand=False)
        bar = ProgressBar(total=total or 1, completed=counts.ended if total else 0, width=40)
        top.add_row(bar, Text(counts_text(session, self._rate)))
        lines: list[RenderableType] = [top]
        lines.append(Text(f"{iteration_text(session)}      {best_text(session)}  {self._spark()}"))
        lines.append(Text(slots_text(session), style="dim"))
        if waiting := session.waiting:
            lines.append(Text(waiting, style="yellow"))
        return Group(*lines)

    def _spark(self) -> str:
        values = self._curve[-12:]
        if len(values) < 2 or values[0] == values[-1]:
            return ""
        low, high = min(values), max(values)
        return "".join(_SPARKS[round((v - low) / (high - low) * 7)] for v in values)

    def end(self) -> None:
        """Takes the view away."""
        self._live.stop()


def make_progress(*, quiet: bool) -> Progress:
    """The view that fits where the output goes."""
    if quiet or not sys.stdout.isatty():
        return PlainProgress(quiet=quiet)
    from rich.console import Console

    return LiveProgress(Console(highlight=False))
