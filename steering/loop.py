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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from hpo_steer.algorithm import Failure
from hpo_steer.errors import AlgorithmError, StoreError
from hpo_steer.messages import (
    Bye,
    Cancel,
    Control,
    Event,
    Heartbeat,
    Hello,
    Report,
    Result,
    Started,
    Stop,
    Work,
)
from hpo_steer.transport.base import Connected, Delivery, Disconnected, SteeringEnd
from steering.book import Book, LivePoint, in_order_told, observation, steps, worker_process
from steering.fleet import Fleet
from steering.hosts import AlgorithmHost, HostFailure, Opening, Proposal
from steering.search import ModelSearch
from steering.store.base import (
    AttemptRecord,
    Counts,
    IterationRecord,
    PointRecord,
    ReportRecord,
    Store,
    Transaction,
)

if TYPE_CHECKING:
    from hpo_steer.config import Experiment, Model
    from hpo_steer.space import SearchSpace
    from steering.clock import Clock

Notify = Callable[[str, str], None]
"""Told of what happens: a kind (``iteration``, ``failed``, ``worker``, ``broker``, ``lost``, ``ended``) and a text."""

_COMMIT_RETRIES_S = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_REVIVALS = 3
_ELAPSED_EVERY_S = 5.0
_QUEUE_EVERY_S = 10.0
_GATHER_S = 0.02
_BUNDLE_S = 0.05
_BUNDLE_MOST = 32


