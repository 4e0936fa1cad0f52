"""What becomes of attempts: begun, ended, lost, tried again after a while, or given up."""

from __future__ import annotations

import heapq
from functools import partial
from typing import TYPE_CHECKING

from hpo_steer.algorithm import Failure, FailureKind
from hpo_steer.limits import SEM
from hpo_steer.messages import Cancel, Report, Result, Started, Stop
from steering.failures import Ending, last_lines
from steering.idleness import IdleAdvice, LoadAdvice
from steering.reports import Reports
from steering.store.base import AttemptRecord, Transaction

if TYPE_CHECKING:
    from hpo_steer.config import Experiment
    from steering.book import Book, LivePoint
    from steering.clock import Clock
    from steering.fleet import Fleet
    from steering.ledger import Ledger, Notify
    from steering.searches import Searches

_LONGEST_DELAY_S = 300.0
STREAK = 6
"""So many failed attempts in a row are no accident."""


class Attempts:
    """The attempts of all points.

    An attempt whose training failed counts against `max_attempts` of its point and against `max_retries` of the
    experiment. One whose worker vanished counts against `max_lost` only, and one that its worker gave back in
    an orderly way against nothing.

    Args:
        experiment: its config.
        run: id of the run.
        book: the points on their way.
        ledger: takes what is decided.
        searches: told of points that end.
        fleet: whose slots are busy.
        clock: the time.
        notify: hears what happens.

    Attributes:
        dropped: results that came too late to count.
        retries: how often a failed point was sent out again, in all sessions.
        streak: the failures of the last attempts, newest last, as (point, worker, failure); a success empties it.
        typical_s: how long evaluations take of late; None before any has ended.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: str,
        *,
        book: Book,
        ledger: Ledger,
        searches: Searches,
        fleet: Fleet,
        clock: Clock,
        notify: Notify,
    ) -> None:
        self._experiment, self._run, self._rules = experiment, run, experiment.evaluation
        self._book, self._ledger, self._searches, self._fleet = book, ledger, searches, fleet
        self._clock, self._notify = clock, notify
        self._reports = Reports(experiment, book=book, ledger=ledger, clock=clock, notify=notify)
        self._idle, self._loads = IdleAdvice(experiment, fleet, notify), LoadAdvice(notify)
        self.dropped = 0
        self.retries = 0
        self.streak: list[tuple[int, str, Failure]] = []
        self.typical_s: float | None = None
        self._later: list[tuple[float, int]] = []

    def load(self) -> None:
        """Takes up what the running attempts had reported; those that are to end early are told so once more."""
        self._reports.load()
        for point in (*self._book.running(), *self._book.queued()):
            self._prune(point)

    # ------------------------------------------------------------ what workers say

    def stop(
        self, point: int, attempt: int, worker: str | None, reason: str, kind: FailureKind = "cancelled"
    ) -> None:
        """Has a worker end an attempt that is of no use any more."""
        self._ledger.controls.append(
            Stop(
                experiment=self._experiment.name,
                run=self._run,
                point=point,
                attempt=attempt,
                worker=worker,
                kind=kind,
                reason=reason,
            )
        )

    def _prune(self, point: LivePoint) -> None:
        """Has the attempt under way ended if it was decided so; a worker that was told before does nothing more."""
        if point.pruned is not None:
            self.stop(point.record.id, point.attempt, None, point.pruned, "pruned")

    def unknown(self, event: Started | Report | Result) -> str | None:
        """Why an event is about nothing that steering has sent out; None if it is about something."""
        if not self._book.saw(event.point):
            return f"there is no point {event.point}"
        point = self._book.get(event.point)
        if point is not None and event.attempt > point.attempt:
            return f"point {event.point} has no attempt {event.attempt}"
        return None

    def renew(self, worker: str, number: int, attempt: int, now: float) -> None:
        """A worker is still busy with an attempt."""
        point = self._book.get(number)
        if point is None:
            if self._book.saw(number):
                self.stop(number, attempt, worker, "the point has ended")
        elif point.attempt != attempt or point.follows is not None:
            return
        elif point.state == "running":
            if point.worker == worker:
                point.heard = now
                self._decline(point)
                self._prune(point)  # it may not have heard of it
            else:
                point.claimant = point.claimant or (worker, 0)
        elif not point.due:  # its `started` was lost
            self._lease(point, attempt, worker, 0)

    def started(self, event: Started) -> None:
        """A worker takes the lease of an attempt, if that is to be had."""
        point = self._book.get(event.point)
        if point is None:
            self.stop(event.point, event.attempt, event.worker, "the point has ended")
            return
        if event.attempt != point.attempt:
            if event.attempt < point.attempt:
                self.stop(event.point, event.attempt, event.worker, "its lease has expired")
            return
        if point.state == "running":
            if point.worker != event.worker:
                point.claimant = (event.worker, event.slot)
            return
        self._lease(point, event.attempt, event.worker, event.slot)

    def _decline(self, point: LivePoint) -> None:
        """Stops the second worker that has an attempt, as the first is alive."""
        if point.claimant is not None:
            self.stop(point.record.id, point.attempt, point.claimant[0], "another worker has this attempt")
            point.claimant = None

    def _lease(self, point: LivePoint, attempt: int, worker: str, slot: int) -> None:
        point.attempts = attempt
        self._book.run(point)
        self._ledger.count(queued=-1, running=1)
        self._hand_on(point, worker, slot)

    def report(self, event: Report) -> None:
        """An intermediate metric: it may end the attempt early."""
        point = self._book.get(event.point)
        if point is None or point.attempt != event.attempt or point.follows is not None:
            return
        if point.worker in (None, event.worker):  # of two workers, the one with the lease
            self._reports.take(point, event)
            self._prune(point)

    def result(self, event: Result) -> None:
        """An attempt has ended. The first final result of a point counts."""
        point = self._book.get(event.point)
        if point is None or point.follows is not None:
            self.dropped += 1
            return
        current = event.attempt == point.attempt
        if event.failure is not None and event.failure.kind == "released":
            self._release(event, point, event.failure.message)
            return
        outcome = self._outcome(event)
        elsewhere = point.state == "running" and event.worker != point.worker
        if isinstance(outcome, Failure) and (elsewhere or not current):  # a value is welcome from anybody
            self.dropped += 1
            if point.claimant is not None and point.claimant[0] == event.worker:
                point.claimant = None
            return
        self._measure(event, whole=not isinstance(outcome, Failure))
        if point.state == "queued":
            self._fleet.add_busy(event.duration_s)
            if not current:  # whoever is handed the next attempt may drop it
                self._ledger.controls.append(
                    Cancel(experiment=self._experiment.name, run=self._run, points=[event.point])
                )
        elif not current:
            self.stop(event.point, point.attempt, point.worker, "an earlier attempt has brought the result")
        started_at = self._write_end(event, point, outcome, current=current)
        if isinstance(outcome, Failure) and point.pruned is not None and outcome.kind in ("error", "timeout"):
            outcome = Failure("pruned", point.pruned)  # it broke off on the way out, and is not tried again
        failed = isinstance(outcome, Failure)
        ending = Ending(event.worker, started_at, event.duration_s, tuple(event.gpus or ()), event.log)
        if current:
            point.attempts = event.attempt
        if isinstance(outcome, Failure) and outcome.kind != "pruned":
            self.streak = [*self.streak[1 - STREAK :], (event.point, event.worker, outcome)]
            if self._again(point, outcome, ending):
                return
        else:
            self.streak = []
        self._searches.end_point(
            point,
            outcome,
            metrics=None if failed else event.metrics,
            ending=ending,
        )

    def _release(self, event: Result, point: LivePoint, why: str) -> None:
        """A worker that had to leave has saved an attempt: the point goes out again at once, and nothing counts."""
        if event.attempt != point.attempt or (point.state == "running" and event.worker != point.worker):
            self.dropped += 1
            if point.claimant is not None and point.claimant[0] == event.worker:
                point.claimant = None
            return
        if point.claimant is not None:
            self.lose(point, why, blame=False)
            return
        if point.state == "queued":
            self._fleet.add_busy(event.duration_s)
        started_at = self._write_end(event, point, Failure("lost", why), current=True, kind="released")
        point.attempts = event.attempt
        if point.pruned is not None:
            self._searches.end_point(
                point, Failure("pruned", point.pruned), ending=Ending(event.worker, started_at)
            )
        elif self._searches.cut(point):
            self._searches.end_point(
                point, Failure("cancelled", f"its worker is gone ({why}) and the search has stopped")
            )
        else:
            point.forgiven += 1
            self._notify("released", f"point {event.point} was released ({why}); it goes out again")
            self._requeue(point, 0.0)

    def _measure(self, event: Result, *, whole: bool) -> None:
        duration_s = event.duration_s
        if whole:
            self._idle.ended(duration_s)
            self._loads.ended(duration_s, event.load_s)
        known = self.typical_s if self.typical_s is not None else duration_s
        self.typical_s = known + 0.1 * (duration_s - known) if duration_s < 1.0 else duration_s

    def _write_end(
        self,
        event: Result,
        point: LivePoint,
        outcome: dict[str, float] | Failure,
        *,
        current: bool,
        kind: str | None = None,
    ) -> float:
        """Writes the attempt's row; returns when it began, by our clock.

        Args:
            event: the result.
            point: whose attempt it was.
            outcome: what came of it.
            current: whether it is the attempt under way.
            kind: what the row says instead of the failure's kind.
        """
        ended_at = self._clock.time()
        started_at = point.started_at if current and point.started_at else ended_at - event.duration_s
        ended_at = max(ended_at, started_at)  # the clock may have been set back meanwhile
        row = AttemptRecord(
            event.point,
            event.attempt,
            event.worker,
            event.slot,
            started_at,
            ended_at,
            event.duration_s,
            kind or (outcome.kind if isinstance(outcome, Failure) else "done"),
            outcome.message if isinstance(outcome, Failure) else "",
            event.log,
            tuple(event.gpus or ()),
        )
        self._ledger.add(lambda tx: tx.end_attempt(row))
        return started_at

    def _outcome(self, event: Result) -> dict[str, float] | Failure:
        """The values of objectives and constrained metrics, or why there are none."""
        if event.failure is not None:
            kind = event.failure.kind
            return Failure("lost" if kind == "released" else kind, event.failure.message)
        metrics = event.metrics or {}
        names = self._experiment.measured
        if missing := [name for name in names if name not in metrics]:
            return Failure(
                "error", f'the result has no metric "{missing[0]}"; it has: {", ".join(metrics) or "none"}'
            )
        if wrong := [
            name + SEM for name in names if name + SEM not in names and metrics.get(name + SEM, 0.0) < 0.0
        ]:
            return Failure(
                "error", f'metric "{wrong[0]}" is {metrics[wrong[0]]}; a standard error is at least 0'
            )
        return {name: metrics[name] for name in names}

    # ------------------------------------------------------------ lost ones

    def abandoned(self, event: Result) -> None:
        """A worker found what one that has died was training: the log, and that nobody trains it any more."""
        self._ledger.add(lambda tx: tx.add_log(event.point, event.attempt, event.log))
        point = self._book.get(event.point)
        if point is None or point.state != "running":
            return
        if (point.worker, point.attempt) == (event.worker, event.attempt):
            self.lose(point, "it has died", log=event.log)

    def forsake(self, worker: str, why: str, *, orderly: bool = False) -> None:
        """A worker is gone: all that it ran goes out again.

        Args:
            worker: its id.
            why: for people.
            orderly: it has said goodbye; then no trial of its points is to blame.
        """
        for point in self._book.running():
            if point.claimant is not None and point.claimant[0] == worker:
                point.claimant = None
            if point.worker == worker:
                self.lose(point, why, blame=not orderly)

    def lose(
        self, point: LivePoint, why: str, *, blame: bool = True, quietly: bool = False, log: str = ""
    ) -> None:
        """The worker of a running attempt is gone: the point goes out again, unless it has lost too many.

        Args:
            point: which runs.
            why: for people.
            blame: the point may have been the cause, as one that kills its worker each time is.
            quietly: say nothing.
            log: the last lines of the attempt's log, where they are known.
        """
        if point.claimant is not None:
            self._notify(
                "lost", f"point {point.record.id} lost its worker ({why}); another one has it already"
            )
            (worker, slot), point.claimant = point.claimant, None
            self._hand_on(point, worker, slot)
            return
        now = max(self._clock.time(), point.started_at or 0.0)
        row = AttemptRecord(
            point.record.id,
            point.attempts,
            point.worker,
            point.slot,
            point.started_at,
            now,
            None if point.started_at is None else max(now - point.started_at, 0.0),
            "lost",
            why,
            log,
        )
        self._ledger.add(lambda tx: tx.end_attempt(row))
        if point.pruned is not None:
            self._searches.end_point(
                point, Failure("pruned", point.pruned), ending=Ending(point.worker, point.started_at)
            )
            return
        if not blame:
            point.forgiven += 1
        else:
            point.lost += 1
            if point.lost >= self._rules.max_lost:
                self._set_aside(point, why, log)
                return
        if self._searches.cut(point):
            self._searches.end_point(
                point, Failure("cancelled", f"its worker is gone ({why}) and the search has stopped")
            )
            return
        if not quietly:
            self._notify("lost", f"point {point.record.id} lost its worker ({why}); it goes out again")
        self._requeue(point, self._delay_s(point.lost - 1))

    def _hand_on(self, point: LivePoint, worker: str, slot: int) -> None:
        """A second worker that trains the same attempt gets the lease."""
        now = self._clock.monotonic()
        point.worker, point.slot = worker, slot
        point.started_at, point.started, point.heard = self._clock.time(), now, now
        row = AttemptRecord(point.record.id, point.attempts, worker, slot, point.started_at)
        self._ledger.add(lambda tx: tx.start_attempt(row))

    def _set_aside(self, point: LivePoint, why: str, log: str) -> None:
        message = (
            f"it lost its worker {point.lost} times, the last time: {why}. It may be what kills them: "
            f"hpo-steer logs {point.record.id}; to try it again: hpo-steer retry {point.record.id}"
        )
        message = "\n".join([message, *last_lines(log)])
        self._searches.end_point(
            point, Failure("lost", message), ending=Ending(point.worker, point.started_at, log=log)
        )

    def vanished(self, points: list[LivePoint]) -> None:
        """The messages of queued points are gone from the work queue: they go out again."""
        for point in points:
            point.vanished += 1
        if points:
            count = f"{len(points)} points have" if len(points) > 1 else f"point {points[0].record.id} has"
            goes = "they go" if len(points) > 1 else "it goes"
            self._notify("lost", f"{count} vanished from the work queue; {goes} out again")
            self._ledger.publish.update({p.record.id: p for p in points})

    # ------------------------------------------------------------ once more

    def _again(self, point: LivePoint, failure: Failure, ending: Ending) -> bool:
        """Sends a point out once more if its failure, its attempts and the experiment's budget allow it."""
        most = self._rules.max_attempts
        if failure.kind != "error" or point.tried >= most or self._searches.cut(point):
            return False
        if self._rules.max_retries is not None and self.retries >= self._rules.max_retries:
            return False
        self.retries += 1
        delay_s = self._delay_s(point.tried)
        self._searches.failures.again(point, failure, ending, delay_s)
        self._requeue(point, delay_s)
        return True

    def _delay_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row; the first of lost ones costs no time."""
        if failures < 1:
            return 0.0
        return float(min(self._rules.retry_delay_s * 2.0 ** min(failures - 1, 30), _LONGEST_DELAY_S))

    def _requeue(self, point: LivePoint, delay_s: float) -> None:
        was_running = point.state == "running"
        self._book.requeue(point)
        if was_running:
            self._ledger.count(queued=1, running=-1)
        change = partial(
            _requeue_point,
            point=point.record.id,
            attempts=point.attempts,
            lost=point.lost,
            forgiven=point.forgiven,
        )
        self._ledger.add(change)
        point.published = 0.0
        if delay_s <= 0:
            point.due = 0.0
            self._ledger.publish[point.record.id] = point
        else:
            self._ledger.publish.pop(point.record.id, None)  # a session that has just begun would send it now
            point.due = self._clock.monotonic() + delay_s
            heapq.heappush(self._later, (point.due, point.record.id))

    def send_due(self, now: float) -> None:
        """Sends out the points whose delay is over."""
        while self._later and self._later[0][0] <= now:
            due, number = heapq.heappop(self._later)
            point = self._book.get(number)
            if point is not None and point.state == "queued" and point.due == due:
                point.due = 0.0
                self._ledger.publish[number] = point

    def delayed(self, now: float) -> tuple[int, float]:
        """How many points wait for their next attempt, and how long the first of them still does, in seconds."""
        waiting = [p.due for _, n in self._later if (p := self._book.get(n)) is not None and p.due > now]
        return len(waiting), min(waiting, default=now) - now


def _requeue_point(tx: Transaction, *, point: int, attempts: int, lost: int, forgiven: int) -> None:
    tx.requeue_point(point, attempts, lost, forgiven)
