"""The reports of running attempts: which count, and which points they end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpo_steer.errors import nearest
from steering.pruning import make_pruner
from steering.store.base import ReportRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpo_steer.config import Experiment
    from hpo_steer.messages import Report
    from steering.book import Book, LivePoint
    from steering.clock import Clock
    from steering.ledger import Ledger, Notify
    from steering.pruning.base import Pruner

_REMEMBERED = 1000
"""So many of an attempt's reports are known again when a broker hands them out twice."""
_TICK_S = 1e-6
_SHOWN = 5


@dataclass
class Reported:
    """What the attempt under way has reported.

    Attributes:
        attempt: its number.
        worker: who reports; None: the next one that does.
        last: the highest step; None before the first report.
        recent: the newest reports.
    """

    attempt: int
    worker: str | None = None
    last: int | None = None
    recent: dict[int, Mapping[str, float]] = field(default_factory=dict)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Notes a report."""
        self.last = step
        self.recent[step] = metrics
        if len(self.recent) > _REMEMBERED:
            del self.recent[next(iter(self.recent))]


class Reports:
    """Takes reports in, has them written down, and says which points are ended early.

    The reports that count are written with times that strictly increase, so that the store knows the order in which
    they were taken in: from it the pruners are rebuilt (`load`), and decide as if steering had never stopped.

    Args:
        experiment: its config.
        book: the points on their way.
        ledger: takes what is decided.
        clock: the time.
        notify: hears of reports that are ignored.
    """

    def __init__(
        self, experiment: Experiment, *, book: Book, ledger: Ledger, clock: Clock, notify: Notify
    ) -> None:
        self._book, self._ledger, self._clock, self._notify = book, ledger, clock, notify
        rules = experiment.pruning
        self._pruners: dict[str, Pruner] = (
            {}
            if rules is None
            else {model.name: make_pruner(rules, experiment.goals) for model in experiment.models}
        )
        wanted = [metric.name for pruner in self._pruners.values() for metric in pruner.metrics]
        self._declared = dict.fromkeys((*experiment.measured, *wanted))
        self._warned: set[int] = set()
        self._undeclared: set[str] = set()
        self._latest = 0.0

    def load(self) -> None:
        """Repeats the reports in the store, in the order they were taken in."""
        store, everything = self._ledger.store, bool(self._pruners)
        live = [point.record.id for point in (*self._book.running(), *self._book.queued())]
        reports = sorted(store.reports(None if everything else live), key=lambda report: report.at)
        points = {record.id: record for record in store.points()} if everything else {}
        for report in reports:
            self._latest = max(self._latest, report.at)
            point = self._book.get(report.point)
            if point is not None and report.attempt == point.attempt:
                _reported(point).add(report.step, report.metrics)
            if (record := points.get(report.point)) is None:
                continue
            reason = self._judge(record.model, record.number, report.step, report.metrics)
            if point is not None and report.attempt == point.attempt:
                point.pruned = point.pruned or reason

    def take(self, point: LivePoint, event: Report) -> None:
        """Takes in a report of the attempt under way; sets `LivePoint.pruned` if it ends the point."""
        reported = _reported(point, event.worker)
        if reported.last is not None and event.step <= reported.last:
            if reported.recent.get(event.step) != event.metrics:  # else it was only handed out twice
                self._warn(
                    point, f"step {event.step} after step {reported.last}; steps have to increase: ignored"
                )
            return
        reported.add(event.step, event.metrics)
        if event.left_out:
            names = ", ".join(f'"{name}"' for name in event.left_out[:_SHOWN])
            self._warn(
                point,
                f"a value of {names} that is not finite, at step {event.step}; it is left out, the rest counts",
            )
        if not event.metrics:
            return
        self._latest = max(self._clock.time(), self._latest + _TICK_S)
        row = ReportRecord(event.point, event.attempt, event.step, event.metrics, self._latest)
        self._ledger.add(lambda tx: tx.add_report(row))
        record = point.record
        pruner = self._pruners.get(record.model)
        if pruner is not None and (lacking := _lacking(pruner, event.metrics)):
            self._warn(
                point,
                f'step {event.step} without a finite "{lacking}", which pruning.metric wants; '
                f"it has: {', '.join(event.metrics)}: ignored",
            )
            return
        self._mind_undeclared(point, event.metrics)
        reason = self._judge(record.model, record.number, event.step, event.metrics)
        point.pruned = point.pruned or reason

    def _judge(self, model: str, number: int, step: int, metrics: Mapping[str, float]) -> str | None:
        pruner = self._pruners.get(model)
        losses = None if pruner is None else pruner.losses(metrics)
        return None if pruner is None or losses is None else pruner.report(number, step, losses)

    def _mind_undeclared(self, point: LivePoint, metrics: Mapping[str, float]) -> None:
        """Says once that nobody looks at what is reported: further metrics beside a declared one are welcome."""
        strange = [name for name in metrics if name not in self._declared]
        if len(strange) < len(metrics) or self._undeclared.issuperset(strange):
            return
        self._undeclared.update(strange)
        names = ", ".join(f'"{name}"' for name in strange[:_SHOWN])
        self._warn(
            point,
            f"{names}, and none of the metrics that the config declares ({', '.join(self._declared)}): it is kept, "
            f"and decides nothing; {nearest(strange[0], self._declared)}",
        )

    def _warn(self, point: LivePoint, what: str) -> None:
        """One warning a point: a training that reports wrongly does so at every step."""
        if point.record.id not in self._warned:
            self._warned.add(point.record.id)
            self._notify("warning", f"point {point.record.id} has reported {what}")


def _reported(point: LivePoint, worker: str | None = None) -> Reported:
    """What the attempt under way has reported; another worker that has got the same attempt begins anew."""
    found = point.reported
    if found is None or found.attempt != point.attempt or (found.worker or worker) != worker:
        found = point.reported = Reported(point.attempt)
    found.worker = worker
    return found


def _lacking(pruner: Pruner, metrics: Mapping[str, float]) -> str | None:
    return next((metric.name for metric in pruner.metrics if metric.name not in metrics), None)
