"""The steering loop: results in, points out, everything written down in between.

One thread. Each `step` reads what workers and algorithms have said, decides, commits the decisions in one
transaction, and only then acknowledges the messages and publishes new work. Whatever kills the process between two
of these leaves a store from which `load` goes on:

* before the commit: the messages were not acknowledged and come again;
* after it, before the acknowledgement: they come again and are found to be known;
* after it, before the publication: the points are in the store as queued and are published again.
"""

from __future__ import annotations

import selectors
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from hpo_steer import faults
from hpo_steer.algorithm import Failure
from hpo_steer.messages import Bye, Event, Heartbeat, Hello, Report, Result, Started, Stop, Work
from hpo_steer.transport.base import Connected, Delivery, Disconnected, SteeringEnd
from steering.book import Book, LivePoint, worker_process
from steering.fleet import Fleet
from steering.ledger import Ledger
from steering.searches import Searches, first_line
from steering.store.base import AttemptRecord, Counts, ReportRecord, Store, Transaction

if TYPE_CHECKING:
    from hpo_steer.config import Experiment, Model
    from steering.clock import Clock
    from steering.hosts import AlgorithmHost, Opening
    from steering.ledger import Notify

_ELAPSED_EVERY_S = 5.0
_QUEUE_EVERY_S = 10.0
_GATHER_S = 0.02
_BUNDLE_S = 0.05
_BUNDLE_MOST = 32