@dataclass
class Tuned:
    """A model in the loop.

    Attributes:
        model: as configured.
        space: its search space.
        host: where its algorithm lives.
        search: its iterations and stop rules.
        ended: why it is over; None while it goes on.
        last_ask_s: how long its last ask took.
        ask_began: when the ask under way began, by the monotonic clock.
    """

    model: Model
    space: SearchSpace
    host: AlgorithmHost
    search: ModelSearch
    ended: str | None = None
    last_ask_s: float | None = None
    ask_began: float = 0.0


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
        self.experiment, self._run, self._store, self._transport = experiment, run, store, transport
        self._clock, self._notify = clock, notify
        self._rules = experiment.evaluation
        self._openings = {model.name: opening for model, opening, _ in openings}
        self.models = {
            model.name: Tuned(model, opening.space, host, ModelSearch(experiment.steering, experiment.goals))
            for model, opening, host in openings
        }
        self._hosts = list({id(host): host for _, _, host in openings}.values())
        self.fleet = Fleet(silent_after_s=self._rules.lease_s)
        self.book = Book()
        self.counts = Counts()
        self.dropped = 0
        self.connected = True
        self._changes: list[Callable[[Transaction], None]] = []
        self._settle: list[Delivery[Event]] = []
        self._publish: dict[int, LivePoint] = {}
        self._controls: list[Control] = []
        self._due: deque[str] = deque()
        self._revivals = 0
        self._queue_checked = self._committed = 0.0
        self._short_s: float | None = None
        self._holding = False
        self._drained = False
        self._began = clock.monotonic()
        self._elapsed_before = self._elapsed_written = 0.0
        self._selector = selectors.DefaultSelector()
        self._selector.register(transport.fileno(), selectors.EVENT_READ)
        for host in self._hosts:
            self._listen(host)

    def _listen(self, host: AlgorithmHost) -> None:
        fd = host.fileno()
        if fd is not None:
            self._selector.register(fd, selectors.EVENT_READ)

    # ------------------------------------------------------------ beginning

    def load(self, *, workers_gone: bool) -> int:
        """Takes up the run where the store has it, and has the algorithms restored.

        Args:
            workers_gone: no attempt can still be running (workers of the last session died with it).

        Returns:
            How many points were running when the last session ended.
        """
        record = self._store.run()
        self._elapsed_before = self._elapsed_written = record.elapsed_s if record else 0.0
        self.counts = self._store.counts()
        ends = {m.name: m.ended for m in self._store.models()}
        for name, tuned in self.models.items():
            points = self._store.points(model=name)
            self._take_up(points)
            tuned.ended = ends.get(name)
            self._rebuild(tuned, points)
        running = self.book.running()
        if workers_gone:
            for point in running:
                self._lose(point, "its worker ended with the last session")
        self._run_due()
        self.flush()
        return len(running)

    def _take_up(self, points: Sequence[PointRecord]) -> None:
        """Notes every point; those that have not ended wait, run, or follow again."""
        now = self._clock.monotonic()
        for record in points:
            first = self.book.remember(record)
            if record.state in ("done", "failed"):
                continue
            live = LivePoint(record, attempts=record.attempts, lost=record.lost)
            self.book.add(live)
            leader = (
                self.book.get(first) if first and self.experiment.steering.duplicates != "replicate" else None
            )
            if leader is not None:
                self._follow(live, leader)
            elif record.state == "running":
                live.worker, live.started_at = record.worker, record.started_at
                live.started = live.heard = now
                self.book.run(live)
            else:
                self._publish[live.record.id] = live

    def _rebuild(self, tuned: Tuned, points: list[PointRecord]) -> None:
        """Repeats the model's history for its search and its algorithm, then what was told after the last ask."""
        name, search = tuned.model.name, tuned.search
        iterations = self._store.iterations(name)
        ended = in_order_told(points)
        told = 0
        for iteration in iterations:
            for record in ended[told : iteration.told]:
                search.end_point(record.iteration, record.values)
            told = iteration.told
            search.begin_iteration(iteration.size)
            tuned.last_ask_s = iteration.ask_s
        if tuned.ended is not None:
            return
        if iterations:
            tuned.host.restore(name, [step for step, _ in steps(iterations, points)])
        for record in ended[told:]:
            if record.duplicate_of is None:  # duplicates are told together with what they duplicate
                self._consider(tuned)
            self._tell(tuned, record)
        self._consider(tuned)

    # ------------------------------------------------------------ one step

    def step(self, timeout_s: float) -> None:
        """Waits for news (at most so long), takes it in, and acts on it.

        Raises:
            AlgorithmError: an algorithm failed; the run can be resumed.
            StoreError: the store failed for good; the run can be resumed.
        """
        self._selector.select(timeout_s)
        now = self._clock.monotonic()
        if (
            early := self._committed + _GATHER_S - now
        ) > 0:  # a commit costs the same for one result and for fifty
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
        for host in self._hosts:
            self._answers(host)
        self._run_due()
        self._mind_leases(now)
        self._mind_time()
        self.fleet.measure(now, len(self.book.running()))
        self.flush()

    def flush(self) -> None:
        """Commits what was decided, then acknowledges and publishes."""
        self._mind_elapsed()
        self._commit()
        if self._settle:
            self._transport.settle(self._settle)
            self._settle = []
        for message in self._controls:
            self._transport.control(message)
        self._controls = []
        if self._publish and not self._holding:
            waiting = [
                p for n, p in sorted(self._publish.items()) if self.book.get(n) is p and p.state == "queued"
            ]
            self._publish = {}
            now = self._clock.monotonic()
            for point in waiting:
                point.published = now
            self._transport.publish([self._work(point) for point in waiting], self._bundle(len(waiting)))

    def _commit(self) -> None:
        if not self._changes:
            return
        for pause_s in (*_COMMIT_RETRIES_S, None):
            try:
                with self._store.transaction() as transaction:
                    for change in self._changes:
                        change(transaction)
                break
            except StoreError as exc:
                if pause_s is None or not exc.transient:
                    raise
                self._notify("store", f"{exc}; trying again in {pause_s:g} s")
                self._clock.sleep(pause_s)
        self._changes = []
        self._committed = self._clock.monotonic()

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
        self._settle.append(delivery)
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
        self._run_due()

    def _renew(self, worker: str, number: int, attempt: int, now: float) -> None:
        point = self.book.get(number)
        if point is None:
            if self.book.saw(number):
                self._stop(number, attempt, worker, "the point has ended")
        elif point.state == "running" and point.attempt == attempt and point.worker == worker:
            point.heard = now

    def _stop(self, point: int, attempt: int, worker: str | None, reason: str) -> None:
        self._controls.append(
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
        self._count(queued=-1, running=1)
        row = AttemptRecord(event.point, event.attempt, event.worker, event.slot, point.started_at)
        self._changes.append(lambda tx: tx.start_attempt(row))

    def _report(self, event: Report) -> None:
        point = self.book.get(event.point)
        if point is not None and point.attempt == event.attempt:
            row = ReportRecord(event.point, event.attempt, event.step, event.metrics, event.at)
            self._changes.append(lambda tx: tx.add_report(row))

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
        self._short_s = known + 0.1 * (event.duration_s - known) if event.duration_s < 1.0 else event.duration_s
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
        self._changes.append(lambda tx: tx.end_attempt(row))
        if current:
            point.attempts = event.attempt
        if isinstance(outcome, Failure) and self._again(point, outcome):
            return
        self._end(
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
            self._count(queued=1, running=-1)
        change = partial(_requeue_point, point=point.record.id, attempts=point.attempts, lost=point.lost)
        self._changes.append(change)
        self._publish[point.record.id] = point

    def _lose(self, point: LivePoint, why: str) -> None:
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
            self._changes.append(lambda tx: tx.end_attempt(row))
        point.lost += 1
        if point.lost >= self._rules.max_lost:
            message = f"it lost its worker {point.lost} times, the last time: {why}"
            self._end(point, Failure("lost", message), worker=point.worker, started_at=point.started_at)
            return
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
            self._publish.update({p.record.id: p for p in gone})

    @property
    def elapsed_s(self) -> float:
        """How long steering has run, in all sessions."""
        return self._elapsed_before + self._clock.monotonic() - self._began

    def _mind_elapsed(self) -> None:
        if self.elapsed_s - self._elapsed_written >= _ELAPSED_EVERY_S:
            self._elapsed_written = self.elapsed_s
            self._changes.append(lambda tx: tx.set_run(elapsed_s=self._elapsed_written))

    def _mind_time(self) -> None:
        limit = self.experiment.steering.max_time_s
        if limit is None or self.elapsed_s < limit:
            return
        for tuned in self.models.values():
            if tuned.search.stopped is None:
                tuned.search.stop(f"max_time_s ({limit:g}) reached")
                self._wind_down(tuned)

    # ------------------------------------------------------------ what algorithms say

    def _consider(self, tuned: Tuned) -> None:
        """Asks for the next iteration if it is due."""
        n = 0 if self._holding or tuned.ended else tuned.search.wanted()
        if n:
            tuned.search.begin_ask(n)
            tuned.ask_began = self._clock.monotonic()
            tuned.host.ask(tuned.model.name, n)
            if tuned.host.fileno() is None:
                self._answers(tuned.host)
        elif tuned.search.stopped is not None:
            self._wind_down(tuned)

    def _run_due(self) -> None:
        while self._due:
            self._consider(self.models[self._due.popleft()])

    def _answers(self, host: AlgorithmHost) -> None:
        for reply in host.replies():
            if isinstance(reply, Proposal):
                self._proposed(reply)
            elif isinstance(reply, HostFailure):
                if not reply.died:
                    raise reply.error
                self._revive(host, reply)

    def _proposed(self, proposal: Proposal) -> None:
        """Writes an iteration down and sends its points out."""
        tuned = self.models[proposal.model]
        search = tuned.search
        tuned.last_ask_s = proposal.ask_s
        size = len(proposal.points)
        if size:
            now = self._clock.time()
            iteration = IterationRecord(
                proposal.model,
                search.iterations + 1,
                search.wanted_at_ask,
                size,
                search.told_at_ask,
                now - proposal.ask_s,
                proposal.ask_s,
            )
            records = [
                PointRecord(
                    self.book.next_id(),
                    proposal.model,
                    point.id,
                    iteration.number,
                    point.params,
                    tuned.space.hash(point.params),
                    created_at=now,
                )
                for point in proposal.points
            ]
            self._changes.append(lambda tx: tx.add_iteration(iteration, records))
            self._count(queued=size)
        search.begin_iteration(size, proposal.ended)
        if size:
            self._notify(
                "iteration", f"{_of(tuned, self.models)}iteration {search.iterations}: {size} points"
            )
            for record in records:
                self._send_out(record)
        self._due.append(proposal.model)

    def _send_out(self, record: PointRecord) -> None:
        """A new point waits for a worker, or takes over what becomes (or became) of an equal one."""
        live = LivePoint(record)
        first = self.book.remember(record)
        self.book.add(live)
        if first is None or self.experiment.steering.duplicates == "replicate":
            self._publish[live.record.id] = live
            return
        leader = self.book.get(first)
        if leader is not None:
            self._follow(live, leader)
            return
        self._commit()
        (known,) = self._store.points(ids=[first])
        self._take_over(live, known)

    def _follow(self, live: LivePoint, leader: LivePoint) -> None:
        live.follows = leader.record.id
        leader.followers.append(live)

    def _take_over(self, live: LivePoint, known: PointRecord) -> None:
        outcome: dict[str, float] | Failure = known.failure or dict(known.values or {})
        self._end(live, outcome, metrics=known.metrics, duplicate_of=known.id)

    def _revive(self, host: AlgorithmHost, failure: HostFailure) -> None:
        """Starts a new process for the algorithms of one that died, and repeats their histories."""
        from steering.hosts import ProcessHost

        self._revivals += 1
        if self._revivals > _REVIVALS or not isinstance(host, ProcessHost):
            raise failure.error
        self._notify("algorithm", f"{failure.error}; starting it again ({self._revivals} of {_REVIVALS})")
        self._selector.unregister(host.fileno())
        host.close()
        fresh = host.again()
        self._hosts[self._hosts.index(host)] = fresh
        self._listen(fresh)
        self._commit()
        for name, tuned in self.models.items():
            if tuned.host is host:
                tuned.host = fresh
                self._repeat(tuned, name)

    def _repeat(self, tuned: Tuned, name: str) -> None:
        points = self._store.points(model=name)
        iterations = self._store.iterations(name)
        ended = in_order_told(points)
        tuned.host.open(self._openings[name])
        tuned.host.restore(name, [step for step, _ in steps(iterations, points)])
        told = iterations[-1].told if iterations else 0
        at_ask = tuned.search.told_at_ask if tuned.search.asking else len(ended)
        for place, record in enumerate(ended[told:], told):
            if place == at_ask:
                tuned.host.ask(name, tuned.search.wanted_at_ask)
            tuned.host.tell(name, [observation(record)])
        if tuned.search.asking and at_ask == len(ended):
            tuned.host.ask(name, tuned.search.wanted_at_ask)

    # ------------------------------------------------------------ ends

    def _end(
        self,
        point: LivePoint,
        outcome: dict[str, float] | Failure,
        *,
        metrics: Mapping[str, float] | None = None,
        worker: str | None = None,
        started_at: float | None = None,
        duration_s: float | None = None,
        duplicate_of: int | None = None,
    ) -> None:
        """A point has ended for good: write it down, tell its algorithm, see what is due."""
        tuned = self.models[point.record.model]
        failure = outcome if isinstance(outcome, Failure) else None
        record = replace(
            point.record,
            state="failed" if failure else "done",
            values=None if isinstance(outcome, Failure) else outcome,
            metrics=metrics,
            failure=failure,
            attempts=point.attempts,
            lost=point.lost,
            worker=worker,
            started_at=started_at,
            ended_at=self._clock.time(),
            duration_s=duration_s,
            told=tuned.search.ended + 1,
            duplicate_of=duplicate_of,
        )
        self.book.remove(point)
        self._changes.append(lambda tx: tx.end_point(record))
        self._count(
            queued=-(point.state == "queued"),
            running=-(point.state == "running"),
            done=int(failure is None),
            failed=failure.kind if failure else None,
            duplicates=int(failure is None and duplicate_of is not None),
        )
        if failure is not None and failure.kind != "cancelled" and duplicate_of is None:
            self._notify("failed", f"point {record.id} failed: {failure.kind}: {first_line(failure.message)}")
        self._tell(tuned, record)
        self._due.append(record.model)
        for follower in point.followers:
            follower.follows = None
            self._take_over(follower, record)

    def _tell(self, tuned: Tuned, record: PointRecord) -> None:
        tuned.host.tell(tuned.model.name, [observation(record)])
        if tuned.search.end_point(record.iteration, record.values) and record.values:
            self._notify("best", f"point {record.id}")

    def _wind_down(self, tuned: Tuned) -> None:
        """A model's search has stopped: what no worker has begun is cancelled, and when all is in, it is over."""
        if tuned.ended is not None:
            return
        reason = tuned.search.stopped or ""
        if tuned.search.cut:
            self._cancel_queued(tuned, reason)
        if tuned.search.over:
            tuned.ended = reason
            self._changes.append(lambda tx: tx.end_model(tuned.model.name, reason))
            if len(self.models) > 1:
                self._notify("ended", f"model {tuned.model.name}: {reason}")

    def _cancel_queued(self, tuned: Tuned, reason: str) -> None:
        queued = self.book.queued(tuned.model.name)
        if queued:
            numbers = [p.record.id for p in queued]
            self._controls.append(Cancel(experiment=self.experiment.name, run=self._run, points=numbers))
            for point in queued:
                self._end(point, Failure("cancelled", f"the search has stopped: {reason}"))

    @property
    def over(self) -> bool:
        """Whether every model's search is over."""
        return not self._due and all(tuned.ended is not None for tuned in self.models.values())

    def hold(self) -> None:
        """Sends nothing out any more: for draining."""
        self._holding = True
        self._transport.discard_work()

    def finish(self, reason: str | None) -> None:
        """Writes down how this session ended; None leaves the run open to be resumed."""
        elapsed = self.elapsed_s
        self._changes.append(lambda tx: tx.set_run(elapsed_s=elapsed, ended=reason))
        self.flush()

    def close(self) -> None:
        """Ends the algorithms' processes."""
        for host in self._hosts:
            host.close()
        self._selector.close()

    # ------------------------------------------------------------ counting

    def _count(
        self,
        *,
        queued: int = 0,
        running: int = 0,
        done: int = 0,
        failed: str | None = None,
        duplicates: int = 0,
    ) -> None:
        """Keeps `counts` equal to what the store will say after the commit."""
        counts = self.counts
        kinds = (
            counts.failed if failed is None else {**counts.failed, failed: counts.failed.get(failed, 0) + 1}
        )
        self.counts = Counts(
            counts.queued + queued,
            counts.running + running,
            counts.done + done,
            kinds,
            counts.duplicates + duplicates,
        )


def _requeue_point(tx: Transaction, *, point: int, attempts: int, lost: int) -> None:
    tx.requeue_point(point, attempts, lost)


def _of(tuned: Tuned, models: Mapping[str, Tuned]) -> str:
    return f"{tuned.model.name}: " if len(models) > 1 else ""


def first_line(text: str) -> str:
    """The first line of a message, for one-line notices."""
    return text.strip().partition("\n")[0]


__all__ = ["AlgorithmError", "Notify", "SteeringLoop", "Tuned", "first_line"]
