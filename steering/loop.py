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
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpo_steer import faults
from hpo_steer.messages import (
    BundleWanted,
    Bye,
    Echo,
    Event,
    FailureInfo,
    Heartbeat,
    Hello,
    Pardon,
    Report,
    Result,
    Started,
    Work,
)
from hpo_steer.transport.base import Connected, Delivery, Disconnected, SteeringEnd
from steering.attempts import Attempts
from steering.book import Book, LivePoint, worker_process
from steering.fleet import Fleet, machine_of
from steering.hearing import Hearing
from steering.ledger import Ledger
from steering.searches import Searches
from steering.store.base import Condition, Counts, Store
from steering.words import plural

if TYPE_CHECKING:
    from hpo_steer.config import Experiment, Model
    from steering.clock import Clock
    from steering.hosts import AlgorithmHost, Opening
    from steering.ledger import Notify
    from steering.shipping import Shipping

_ELAPSED_EVERY_S = 5.0
_QUEUE_EVERY_S = 10.0
_GATHER_S = 0.02
_SHIPPING_S = 0.02
"""How soon a loop that has code to send looks again."""
_BUNDLE_S = 0.05
_BUNDLE_MOST = 32
_READ_AT_ONCE = 1000
_GOODBYES = 2048
"""Workers that have said goodbye, as many as may end at once on one machine."""
_LAST_WORDS_S = 60.0
"""How long messages may still come from a process of this machine that has ended."""


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
        shipping: hands code out; None: there is none.
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
        shipping: Shipping | None = None,
    ) -> None:
        self.shipping = shipping
        self.experiment, self._run, self._transport = experiment, run, transport
        self.clock, self._notify = clock, notify
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
            fleet=self.fleet,
            clock=clock,
            notify=notify,
            watch=self._watch,
        )
        self.models = self._searches.models
        self.attempts = Attempts(
            experiment,
            run,
            book=self.book,
            ledger=self._ledger,
            searches=self._searches,
            fleet=self.fleet,
            clock=clock,
            notify=notify,
        )
        self.connected = True
        self._drained = False
        self.began = clock.monotonic()
        self._hearing = Hearing(self._rules.heartbeat_s, self.began)
        self._ended: dict[tuple[str, int] | None, float] = {}
        self._goodbyes: deque[tuple[str, int] | None] = deque(maxlen=_GOODBYES)
        self._condition: tuple[str | None, str | None] = (None, None)
        self._queue_checked = 0.0
        self._missed: dict[int, float] = {}
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

    @property
    def chosen_ahead(self) -> int:
        """How many points wait in the queue because asks take long."""
        return self._searches.ahead.chosen

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
        if (spent := self._time_spent()) is not None:  # before anything is asked for
            for tuned in self.models.values():
                tuned.search.stop(spent)
        self.attempts.retries = self._searches.load()
        self.attempts.load()
        running = self.book.running()
        if workers_gone:
            for point in running:
                self.attempts.lose(point, "its worker ended with the last session", blame=False, quietly=True)
        self._searches.run_due()
        self._drained = self._transport.drained()
        self.flush()
        return len(running)

    # ------------------------------------------------------------ one step

    def step(self, timeout_s: float) -> None:
        """Waits for news (at most so long), takes it in, and acts on it.

        Raises:
            AlgorithmError: an algorithm failed; the run can be resumed.
            StoreError: the store failed for good; the run can be resumed.
        """
        if self.shipping is not None and self.shipping.pending:
            timeout_s = min(timeout_s, _SHIPPING_S)
        self._selector.select(timeout_s)
        now = self.clock.monotonic()
        # a commit costs the same for one result and for fifty
        if (early := self._ledger.committed + _GATHER_S - now) > 0:
            self.clock.sleep(early)
            now = self.clock.monotonic()
        items = self._transport.receive(_READ_AT_ONCE)
        for item in items:
            match item:
                case Delivery():
                    self._hear(item, now)
                case Disconnected(reason):
                    self.connected = False
                    self._hearing.interrupted()
                    self._notify("broker", f"the connection to the broker is gone ({reason}); trying again")
                case Connected():
                    self.connected = True
                    self._renew_all(now)
                    self._notify("broker", "connected again")
        faults.reached("steering.heard")
        for host in self._searches.asks.hosts:
            self._searches.asks.answers(host)
        self._mind_leases(now)
        self._mind_hold()
        self._searches.asks.mind(now)
        self.attempts.send_due(now)
        self._mind_time()
        self._searches.run_due()
        self.fleet.measure(now, len(self.book.running()))
        self.flush()
        self._ship(now)

    def _ship(self, now: float) -> None:
        """Sends pieces of code bundles, as many as leave room for other messages."""
        if self.shipping is None or not self.shipping.pending:
            return
        status = self._transport.status()
        if status.connected and not status.blocked:
            for message in self.shipping.due(now, status.unconfirmed):
                self._transport.control(message)

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
        if ledger.publish and self._drained and not self._searches.holding:
            waiting = [
                p for n, p in sorted(ledger.publish.items()) if self.book.get(n) is p and p.state == "queued"
            ]
            ledger.publish = {}
            now = self.clock.monotonic()
            for point in waiting:
                point.published = now
            self._transport.publish([self._work(point) for point in waiting], self._bundle(len(waiting)))
            faults.reached("steering.published")

    def _bundle(self, count: int) -> int:
        """How many of `count` points may go to one worker together: milliseconds of work, and no worker's share."""
        typical_s = self.attempts.typical_s
        if typical_s is None or typical_s > _BUNDLE_S:
            return 1
        fair = count // (4 * max(self.fleet.slots, 1))
        return max(min(int(_BUNDLE_S / max(typical_s, 1e-4)), fair, _BUNDLE_MOST), 1)

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
            bundle=self.shipping.bundle if self.shipping is not None else None,
            bundle_url=self.shipping.url if self.shipping is not None else None,
            parent=point.origin,
        )

    # ------------------------------------------------------------ what workers say

    def _hear(self, delivery: Delivery[Event], now: float) -> None:
        event = delivery.message
        if isinstance(event, (Started, Report, Result)) and (unknown := self.attempts.unknown(event)):
            self._transport.reject(delivery, unknown)
            return
        self._ledger.settle.append(delivery)
        match event:
            case Echo():
                if self._hearing.returned(event.number, now):
                    self._renew_all(now)
                return
            case Bye():
                self._bye(event)
                return
            case Result(failure=FailureInfo(kind="lost")):
                self.attempts.abandoned(event)  # by the worker's successor: no sign of life of its own
                return
        if now - self._ended.get(worker_process(event.worker), -_LAST_WORDS_S) < _LAST_WORDS_S:
            self._hear_last_words(event)
        else:
            self._hear_worker(event, now)
        self._searches.run_due()

    def _hear_worker(
        self, event: Hello | Heartbeat | Started | Report | Result | BundleWanted, now: float
    ) -> None:
        host, slots = (event.host, event.slots) if isinstance(event, Hello) else (None, None)
        if isinstance(event, Heartbeat):
            slots = event.slots
        if self.fleet.hear(event.worker, now, host=host, slots=slots):
            self._notify("worker", f"worker {event.worker} has connected")
        match event:
            case Hello() | Heartbeat():
                if isinstance(event, Heartbeat):
                    self.fleet[event.worker].spooled = event.spooled
                    self._examine(event)
                elif event.gpus is not None:
                    self.fleet.shows(machine_of(event))
                if event.gpus is not None:
                    self.fleet[event.worker].gpus = event.gpus
                for point, attempt in dict(event.running).items():
                    self.attempts.renew(event.worker, point, attempt, now)
            case BundleWanted():
                if self.shipping is not None:
                    self.shipping.wanted(event, now)
            case Started():
                self._served(event.worker)
                self.attempts.started(event)
            case Report():
                self.attempts.report(event)
            case Result():
                self._served(event.worker)
                self.fleet[event.worker].done += 1
                self.attempts.result(event)
                faults.reached("steering.result")

    def _examine(self, event: Heartbeat) -> None:
        state = self.fleet.examine(event.worker, event.health)
        if state is None:
            return
        reason = event.health.reason if event.health is not None else ""
        if state == "quarantined":
            self._notify("warning", f"worker {event.worker} is quarantined: {reason}")
            self._pardon_the_innocent()
        else:
            why = f": {reason}" if reason else ""
            text = "takes points again" if state == "ok" else f"takes no more points{why}"
            self._notify("worker", f"worker {event.worker} {text}")

    def _pardon_the_innocent(self) -> None:
        """Where nothing has ever been evaluated, and nothing can be anywhere, no machine is to blame."""
        workers = self.fleet.present()
        if self.counts.done or any(worker.state != "quarantined" for worker in workers):
            return
        self._notify(
            "warning", "all fails everywhere, and no point has a value yet: the quarantines are ended"
        )
        self._pardon(lasting=True)

    def _pardon(self, *, lasting: bool) -> None:
        self._ledger.controls.append(Pardon(experiment=self.experiment.name, run=self._run, lasting=lasting))

    def _served(self, worker: str) -> None:
        if self.shipping is not None:
            self.shipping.served(worker)

    def _hear_last_words(self, event: Event) -> None:
        """What a process of this machine had said before it ended, as we know already."""
        match event:
            case Started():
                self.attempts.started(event)
                self.attempts.forsake(event.worker, "it has ended")
            case Report():
                self.attempts.report(event)
            case Result():
                self.attempts.result(event)

    def _bye(self, event: Bye) -> None:
        self._served(event.worker)
        self._goodbyes.append(worker_process(event.worker))
        if self.fleet.leave(event.worker):
            self._notify(
                "worker", f"worker {event.worker} has left" + (f": {event.reason}" if event.reason else "")
            )
        self.attempts.forsake(event.worker, event.reason or "the worker has left", orderly=True)

    def forsake_process(self, host: str, pid: int, why: str, *, orderly: bool = False) -> bool:
        """A worker process of this machine has ended: what it ran goes out again at once.

        Args:
            host: this machine.
            pid: its id.
            why: how it has ended, for people.
            orderly: by itself, so that no trial of its points is to blame.

        Returns:
            Whether it had been heard of before.
        """
        known = (host, pid) in self._goodbyes
        self._ended[host, pid] = self.clock.monotonic()
        for worker in self.fleet.present():
            if worker_process(worker.name) == (host, pid):
                known = True
                self.fleet.leave(worker.name)
                self._served(worker.name)
                self._notify("worker", f"worker {worker.name} has gone: {why}")
                self.attempts.forsake(worker.name, why, orderly=orderly)
        return known

    # ------------------------------------------------------------ clocks

    def _renew_all(self, now: float) -> None:
        for point in self.book.running():
            point.heard = now
        for worker in self.fleet.present():
            worker.heard = now

    def _mind_leases(self, now: float) -> None:
        """Expires leases, as far as their workers could have been heard; see `Hearing`."""
        if not self.connected:
            return
        if not self._drained:  # until then nothing is published either: it may have been begun or done
            self._drained = self._transport.drained()
            self._renew_all(now)
        if (number := self._hearing.call(now)) is not None:
            self._transport.echo(Echo(experiment=self.experiment.name, run=self._run, number=number))
        until, lease_s = self._hearing.until, self._rules.lease_s
        for worker in self.fleet.silent(until):
            self.fleet.leave(worker.name)
            self._notify("worker", f"worker {worker.name} has not been heard of for {lease_s:g} s")
        for point in self.book.running():
            if until - point.heard > lease_s:
                self.attempts.lose(point, f"no heartbeat for {lease_s:g} s")
        if self._drained:
            self._mind_queue(now)

    def _mind_queue(self, now: float) -> None:
        """Sends points out again that were published, are not in the queue, and no worker has begun.

        It looks twice: at the first look a worker may just have taken a point, and its `started` be on the way.
        """
        if now - self._queue_checked < min(_QUEUE_EVERY_S, self._rules.lease_s):
            return
        if self._hearing.until < self._queue_checked:
            return  # what was said before the last look is not read yet
        self._queue_checked = now
        status = self._transport.status()
        if status.blocked or status.unconfirmed:
            return
        missing = []
        if self._transport.waiting() == 0:
            missing = [p for p in self.book.queued() if p.published and self._overdue(p)]
        self.attempts.vanished([p for p in missing if self._missed.get(p.record.id) == p.published])
        self._missed = {p.record.id: p.published for p in missing}

    def _overdue(self, point: LivePoint) -> bool:
        wait_s = self._rules.lease_s * 2.0 ** min(point.vanished, 6)
        return self._hearing.until - point.published > wait_s

    @property
    def elapsed_s(self) -> float:
        """How long steering has run, in all sessions."""
        return self._elapsed_before + self.clock.monotonic() - self.began

    def _mind_elapsed(self) -> None:
        if self.elapsed_s - self._elapsed_written >= _ELAPSED_EVERY_S:
            self._write_elapsed()

    def _write_elapsed(self) -> None:
        elapsed_s = self._elapsed_written = self.elapsed_s
        workers = self.fleet.present()
        condition = Condition(
            self.clock.time(), self._condition[1], len(workers), self.fleet.slots, self.fleet.told()
        )
        self._ledger.add(lambda tx: tx.set_run(elapsed_s=elapsed_s, condition=condition))

    def note(self, cause: str | None, waiting: str | None) -> None:
        """Writes down why nothing moves, for those who look at the store: soon, and at once if the cause is new."""
        news = cause != self._condition[0]
        self._condition = (cause, waiting)
        if news:
            self._write_elapsed()

    def _time_spent(self) -> str | None:
        limit = self.experiment.steering.max_time_s
        return f"max_time_s ({limit:g}) reached" if limit is not None and self.elapsed_s >= limit else None

    def _mind_time(self) -> None:
        spent = self._time_spent()
        if spent is None:
            return
        for tuned in self.models.values():
            if not tuned.search.cut and not tuned.search.over:
                tuned.search.stop(spent)
                self._write_elapsed()  # with what follows from it, or a session after a crash would undo it
                self._searches.wind_down(tuned)

    # ------------------------------------------------------------ ends

    def retry(self, points: Sequence[int]) -> int | None:
        """Gives failed points a fresh start; see `Searches.retry`."""
        count = self._searches.retry(points)
        if count:
            self.attempts.streak = []
            if any(worker.state == "quarantined" for worker in self.fleet.present()):
                self._pardon(lasting=False)
            self._notify(
                "retry", f"{plural(count, 'failed point')} {'goes' if count == 1 else 'go'} out again"
            )
            self.flush()
        return count

    @property
    def over(self) -> bool:
        """Whether every model's search is over."""
        return self._searches.over

    def hold(self) -> None:
        """Sends nothing out any more: for draining."""
        self._searches.holding = True
        self._transport.discard_work()

    def _mind_hold(self) -> None:
        """While draining, work that a worker gives back must not begin elsewhere."""
        if self._searches.holding and self._transport.waiting():
            status = self._transport.status()
            if status.connected and not status.blocked:
                self._transport.discard_work()

    def finish(self, reason: str | None) -> None:
        """Writes down how this session ended; None leaves the run open to be resumed."""
        elapsed = self.elapsed_s
        self._ledger.add(lambda tx: tx.set_run(elapsed_s=elapsed, ended=reason))
        self.flush()

    def close(self) -> None:
        """Ends the algorithms' processes, and ships no more."""
        if self.shipping is not None:
            self.shipping.close()
        for host in self._searches.asks.hosts:
            host.close()
        self._selector.close()