class SteeringLoop:
    """Steers one experiment.

    Args:
        experiment: its config.
        run: id of the run.
        store: locked by this process.
        transport: opened.
        openings: what each model's algorithm was made from, with the host it was opened in.
        clock: the time.
        notify: hears what happens.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: str,
        store: Store,
        transport: SteeringEnd,
        openings: Sequence[tuple[Model, Opening, AlgorithmHost]],
        clock: Clock,
        notify: Notify,
    ) -> None:
        self.experiment, self._run, self._transport = experiment, run, transport
        self._clock, self._notify = clock, notify
        self._rules = experiment.evaluation
        self._selector = selectors.DefaultSelector()
        self._selector.register(transport.fileno(), selectors.EVENT_READ)
        self.fleet = Fleet(silent_after_s=self._rules.lease_s)
        self.book = Book()
        self._ledger = Ledger(store, clock, notify)
        self._searches = Searches(
            experiment,
            run,
            openings,
            book=self.book,
            ledger=self._ledger,
            clock=clock,
            notify=notify,
            watch=self._watch,
        )
        self.models = self._searches.models
        self.dropped = 0
        self.connected = True
        self._short_s: float | None = None
        self._drained = False
        self._began = clock.monotonic()
        self._queue_checked = 0.0
        self._elapsed_before = self._elapsed_written = 0.0

    def _watch(self, host: AlgorithmHost, instead_of: AlgorithmHost | None) -> None:
        """Wakes up for what a host answers."""
        if instead_of is not None and (fd := instead_of.fileno()) is not None:
            self._selector.unregister(fd)
        if (fd := host.fileno()) is not None:
            self._selector.register(fd, selectors.EVENT_READ)

    @property
    def counts(self) -> Counts:
        """How many points are in which state; after each step the store says the same."""
        return self._ledger.counts

    # ------------------------------------------------------------ beginning

    def load(self, *, workers_gone: bool) -> int:
        """Takes up the run where the store has it, and has the algorithms restored.

        Args:
            workers_gone: no attempt can still be running (workers of the last session died with it).

        Returns:
            How many points were running when the last session ended.
        """
        record = self._ledger.store.run()
        self._elapsed_before = self._elapsed_written = record.elapsed_s if record else 0.0
        self._ledger.counts = self._ledger.store.counts()
        self._searches.load()
        running = self.book.running()
        if workers_gone:
            for point in running:
                self._lose(point, "its worker ended with the last session", quietly=True)
        self._searches.run_due()
        self.flush()
        return len(running)

    # ------------------------------------------------------------ one step

    def step(self, timeout_s: float) -> None:
        """Waits for news (at most so long), takes it in, and acts on it.

        Raises:
            AlgorithmError: an algorithm failed; the run can be resumed.
            StoreError: the store failed for good; the run can be resumed.
        """
        self._selector.select(timeout_s)
        now = self._clock.monotonic()
        # a commit costs the same for one result and for fifty
        if (early := self._ledger.committed + _GATHER_S - now) > 0:
            self._clock.sleep(early)
            now = self._clock.monotonic()
        for item in self._transport.receive():
            match item:
                case Delivery():
                    self._hear(item, now)
                case Disconnected(reason):
                    self.connected = False
                    self._notify("broker", f"the connection to the broker is gone ({reason}); trying again")
                case Connected():
                    self.connected = True
                    self._renew_all(now)
                    self._notify("broker", "connected again")
        faults.reached("steering.heard")
        for host in self._searches.hosts:
            self._searches.answers(host)
        self._mind_leases(now)
        self._mind_time()
        self._searches.run_due()
        self.fleet.measure(now, len(self.book.running()))
        self.flush()

    def flush(self) -> None:
        """Commits what was decided, then acknowledges and publishes."""
        self._mind_elapsed()
        ledger = self._ledger
        if ledger.commit():
            faults.reached("steering.committed")
        if ledger.settle:
            self._transport.settle(ledger.settle)
            ledger.settle = []
            faults.reached("steering.settled")
        for message in ledger.controls:
            self._transport.control(message)
        ledger.controls = []
        if ledger.publish and not self._searches.holding:
            waiting = [
                p for n, p in sorted(ledger.publish.items()) if self.book.get(n) is p and p.state == "queued"
            ]
            ledger.publish = {}
            now = self._clock.monotonic()
            for point in waiting:
                point.published = now
            self._transport.publish([self._work(point) for point in waiting], self._bundle(len(waiting)))
            faults.reached("steering.published")

    def _bundle(self, count: int) -> int:
        """How many of `count` points may go to one worker together: milliseconds of work, and no worker's share."""
        if self._short_s is None or self._short_s > _BUNDLE_S:
            return 1
        fair = count // (4 * max(self.fleet.slots, 1))
        return max(min(int(_BUNDLE_S / max(self._short_s, 1e-4)), fair, _BUNDLE_MOST), 1)

    def _work(self, point: LivePoint) -> Work:
        record = point.record
        return Work(
            experiment=self.experiment.name,
            run=self._run,
            point=record.id,
            attempt=point.attempt,
            model=record.model,
            iteration=record.iteration,
            params={**record.params, **self.models[record.model].model.constants},
            timeout_s=self._rules.timeout_s,
        )

    # ------------------------------------------------------------ what workers say

    def _hear(self, delivery: Delivery[Event], now: float) -> None:
        event = delivery.message
        if isinstance(event, (Started, Report, Result)) and not self.book.saw(event.point):
            self._transport.reject(delivery, f"there is no point {event.point}")
            return
        self._ledger.settle.append(delivery)
        if isinstance(event, Bye):
            self._bye(event)
            return
        host, slots = (event.host, event.slots) if isinstance(event, Hello) else (None, None)
        if isinstance(event, Heartbeat):
            slots = event.slots
        if self.fleet.hear(event.worker, now, host=host, slots=slots):
            self._notify("worker", f"worker {event.worker} has connected")
        match event:
            case Hello() | Heartbeat():
                if isinstance(event, Heartbeat):
                    self.fleet[event.worker].spooled = event.spooled
                for point, attempt in event.running:
                    self._renew(event.worker, point, attempt, now)
            case Started():
                self._started(event, now)
            case Report():
                self._report(event)
            case Result():
                self.fleet[event.worker].done += 1
                self._result(event)
                faults.reached("steering.result")
        self._searches.run_due()

    def _renew(self, worker: str, number: int, attempt: int, now: float) -> None:
        point = self.book.get(number)
        if point is None:
            if self.book.saw(number):
                self._stop(number, attempt, worker, "the point has ended")
        elif point.state == "running" and point.attempt == attempt and point.worker == worker:
            point.heard = now

    def _stop(self, point: int, attempt: int, worker: str | None, reason: str) -> None:
        self._ledger.controls.append(
            Stop(
                experiment=self.experiment.name,
                run=self._run,
                point=point,
                attempt=attempt,
                worker=worker,
                reason=reason,
            )
        )

    def _started(self, event: Started, now: float) -> None:
        point = self.book.get(event.point)
        if point is None:
            self._stop(event.point, event.attempt, event.worker, "the point has ended")
            return
        if event.attempt != point.attempt:
            if event.attempt < point.attempt:
                self._stop(event.point, event.attempt, event.worker, "its lease has expired")
            return
        if point.state == "running":
            if point.worker != event.worker:
                self._stop(event.point, event.attempt, event.worker, "another worker has this attempt")
            return
        point.attempts = event.attempt
        point.worker, point.slot = event.worker, event.slot
        point.started_at, point.started, point.heard = self._clock.time(), now, now
        self.book.run(point)
        self._ledger.count(queued=-1, running=1)
        row = AttemptRecord(event.point, event.attempt, event.worker, event.slot, point.started_at)
        self._ledger.add(lambda tx: tx.start_attempt(row))

    def _report(self, event: Report) -> None:
        point = self.book.get(event.point)
        if point is not None and point.attempt == event.attempt:
            row = ReportRecord(event.point, event.attempt, event.step, event.metrics, event.at)
            self._ledger.add(lambda tx: tx.add_report(row))

    def _result(self, event: Result) -> None:
        point = self.book.get(event.point)
        if point is None or point.follows is not None:
            self.dropped += 1
            return
        current = event.attempt == point.attempt
        outcome = self._outcome(event)
        if not current and isinstance(outcome, Failure):
            self.dropped += 1
            return
        known = self._short_s if self._short_s is not None else event.duration_s
        self._short_s = (
            known + 0.1 * (event.duration_s - known) if event.duration_s < 1.0 else event.duration_s
        )
        if point.state == "queued":
            self.fleet.add_busy(event.duration_s)
        elif not current:
            self._stop(event.point, point.attempt, point.worker, "an earlier attempt has brought the result")
        ended_at = self._clock.time()
        started_at = point.started_at if current and point.started_at else ended_at - event.duration_s
        failed = isinstance(outcome, Failure)
        row = AttemptRecord(
            event.point,
            event.attempt,
            event.worker,
            event.slot,
            started_at,
            ended_at,
            event.duration_s,
            outcome.kind if isinstance(outcome, Failure) else "done",
            outcome.message if isinstance(outcome, Failure) else "",
            event.log,
        )
        self._ledger.add(lambda tx: tx.end_attempt(row))
        if current:
            point.attempts = event.attempt
        if isinstance(outcome, Failure) and self._again(point, outcome):
            return
        self._searches.end_point(
            point,
            outcome,
            metrics=None if failed else event.metrics,
            worker=event.worker,
            started_at=started_at,
            duration_s=event.duration_s,
        )

    def _outcome(self, event: Result) -> dict[str, float] | Failure:
        """The objectives' values, or why there are none."""
        if event.failure is not None:
            return Failure(event.failure.kind, event.failure.message)
        metrics = event.metrics or {}
        names = [goal.name for goal in self.experiment.goals]
        if missing := [name for name in names if name not in metrics]:
            return Failure(
                "error", f'the result has no metric "{missing[0]}"; it has: {", ".join(metrics) or "none"}'
            )
        return {name: metrics[name] for name in names}

    def _again(self, point: LivePoint, failure: Failure) -> bool:
        """Sends a point out once more if its failure and its attempts allow it."""
        if failure.kind == "lost":
            self._lose(point, failure.message)
            return True
        if failure.kind != "error" or point.attempts - point.lost >= self._rules.max_attempts:
            return False
        self._notify(
            "failed",
            f"point {point.record.id} failed: error (attempt {point.attempts - point.lost} of "
            f"{self._rules.max_attempts}), it goes out again: {first_line(failure.message)}",
        )
        self._requeue(point)
        return True

    def _requeue(self, point: LivePoint) -> None:
        was_running = point.state == "running"
        self.book.requeue(point)
        if was_running:
            self._ledger.count(queued=1, running=-1)
        change = partial(_requeue_point, point=point.record.id, attempts=point.attempts, lost=point.lost)
        self._ledger.add(change)
        self._ledger.publish[point.record.id] = point

    def _lose(self, point: LivePoint, why: str, *, quietly: bool = False) -> None:
        """The worker of a running attempt is gone: the point goes out again, unless it has lost too many."""
        now = self._clock.time()
        if point.state == "running":
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
            )
            self._ledger.add(lambda tx: tx.end_attempt(row))
        point.lost += 1
        if point.lost >= self._rules.max_lost:
            message = f"it lost its worker {point.lost} times, the last time: {why}"
            self._searches.end_point(
                point, Failure("lost", message), worker=point.worker, started_at=point.started_at
            )
            return
        if not quietly:
            self._notify("lost", f"point {point.record.id} lost its worker ({why}); it goes out again")
        self._requeue(point)

    def _bye(self, event: Bye) -> None:
        if self.fleet.leave(event.worker):
            self._notify(
                "worker", f"worker {event.worker} has left" + (f": {event.reason}" if event.reason else "")
            )
        self._forsake(event.worker, event.reason or "the worker has left")

    def _forsake(self, worker: str, why: str) -> None:
        for point in self.book.running():
            if point.worker == worker:
                self._lose(point, why)

    def forsake_process(self, host: str, pid: int, why: str) -> None:
        """A worker process of this machine has ended: what it ran goes out again at once."""
        for worker in self.fleet.present():
            if worker_process(worker.name) == (host, pid):
                self.fleet.leave(worker.name)
                self._notify("worker", f"worker {worker.name} has gone: {why}")
                self._forsake(worker.name, why)

    # ------------------------------------------------------------ clocks

    def _renew_all(self, now: float) -> None:
        for point in self.book.running():
            point.heard = now
        for worker in self.fleet.present():
            worker.heard = now

    def _mind_leases(self, now: float) -> None:
        """Expires leases, but never while this side may have missed the heartbeats."""
        if not self.connected:
            return
        if not self._drained:
            self._drained = self._transport.drained()
            self._renew_all(now)
            return
        for worker in self.fleet.silent(now):
            self.fleet.leave(worker.name)
            self._notify(
                "worker", f"worker {worker.name} has not been heard of for {self._rules.lease_s:g} s"
            )
        for point in self.book.running():
            if now - point.heard > self._rules.lease_s:
                self._lose(point, f"no heartbeat for {self._rules.lease_s:g} s")
        self._mind_queue(now)

    def _mind_queue(self, now: float) -> None:
        """Sends points out again that were published, are not in the queue, and no worker has begun."""
        if now - self._queue_checked < _QUEUE_EVERY_S:
            return
        self._queue_checked = now
        if self._transport.waiting() != 0:
            return
        gone = [p for p in self.book.queued() if p.published and now - p.published > self._rules.lease_s]
        if gone:
            self._notify("lost", f"{len(gone)} points have vanished from the work queue; they go out again")
            self._ledger.publish.update({p.record.id: p for p in gone})

    @property
    def elapsed_s(self) -> float:
        """How long steering has run, in all sessions."""
        return self._elapsed_before + self._clock.monotonic() - self._began

    def _mind_elapsed(self) -> None:
        if self.elapsed_s - self._elapsed_written >= _ELAPSED_EVERY_S:
            self._elapsed_written = self.elapsed_s
            self._ledger.add(lambda tx: tx.set_run(elapsed_s=self._elapsed_written))

    def _mind_time(self) -> None:
        limit = self.experiment.steering.max_time_s
        if limit is None or self.elapsed_s < limit:
            return
        for tuned in self.models.values():
            if not tuned.search.cut and not tuned.search.over:
                tuned.search.stop(f"max_time_s ({limit:g}) reached")
                self._searches.wind_down(tuned)

    # ------------------------------------------------------------ ends

    @property
    def over(self) -> bool:
        """Whether every model's search is over."""
        return self._searches.over

    def hold(self) -> None:
        """Sends nothing out any more: for draining."""
        self._searches.holding = True
        self._transport.discard_work()

    def finish(self, reason: str | None) -> None:
        """Writes down how this session ended; None leaves the run open to be resumed."""
        elapsed = self.elapsed_s
        self._ledger.add(lambda tx: tx.set_run(elapsed_s=elapsed, ended=reason))
        self.flush()

    def close(self) -> None:
        """Ends the algorithms' processes."""
        for host in self._searches.hosts:
            host.close()
        self._selector.close()


def _requeue_point(tx: Transaction, *, point: int, attempts: int, lost: int) -> None:
    tx.requeue_point(point, attempts, lost)
