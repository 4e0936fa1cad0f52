"""Runs an experiment from the command line: opening, signals, progress, the closing summary."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from hpo_steer.config import load_config
from hpo_steer.config.secrets import cautions
from hpo_steer.errors import UserError
from hpo_steer.limits import harmless
from hpo_steer.pulse import Pulse
from steering.budget import Budgets
from steering.feasibility import feasible, none_feasible
from steering.front import Reference, measure
from steering.progress import expected, failures, make_progress
from steering.session import Session, run_path
from steering.words import duration, number, params, plural

if TYPE_CHECKING:
    from pathlib import Path

    from steering.progress import Progress
    from steering.session import Outcome
    from steering.store.base import PointRecord

_OK, _FAILED, _INTERRUPTED = 0, 1, 130


def run_experiment(
    path: Path, overrides: list[str], *, fresh: bool, extend: bool, yes: bool, quiet: bool, as_json: bool
) -> int:
    """Runs or resumes an experiment.

    Returns:
        The exit code.

    Raises:
        HpoSteerError: it can't begin or can't go on; nothing is lost.
    """
    if fresh and extend:
        raise UserError("--fresh starts anew and --extend goes on: choose one")
    config = load_config(path, overrides)
    progress = make_progress(quiet=quiet or as_json)
    for text in config.remarks:
        progress.notify("warning", text)
    _warn(config.experiment, progress)
    for text in cautions(config.experiment.broker, config.experiment.store, config.folder):
        progress.notify("warning", text)
    if fresh and not yes:
        _confirm_fresh(run_path(config.experiment), in_database=config.experiment.store.url is not None)
    signals, pulse = _Signals(), Pulse.named_in(os.environ)

    def notify(kind: str, text: str) -> None:
        progress.notify(kind, text)
        if kind == "broker":  # it is waited for, and no loop turns yet
            pulse.beat(lambda: text)

    def tick() -> None:
        progress.tick(session)
        pulse.beat(lambda: _standing(session))

    with signals:
        session = Session.open(config, overrides, fresh=fresh, extend=extend, notify=notify)
        signals.session = session
        try:
            progress.begin(session)
            try:
                session.load()
                progress.loaded(session)
                outcome = session.run(tick, lambda: notify("drain", drain_text(session)))
            finally:
                progress.end()
            points = session.points()
            summary = summarise(session, outcome, points)
        finally:
            session.close()
    if not outcome.interrupted and outcome.found:
        summary["report"] = _report(session)
    _print(summary, as_json=as_json)
    if outcome.interrupted:
        return _INTERRUPTED
    return _OK if outcome.found else _FAILED


def _warn(experiment: Any, progress: Progress) -> None:
    rules = experiment.steering
    own = experiment.evaluation
    slots = own.workers * (own.slots if isinstance(own.slots, int) else 1 + bool(own.wants))
    if rules.trigger.fraction == 1.0 and rules.points_per_iteration > 1 and slots != 1:
        progress.notify(
            "warning",
            "trigger fraction 1.0 leaves slots idle while the slowest point of an iteration runs; a smaller one, such "
            "as 0.75, starts the next iteration before",
        )


def _confirm_fresh(folder: Path, *, in_database: bool) -> None:
    if not folder.exists():
        return
    what = "deleted from the database" if in_database else "moved aside"
    if not sys.stdin.isatty():
        raise UserError(f"--fresh: the run in {folder} would be {what}; say --yes if that is meant")
    answer = input(f"{folder} holds a run; it will be {what}. Start anew? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise UserError("nothing was changed")


class _Signals:
    """The first Ctrl-C drains, the second stops at once; so does SIGTERM, once workers of this machine have saved.

    Attributes:
        session: what to interrupt, once it is open.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number_ in (signal.SIGINT, signal.SIGTERM):
            self._previous[number_] = signal.signal(number_, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number_, handler in self._previous.items():
            signal.signal(number_, handler)

    def _handle(self, number_: int, _frame: object) -> None:
        if self.session is None:
            raise KeyboardInterrupt
        if number_ == signal.SIGTERM:
            self.session.interruptions = max(self.session.interruptions, 2)
            self.session.preempted = True
        else:
            self.session.interruptions += 1


def _standing(session: Session) -> str:
    """How the search stands, in one line."""
    counts, planned = session.loop.counts, expected(session)
    of = "" if planned is None else f" of {planned}"
    return f"{counts.ended}{of} points ended, {counts.running} running" + (
        f"; {session.waiting}" if session.waiting else ""
    )


def drain_text(session: Session) -> str:
    """What is waited for after the first Ctrl-C."""
    import time

    running = session.loop.book.running()
    if not running:
        return "draining: no point is running; again to stop at once"
    longest = time.monotonic() - min(p.started for p in running)
    are = "point is" if len(running) == 1 else "points are"
    return (
        f"draining: {len(running)} {are} running (longest {duration(longest)} so far); "
        "again to stop at once, they will be evaluated anew"
    )


def summarise(session: Session, outcome: Outcome, points: list[PointRecord]) -> dict[str, Any]:
    """The closing summary as data; every number in it comes from the store."""
    experiment = session.experiment
    counts = session.store_counts()
    good = [p for p in points if feasible(experiment.outcomes, p)]
    summary: dict[str, Any] = {
        "name": experiment.name,
        "folder": str(session.folder.path),
        "interrupted": outcome.interrupted,
        "ended": outcome.reasons,
        "models": len(experiment.models),
        "points": counts.total,
        "expected": expected(session),
        "done": counts.done,
        "feasible": len(good),
        "failed": dict(counts.failed),
        "duplicates": counts.duplicates,
        "unfinished": counts.queued + counts.running,
        "elapsed_s": round(session.loop.elapsed_s, 3),
        "busy_share": session.loop.fleet.busy_share,
        "best": None,
        "no_best": none_feasible(experiment.outcomes, points),
        "front_sizes": {name: tuned.search.front_size for name, tuned in session.loop.models.items()},
        "hypervolumes": {},
    }
    if len(experiment.goals) > 1:
        volumes = {
            name: measure(experiment.goals, tuned.search.front) for name, tuned in session.loop.models.items()
        }
        summary["hypervolumes"] = {
            name: None
            if volume is None
            else {
                "value": volume.value,
                "reference": volume.reference.values,
                "inferred": [*volume.reference.inferred],
            }
            for name, volume in volumes.items()
        }
    if len(experiment.goals) == 1 and good:
        goal = experiment.goals[0]

        budgets = Budgets(experiment, good, lambda _: True)

        def rank(point: PointRecord) -> tuple[float, float]:
            return budgets.lacking(point), goal.sign * (point.values or {})[goal.name]

        best = min(good, key=rank)
        first = [p for p in good if p.iteration == 1 and p.model == best.model and not budgets.lacking(p)]
        summary["best"] = {
            "id": best.id,
            "model": best.model,
            "iteration": best.iteration,
            "values": best.values,
            "params": best.params,
        }
        if first:
            summary["first_iteration_best"] = (min(first, key=rank).values or {})[goal.name]
    return summary


def _report(session: Session) -> str | None:
    """Writes the report; a failure to do so must not spoil a finished run."""
    try:
        from steering.report import write_report
        from steering.run_view import open_view

        with open_view(str(session.folder.path)) as view:
            return str(write_report(view, session.folder.path))
    except Exception as exc:  # noqa: BLE001 - whatever it is, the run is done
        sys.stderr.write(f"warning: the report could not be written: {type(exc).__name__}: {exc}\n")
        return None


def _about_failures(summary: dict[str, Any]) -> list[str]:
    """What can be done about points that failed, where that is something."""
    name = summary["name"]
    count = sum(n for kind, n in summary["failed"].items() if kind in ("error", "timeout", "lost"))
    if not count:
        return []
    return [
        (
            f"failed: hpo-steer points {name} --state failed · hpo-steer logs POINT {name} · "
            f"to try {'it' if count == 1 else 'them'} again: hpo-steer retry --failed {name}"
        )
    ]


def _print(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
        return
    name, counted = summary["name"], ", ".join(_counts(summary))
    lines = []
    if summary["interrupted"]:
        lines.append(f"interrupted: {counted}, {summary['unfinished']} not finished; nothing is lost")
    else:
        lines.append(f"done: {counted}")
        reasons = sorted(set(summary["ended"].values()))
        if any(not reason.startswith("max_points") for reason in reasons):
            lines.append(f"ended: {'; '.join(reasons)}")
    if summary["done"]:
        lines.append(_found(summary))
    elif not summary["interrupted"]:
        lines.append(f"no point has a value: see hpo-steer points {name} and {summary['folder']}/logs")
    lines += _about_failures(summary)
    if summary["interrupted"]:
        lines.append("the same command carries on")
    elif summary["done"]:
        then = [f"hpo-steer plot {name}", f"hpo-steer best {name} --json"]
        lines.append("next: " + " · ".join(then + ([summary["report"]] if summary.get("report") else [])))
    sys.stdout.write(harmless("\n".join(lines)) + "\n")


def _counts(summary: dict[str, Any]) -> list[str]:
    parts = [
        f"{plural(summary['points'], 'point')} in {duration(summary['elapsed_s'])}",
        f"{summary['done'] - summary['duplicates']} evaluated",
    ]
    if summary["feasible"] < summary["done"]:
        parts.append(f"{summary['done'] - summary['feasible']} infeasible")
    if summary["failed"]:
        parts.append(failures(summary["failed"]))
    if summary["duplicates"]:
        parts.append(f"{plural(summary['duplicates'], 'duplicate')} reused")
    return parts


def _found(summary: dict[str, Any]) -> str:
    """What is best, or why nothing is."""
    if best := summary["best"]:
        (objective, value) = next(iter(best["values"].items()))
        model = f" (model {best['model']})" if summary["models"] > 1 else ""
        text = f"best {objective} {number(value)}{model}  {params(best['params'])}"
        if "first_iteration_best" in summary:
            text += f"      first iteration's best {number(summary['first_iteration_best'])}"
        return text
    if summary["no_best"]:
        return str(summary["no_best"])
    sizes = summary["front_sizes"].values()
    where = f" of {plural(len(sizes), 'model')}" if len(sizes) > 1 else ""
    text = f"{plural(sum(sizes), 'point')} on the Pareto front{'s' if len(sizes) > 1 else ''}{where}"
    volumes = list(summary["hypervolumes"].values())
    if len(volumes) == 1 and (volume := volumes[0]):
        reference = Reference(volume["reference"], tuple(volume["inferred"]))
        text += f", hypervolume {number(volume['value'])} ({reference})"
    return text
