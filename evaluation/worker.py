"""The worker: takes points, trains them in its slots, and sends back what came of them."""

from __future__ import annotations

import contextlib
import os
import selectors
import sys
import time
from collections import OrderedDict, deque
from itertools import islice
from typing import TYPE_CHECKING

from evaluation.attempt import AttemptFolder
from evaluation.outbox import Key, Outbox, SentResult, key_of
from evaluation.pace import OVERRUN_S, Pace
from evaluation.runners.base import Handle, Outcome, Runner, Task, failed
from evaluation.signals import ENOUGH, Signals
from evaluation.slot import SlotAttempt
from evaluation.tally import Snapshot, Tally
from hpo_steer import faults
from hpo_steer.messages import MAX_LOG_CHARS, BundleGone, BundlePart, Cancel, FailureInfo, Stop, Work
from hpo_steer.transport.base import (
    Confirmed,
    Connected,
    Delivery,
    Disconnected,
    Released,
    WorkerEnd,
    WorkerIncoming,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evaluation.settings import WorkerSettings
    from evaluation.spool import Spool
    from evaluation.supply import Supply

TICK_S = 0.1
REPORTS_S = 0.3
ADOPT_S = 10.0
STOP_GRACE_S = 10.0
"""How long a training may take to end by itself once steering has stopped it."""
_CONFIRM_S = 10.0
"""How long an ending worker waits until its results are confirmed."""
_REMEMBERED = 10_000
_UNKNOWN = -1


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the worker's own messages


class Worker:
    """A worker's loop, in one thread.

    A point takes one of two ways. As a rule the worker publishes `Started`, settles the work when that is
    confirmed, and only then trains; the result goes by way of the spool. Where evaluations are short of late
    it trains at once, and settles the work when the result is confirmed; one that turns out long takes its
    lease after a second.

    Args:
        transport: its end of the transport, not opened yet.
        runner: what trains.
        spool: keeps results until they are confirmed.
        settings: the rest.
        say: told a sentence when something happens that people should know.
        show: told several times a second how things stand.
        supply: has the code at hand, if steering ships it.
    """

    def __init__(
        self,
        transport: WorkerEnd,
        runner: Runner,
        spool: Spool,
        settings: WorkerSettings,
        *,
        say: Callable[[str], None] = _to_stderr,
        show: Callable[[Snapshot], None] | None = None,
        supply: Supply | None = None,
    ) -> None:
        self._transport, self._runner, self._settings = transport, runner, settings
        self._say, self._show, self._supply = say, show, supply
        self._outbox = Outbox(transport, spool, settings, say)
        self._signals = Signals()
        self._selector = selectors.DefaultSelector()
        self._pace = Pace(settings.slots)
        self._tally = Tally()
        self._free = list(range(settings.slots - 1, -1, -1))
        self._attempts: dict[Key, SlotAttempt] = {}
        self._prepared: dict[Key, SlotAttempt] = {}
        self._waiting: deque[Delivery[Work]] = deque()
        self._to_settle: list[Delivery[Work]] = []
        self._cancelled: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._given_back: set[Key] = set()
        self._credit = _UNKNOWN
        self._serial = 0
        self._connected = True
        self._released: str | None = None
        self._beat_at = self._tick_at = self._reports_at = 0.0
        self._adopt_at = time.monotonic() + ADOPT_S

    # --- its life ---

    def run(self) -> bool:
        """Works until it is told to end.

        The first SIGTERM or SIGINT (or `drain`) finishes what runs, the second ends it at once.

        Returns:
            Whether it ended in order, or steering did; False: at once, with trainings killed.

        Raises:
            BrokerError: the transport cannot be opened.
        """
        try:
            self._transport.open()  # may wait long for a broker, and Ctrl-C ends that as usual
            with self._signals:
                self._begin()
                self._loop()
                return self._leave()
        finally:
            self._runner.close()
            if self._supply is not None:
                self._supply.close()
            self._transport.close()
            self._outbox.close()
            self._selector.close()

    def drain(self) -> None:
        """As a signal: takes no more points; called once more, it ends at once. From any thread."""
        self._signals.count()

    def _begin(self) -> None:
        self._selector.register(self._transport.fileno(), selectors.EVENT_READ, self._receive)
        self._selector.register(self._signals.fileno(), selectors.EVENT_READ, self._signals.clear)
        if self._supply is not None:
            self._supply.open(self._outbox)
            self._selector.register(self._supply.fileno(), selectors.EVENT_READ, self._supply.advance)
        self._hello()
        self._outbox.adopt()
        self._runner.warm(self._settings.slots)
        self._beat_at = time.monotonic() + self._settings.heartbeat_s

    def _loop(self) -> None:
        told = False
        while not self._must_end():
            if self._signals.number:
                if not told:
                    told = True
                    self._start_draining()
                if not self._attempts:
                    return
            self._set_credit()
            self._step()

    def _step(self) -> None:
        ticks = self._attempts or self._show or self._lacks_code
        until = min(self._beat_at, self._tick_at) if ticks else self._beat_at
        for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
            if isinstance(key.data, SlotAttempt):
                self._look_at(key.data)
            else:
                key.data()
        self._fill()
        self._settle()
        now = time.monotonic()
        if now >= self._tick_at:
            self._tick(now)
        if now >= self._beat_at:
            self._beat(now)

    def _must_end(self) -> bool:
        return self._released is not None or self._signals.number >= ENOUGH

    def _start_draining(self) -> None:
        self._set_credit()
        self._give_back_waiting()
        if running := len(self._attempts):
            self._say(f"draining: {running} running; again to stop at once, they will be evaluated anew")

    def _leave(self) -> bool:
        """Says goodbye; results that nobody has confirmed stay in the spool."""
        if not self._must_end():
            self._await_confirms()
        if self._released is not None:
            self._say(f"ending: {self._released}")
            return True
        orderly = self._signals.number < ENOUGH
        self._runner.close()  # before their leases are given up
        held = list(self._deliveries())
        if held and self._connected:
            self._transport.release(held)
        self._outbox.bye("drained" if orderly else "stopped")
        return orderly

    def _await_confirms(self) -> None:
        deadline = time.monotonic() + _CONFIRM_S
        while len(self._outbox) and not self._must_end() and time.monotonic() < deadline:
            self._selector.select(0.2)
            self._signals.clear()
            self._receive()
            self._settle()

    # --- what comes in ---

    def _receive(self) -> None:
        for incoming in self._transport.receive():
            self._take(incoming)

    def _take(self, incoming: WorkerIncoming) -> None:
        match incoming:
            case Delivery():
                self._on_work(incoming)
            case Confirmed():
                for token in incoming.tokens:
                    self._on_confirmed(token)
            case Stop():
                self._on_stop(incoming)
            case Cancel():
                self._on_cancel(incoming)
            case BundlePart() | BundleGone():
                if self._supply is not None:
                    self._supply.hear(incoming)
            case Disconnected():
                self._on_disconnected(incoming.reason)
            case Connected():
                self._on_connected()
            case Released():
                self._released = incoming.reason

    def _on_work(self, delivery: Delivery[Work]) -> None:
        work = delivery.message
        self._outbox.run = work.run
        if (work.run, work.point) in self._cancelled or self._outbox.has_brought(work):
            self._to_settle.append(delivery)
        elif (attempt := self._attempts.get(key_of(work))) is not None:
            self._attach(attempt, delivery)
        elif (sent := self._outbox.knows(delivery)) is not None:
            if sent.spooled is not None or sent.delivery is not None:
                self._to_settle.append(delivery)
            else:
                sent.delivery = delivery
        elif self._signals.number:
            self._transport.release([delivery])
        elif self._supply is not None and not self._supply.admits(work):
            self._without_code(self._supply, delivery)
        else:
            self._waiting.append(delivery)

    @property
    def _lacks_code(self) -> bool:
        return self._supply is not None and self._supply.busy

    def _without_code(self, supply: Supply, delivery: Delivery[Work]) -> None:
        """Gives a point back whose code is not here, and takes none until it is."""
        if supply.useless(delivery.message):
            self._to_settle.append(delivery)  # the present session has sent it anew
            return
        supply.fetch(delivery.message)
        self._given_back.add(key_of(delivery.message))
        self._set_credit()  # first, or it would come again at once
        self._transport.release([delivery])

    def _attach(self, attempt: SlotAttempt, delivery: Delivery[Work]) -> None:
        """The broker has sent an attempt again that is here already."""
        if attempt.confirmed or attempt.delivery is not None:
            self._to_settle.append(delivery)
        else:
            attempt.delivery = delivery

    def _on_confirmed(self, token: object) -> None:
        if isinstance(token, SentResult):
            if (delivery := self._outbox.confirmed(token)) is not None:
                self._to_settle.append(delivery)
        elif isinstance(token, SlotAttempt) and self._attempts.get(key_of(token.work)) is token:
            token.confirmed = True
            faults.reached("worker.leased")
            if token.delivery is not None:
                self._to_settle.append(token.delivery)
                token.delivery = None
            if token.handle is None:
                self._settle()
                self._train(token)

    def _on_stop(self, stop: Stop) -> None:
        attempt = self._attempts.get((stop.run, stop.point, stop.attempt))
        if attempt is None or attempt.asked is not None or stop.worker not in (None, self._settings.id):
            return
        reason = stop.reason or "steering has ended this attempt"
        attempt.asked = FailureInfo(kind=stop.kind, message=reason)
        if attempt.handle is None:
            self._finish(attempt, Outcome(failure=attempt.asked))
            return
        attempt.kill_by = time.monotonic() + STOP_GRACE_S
        with contextlib.suppress(OSError):
            attempt.folder.ask_to_stop(reason)

    def _on_cancel(self, cancel: Cancel) -> None:
        for point in cancel.points:
            self._cancelled[cancel.run, point] = None
        while len(self._cancelled) > _REMEMBERED:
            self._cancelled.popitem(last=False)
        kept: deque[Delivery[Work]] = deque()
        for delivery in self._waiting:
            unwanted = (delivery.message.run, delivery.message.point) in self._cancelled
            if unwanted:
                self._prepared.pop(key_of(delivery.message), None)
            (self._to_settle if unwanted else kept).append(delivery)
        self._waiting = kept

    def _on_disconnected(self, reason: str) -> None:
        """Work in hand goes to other workers; what is training goes on, its result is sent later."""
        self._connected = False
        self._say(f"disconnected: {reason}; trying again, trainings go on")
        self._forget_prepared()
        self._waiting.clear()
        self._to_settle.clear()
        self._outbox.lose_deliveries()
        for attempt in list(self._attempts.values()):
            attempt.delivery = None
            if attempt.handle is None:
                self._drop(attempt)

    def _on_connected(self) -> None:
        if not self._connected:
            self._say("connected again")
        self._connected = True
        self._credit = _UNKNOWN
        self._hello()

    # --- one point ---

    def _fill(self) -> None:
        """Gives waiting points to free slots."""
        while self._waiting and self._free and not self._signals.number:
            delivery = self._waiting.popleft()
            work = delivery.message
            if (twin := self._attempts.get(key_of(work))) is not None:  # the same message twice in one batch
                self._attach(twin, delivery)
                continue
            attempt = self._prepared.pop(key_of(work), None) or self._prepare(delivery)
            attempt.delivery = delivery
            attempt.slot = self._free.pop()
            self._attempts[key_of(work)] = attempt
            faults.reached("worker.taken")
            if self._pace.short and not self._suspicious(delivery):
                self._train(attempt)
            else:
                self._lease(attempt)
        if not self._pace.short:
            self._give_back_waiting()
        elif self._settings.slots == 1 and self._waiting and self._pace.depth > 1 and self._all_train:
            self._foresee(self._pace.depth)

    @property
    def _all_train(self) -> bool:
        """Whether no attempt awaits its lease: a child answers in the order in which it was handed them."""
        return all(attempt.handle is not None for attempt in self._attempts.values())

    def _suspicious(self, delivery: Delivery[Work]) -> bool:
        """Whether work that comes once more may have killed another worker."""
        return delivery.redelivered and key_of(delivery.message) not in self._given_back

    def _prepare(self, delivery: Delivery[Work]) -> SlotAttempt:
        work = delivery.message
        self._serial += 1
        name = f"attempt-{work.attempt}-{os.getpid()}-{self._serial}"
        return SlotAttempt(work, 0, AttemptFolder(f"{self._settings.points}/{work.point}/{name}"), delivery)

    def _foresee(self, depth: int) -> None:
        """Hands the next points to the child beforehand, so that it need not wait for each."""
        tasks = []
        for delivery in islice(self._waiting, depth):
            if self._suspicious(delivery):  # it needs its lease first
                break
            key = key_of(delivery.message)
            attempt = self._prepared.get(key)
            if attempt is None:
                attempt = self._prepared[key] = self._prepare(delivery)
            tasks.append(self._task(attempt))
        if tasks:
            self._runner.foresee(tasks)

    def _task(self, attempt: SlotAttempt) -> Task:
        work = attempt.work
        return Task(
            work, attempt.slot, attempt.folder, self._settings.logs / f"{work.point}-{work.attempt}.log"
        )

    def _lease(self, attempt: SlotAttempt) -> None:
        attempt.leased = True
        self._outbox.started(attempt.work, attempt.slot, attempt)
        faults.reached("worker.started")

    def _train(self, attempt: SlotAttempt) -> None:
        attempt.began, attempt.started_at = time.monotonic(), time.time()
        try:
            attempt.handle = self._runner.start(self._task(attempt))
        except OSError as exc:
            self._finish(attempt, failed("error", f"the training cannot be started: {exc}"))
            return
        faults.reached("worker.training")
        if attempt.leased:
            self._outbox.training(attempt.note(self._settings.id, attempt.handle))
        if attempt.handle.ready:
            self._look_at(attempt)
            if self._attempts.get(key_of(attempt.work)) is not attempt:
                return
        attempt.fds = attempt.handle.fds()
        for fd in attempt.fds:
            self._selector.register(fd, selectors.EVENT_READ, attempt)

    def _look_at(self, attempt: SlotAttempt) -> None:
        if attempt.handle is None or self._attempts.get(key_of(attempt.work)) is not attempt:
            return
        outcome = attempt.handle.poll(time.monotonic())
        if outcome is not None:
            self._finish(attempt, attempt.judge(outcome))

    def _finish(self, attempt: SlotAttempt, outcome: Outcome) -> None:
        """Frees the slot and sends the result."""
        work, failure, handle = attempt.work, outcome.failure, attempt.handle
        duration_s = time.monotonic() - attempt.began if attempt.began else 0.0
        if outcome.duration_s is not None:
            duration_s = outcome.duration_s
        if handle is not None:
            self._pass_on_reports(attempt)
            self._pace.ended(duration_s)
        faults.reached("worker.trained")
        self._drop(attempt)
        if failure is None:
            self._tally.done += 1
        else:
            self._tally.failed += 1
            self._say(
                f"point {work.point} failed: {failure.kind} (attempt {work.attempt}): {failure.message}"
            )
        self._outbox.result(
            work,
            attempt.delivery,
            slot=attempt.slot,
            metrics=outcome.metrics,
            failure=failure,
            started_at=attempt.started_at or time.time(),
            duration_s=duration_s,
            log=handle.log_tail()[-MAX_LOG_CHARS:] if failure and handle else "",
        )
        if attempt.leased:
            self._outbox.trained(work)

    def _drop(self, attempt: SlotAttempt) -> None:
        """Frees an attempt's slot."""
        for fd in attempt.fds:
            self._selector.unregister(fd)
        attempt.folder.remove()
        del self._attempts[key_of(attempt.work)]
        self._free.append(attempt.slot)

    def _pass_on_reports(self, attempt: SlotAttempt) -> None:
        had = attempt.folder.bad_reports
        for line in attempt.folder.new_reports():
            self._outbox.report(attempt.work, line)
        if attempt.folder.bad_reports and not had:
            self._say(f"warning: point {attempt.work.point}: a report that cannot be read is left out")

    # --- from time to time ---

    def _tick(self, now: float) -> None:
        self._tick_at = now + TICK_S
        with_reports = now >= self._reports_at
        if with_reports:
            self._reports_at = now + REPORTS_S
        for attempt in list(self._attempts.values()):
            if attempt.handle is not None:
                if with_reports:
                    self._pass_on_reports(attempt)
                self._watch(attempt, attempt.handle, now)
        if self._supply is not None:
            self._supply.tick(now)
            self._beat_at = min(self._beat_at, now + (self._supply.heartbeat_s or self._settings.heartbeat_s))
        if self._show is not None:
            self._show(self.snapshot(now))

    def _watch(self, attempt: SlotAttempt, handle: Handle, now: float) -> None:
        """Sees to an attempt's limits of time."""
        timeout_s = attempt.work.timeout_s
        running_s = now - attempt.began
        if running_s > OVERRUN_S and not attempt.leased:
            self._lease(attempt)
            self._outbox.training(attempt.note(self._settings.id, handle))
            self._pace.overran()
            self._give_back_waiting()
        if attempt.ending is None:
            if timeout_s is not None and running_s >= timeout_s:
                attempt.ending = FailureInfo(kind="timeout", message=f"no result within {timeout_s:g} s")
            elif attempt.kill_by is not None and now >= attempt.kill_by:
                attempt.ending = attempt.asked
            if attempt.ending is not None:
                handle.stop()
        self._look_at(attempt)

    def _beat(self, now: float) -> None:
        wanted_s = self._supply.heartbeat_s if self._supply is not None else None
        self._beat_at = now + min(self._settings.heartbeat_s, wanted_s or self._settings.heartbeat_s)
        running: dict[str, list[tuple[int, int]]] = {}
        for run, point, attempt in self._training():
            running.setdefault(run, []).append((point, attempt))
        self._outbox.heartbeats(running)
        if now >= self._adopt_at:
            self._adopt_at = now + ADOPT_S
            self._outbox.adopt()  # a neighbour may have died
        if self._settings.parent not in (None, os.getppid()) and not self._signals.number:
            self._say("steering, which has started this worker, is gone")
            self._signals.count()

    def _hello(self) -> None:
        self._outbox.hello([(point, attempt) for _, point, attempt in self._training()])

    def _training(self) -> Iterator[Key]:
        return (key for key, attempt in self._attempts.items() if attempt.handle is not None)

    def snapshot(self, now: float) -> Snapshot:
        """How the worker stands, at a monotonic time."""
        status = self._transport.status()
        return Snapshot(
            busy=len(self._attempts),
            slots=self._settings.slots,
            done=self._tally.done,
            failed=self._tally.failed,
            per_hour=self._tally.per_hour(now),
            spooled=self._outbox.spooled,
            connected=status.connected,
            blocked=status.blocked,
            trouble=status.trouble,
            draining=self._signals.number > 0,
            code=self._supply.status if self._supply is not None else None,
        )

    # --- work in hand ---

    def _set_credit(self) -> None:
        """Says how many unsettled deliveries may be here; a slot that is busy attracts no more."""
        if self._signals.number or self._lacks_code:
            wanted = 0
        elif self._pace.short:
            wanted = self._settings.slots + self._pace.ahead
        else:
            unsettled = sum(1 for _ in self._deliveries())
            wanted = len(self._free) - len(self._waiting) + unsettled
        if wanted != self._credit and self._connected:
            self._credit = wanted
            self._transport.set_credit(wanted)

    def _deliveries(self) -> Iterator[Delivery[Work]]:
        """Every unsettled one."""
        yield from self._waiting
        for attempt in self._attempts.values():
            if attempt.delivery is not None:
                yield attempt.delivery
        yield from self._outbox.deliveries()

    def _give_back_waiting(self) -> None:
        self._forget_prepared()
        if self._waiting:
            waiting = list(self._waiting)
            self._waiting.clear()
            if len(self._given_back) > _REMEMBERED:
                self._given_back.clear()
            self._given_back.update(key_of(delivery.message) for delivery in waiting)
            self._set_credit()  # first, or they would come again at once
            if self._connected:
                self._transport.release(waiting)

    def _forget_prepared(self) -> None:
        if self._prepared:
            self._prepared.clear()
            self._runner.forget()

    def _settle(self) -> None:
        if self._to_settle:
            self._transport.settle(self._to_settle)
            self._to_settle = []
