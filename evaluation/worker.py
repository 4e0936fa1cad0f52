"""The worker: takes points, trains them in its slots, and sends back what came of them."""

from __future__ import annotations

import os
import selectors
import sys
import time
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from evaluation.backlog import Backlog
from evaluation.health import HealthMeter
from evaluation.life import Life
from evaluation.outbox import Outbox, SentResult, key_of
from evaluation.signals import ENOUGH, Signals
from evaluation.slot import SlotAttempt
from evaluation.standing import Standing
from evaluation.tally import Snapshot
from evaluation.trainings import Trainings
from hpo_steer.messages import BundleGone, BundlePart, Cancel, Pardon, Stop, Work
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

    from evaluation.checkpoints.keeper import Keeper
    from evaluation.resources.allotment import Allotment
    from evaluation.runners.base import Runner
    from evaluation.settings import WorkerSettings
    from evaluation.spool import Spool
    from evaluation.supply import Supply

TICK_S = 0.1
ADOPT_S = 10.0
_CONFIRM_S = 10.0
"""How long an ending worker waits until its results are confirmed."""
_UNKNOWN = -1
_SAVING, _GOODBYE = 0.6, 0.1
"""At SIGTERM: the share of the grace time that trainings have to save, and the one for the results at its end."""


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
        keeper: sees to checkpoints.
        say: told a sentence when something happens that people should know.
        show: told several times a second how things stand.
        supply: has the code at hand, if steering ships it.
        allotment: what it has of its machine; None: nothing of its own.

    Attributes:
        settings: as given.
    """

    def __init__(
        self,
        transport: WorkerEnd,
        runner: Runner,
        spool: Spool,
        settings: WorkerSettings,
        *,
        keeper: Keeper,
        say: Callable[[str], None] = _to_stderr,
        show: Callable[[Snapshot], None] | None = None,
        supply: Supply | None = None,
        allotment: Allotment | None = None,
    ) -> None:
        self._transport, self._runner, self.settings = transport, runner, settings
        self._say, self._show, self._supply, self._keeper = say, show, supply, keeper
        self._outbox = Outbox(transport, spool, settings, say)
        self._signals = Signals()
        self._selector = selectors.DefaultSelector()
        self._allotment = allotment
        self._life = Life(settings.terms, time.monotonic())
        memory = allotment.memory if allotment is not None else None
        self._trainings = Trainings(
            runner, self._outbox, settings, self._selector, keeper, say, self._life, memory
        )
        self._standing = Standing(
            self._life, self._signals, self._trainings, HealthMeter(settings.points), settings.slots
        )
        self._pace = self._trainings.pace
        self._backlog = Backlog()
        self._to_settle: list[Delivery[Work]] = []
        self._credit = _UNKNOWN
        self._connected = True
        self._released: str | None = None
        self._leave_by: float | None = None
        self._gave_up = False
        self._beat_at = self._tick_at = 0.0
        self._adopt_at = time.monotonic() + ADOPT_S

    # --- its life ---

    def run(self) -> bool:
        """Works until it is told to end.

        The first SIGINT (or `drain`) finishes what runs, the second ends it at once. SIGTERM has trainings saved and
        released, and ends within the grace time.

        Returns:
            Whether it ended in order, or steering did; False: at once, with trainings killed, as it was told to.

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
            self._keeper.close()
            self._transport.close()
            self._outbox.close()
            if self._allotment is not None:
                self._allotment.close()
            self._selector.close()

    def drain(self) -> None:
        """As a signal: takes no more points; called once more, it ends at once. From any thread."""
        self._signals.count()

    @property
    def hung(self) -> bool:
        """Whether a thread still waits for a place that does not answer."""
        return self._keeper.hung

    def _begin(self) -> None:
        self._selector.register(self._transport.fileno(), selectors.EVENT_READ, self._receive)
        self._selector.register(self._signals.fileno(), selectors.EVENT_READ, self._signals.clear)
        self._selector.register(self._keeper.fileno(), selectors.EVENT_READ, self._keeper.advance)
        if self._supply is not None:
            self._supply.open(self._outbox)
            self._selector.register(self._supply.fileno(), selectors.EVENT_READ, self._supply.advance)
        self._hello()
        self._outbox.adopt()
        self._runner.warm(self.settings.slots)
        self._beat_at = time.monotonic() + self.settings.heartbeat_s

    def _loop(self) -> None:
        told = False
        while not self._must_end():
            now = time.monotonic()
            closed = self._standing.closed(now)
            over = self._life.over(now) if self._trainings else None
            if self._leave_by is None and (self._signals.preempted or over):
                told = True
                self._start_releasing("SIGTERM" if self._signals.preempted else over or "")
            elif closed and not told:
                told = True
                self._start_draining()
            if self._leave_by is not None:
                if not self._trainings or now >= self._leave_by:
                    return
            elif not closed:
                told = False
            elif not self._trainings and not self._standing.stays(now):
                return
            self._set_credit()
            self._step()

    def _step(self) -> None:
        ticks = self._trainings or self._show or self._lacks_code
        until = min(self._beat_at, self._tick_at) if ticks else self._beat_at
        if self._standing.closing is None:
            until = min(until, self._life.wake)
        for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
            if isinstance(key.data, SlotAttempt):
                self._trainings.look_at(key.data)
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
        running = len(self._trainings)
        if not self._signals.number:
            still = f", {running} still running" if running else ""
            self._say(f"no more points are taken: {self._standing.closing}{still}")
        elif running:
            self._say(f"draining: {running} running; again to stop at once, they will be evaluated anew")

    def _start_releasing(self, why: str) -> None:
        """Has trainings saved, so that other workers carry on with them."""
        grace_s, now = self.settings.grace_s, time.monotonic()
        self._leave_by = now + (1.0 - _GOODBYE) * grace_s
        saved_by = now + (1.0 - 2 * _GOODBYE) * grace_s
        self._set_credit()
        self._give_back_waiting()
        if running := len(self._trainings):
            self._gave_up = True
            self._say(f"{why}: {running} running, saved and released within {grace_s:g} s")
        self._keeper.leave(saved_by)
        self._trainings.release(now + _SAVING * grace_s if self._keeper.travels else saved_by, why)

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
        goodbye = "preempted" if self._gave_up and self._signals.preempted else self._standing.goodbye
        self._outbox.bye(goodbye if orderly else "stopped")
        return orderly

    def _await_confirms(self) -> None:
        deadline = time.monotonic() + _CONFIRM_S
        if self._leave_by is not None:
            deadline = self._leave_by + 0.5 * _GOODBYE * self.settings.grace_s
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
                self._trainings.stop(incoming)
            case Cancel():
                self._on_cancel(incoming)
            case Pardon():
                if incoming.worker in (None, self.settings.id):
                    self._trainings.quarantine.pardon(lasting=incoming.lasting)
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
        if self._backlog.unwanted(work) or self._outbox.has_brought(work):
            self._to_settle.append(delivery)
        elif (attempt := self._trainings.get(key_of(work))) is not None:
            self._attach(attempt, delivery)
        elif (sent := self._outbox.knows(delivery)) is not None:
            if sent.spooled is not None or sent.delivery is not None:
                self._to_settle.append(delivery)
            else:
                sent.delivery = delivery
        elif self._standing.closed(time.monotonic()):
            self._transport.release([delivery])
        elif self._supply is not None and not self._supply.admits(work):
            self._without_code(self._supply, delivery)
        else:
            self._backlog.add(delivery)

    @property
    def _lacks_code(self) -> bool:
        return self._supply is not None and self._supply.busy

    def _without_code(self, supply: Supply, delivery: Delivery[Work]) -> None:
        """Gives a point back whose code is not here, and takes none until it is."""
        if supply.useless(delivery.message):
            self._to_settle.append(delivery)  # the present session has sent it anew
            return
        supply.fetch(delivery.message)
        self._backlog.giving_back(delivery)
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
            if token.valued:
                self._keeper.valued(token.key)
        elif isinstance(token, SlotAttempt) and self._trainings.get(key_of(token.work)) is token:
            if (delivery := self._trainings.confirmed(token)) is not None:
                self._to_settle.append(delivery)
            if token.handle is None:
                self._settle()
                self._trainings.train(token)

    def _on_cancel(self, cancel: Cancel) -> None:
        for delivery in self._backlog.cancel(cancel):
            self._trainings.unprepare(delivery.message)
            self._to_settle.append(delivery)

    def _on_disconnected(self, reason: str) -> None:
        """Work in hand goes to other workers; what is training goes on, its result is sent later."""
        self._connected = False
        self._say(f"disconnected: {reason}; trying again, trainings go on")
        self._trainings.disconnected()
        self._backlog.clear()
        self._to_settle.clear()
        self._outbox.lose_deliveries()

    def _on_connected(self) -> None:
        if not self._connected:
            self._say("connected again")
        self._connected = True
        self._credit = _UNKNOWN
        self._hello()

    # --- points that wait ---

    def _fill(self) -> None:
        """Gives waiting points to free slots."""
        while self._backlog and self._trainings.free and not self._standing.closed(time.monotonic()):
            delivery = self._backlog.next()
            twin = self._trainings.get(key_of(delivery.message))
            if twin is not None:  # the same message twice in one batch
                self._attach(twin, delivery)
            else:
                at_once = self._pace.short and not self._backlog.suspicious(delivery)
                self._trainings.begin(delivery, lease=not at_once)
        if not self._pace.short or self._trainings.quarantine.active:
            self._give_back_waiting()
        elif (
            self.settings.slots == 1 and self._backlog and self._pace.depth > 1 and self._trainings.all_train
        ):
            first = islice(self._backlog, self._pace.depth)
            # one that may have killed a worker needs its lease first
            self._trainings.foresee(list(takewhile(lambda each: not self._backlog.suspicious(each), first)))

    # --- from time to time ---

    def _tick(self, now: float) -> None:
        self._tick_at = now + TICK_S
        self._trainings.tick(now)
        self._keeper.tick(now)
        if self._supply is not None:
            self._supply.tick(now)
            self._beat_at = min(self._beat_at, now + (self._supply.heartbeat_s or self.settings.heartbeat_s))
        if self._show is not None:
            self._show(self.snapshot(now))
        if self._standing.news(now):
            self._beat_at = now

    def _beat(self, now: float) -> None:
        wanted_s = self._supply.heartbeat_s if self._supply is not None else None
        self._beat_at = now + min(self.settings.heartbeat_s, wanted_s or self.settings.heartbeat_s)
        running: dict[str, list[tuple[int, int]]] = {}
        for run, point, attempt in self._trainings.training():
            running.setdefault(run, []).append((point, attempt))
        gpus = self._allotment.gpu_use if self._allotment is not None else ()
        self._outbox.heartbeats(running, gpus, self._standing.health(now))
        if now >= self._adopt_at:
            self._adopt_at = now + ADOPT_S
            self._outbox.adopt()  # a neighbour may have died
        if self.settings.parent not in (None, os.getppid()) and not self._signals.number:
            self._say("steering, which has started this worker, is gone")
            self._signals.count()

    def _hello(self) -> None:
        self._outbox.hello([(point, attempt) for _, point, attempt in self._trainings.training()])

    def snapshot(self, now: float) -> Snapshot:
        """How the worker stands, at a monotonic time."""
        status, tally = self._transport.status(), self._trainings.tally
        return Snapshot(
            busy=len(self._trainings),
            slots=self.settings.slots,
            done=tally.done,
            failed=tally.failed,
            per_hour=tally.per_hour(now),
            spooled=self._outbox.spooled,
            connected=status.connected,
            blocked=status.blocked,
            trouble=status.trouble,
            draining=self._signals.number > 0,
            code=self._supply.status if self._supply is not None else None,
            note=self._standing.note(now),
        )

    # --- work in hand ---

    def _set_credit(self) -> None:
        """Says how many unsettled deliveries may be here; a slot that is busy attracts no more."""
        free = self._trainings.free
        if self._standing.closing is not None or self._lacks_code:
            wanted = 0
        elif self._pace.short and not self._trainings.quarantine.active:
            wanted = self.settings.slots + self._pace.ahead
        else:
            unsettled = sum(1 for _ in self._deliveries())
            wanted = free - len(self._backlog) + unsettled
        if wanted and (left := self._life.left(len(self._trainings))) is not None:
            begun = sum(1 for _ in self._deliveries()) - len(self._backlog)
            wanted = min(wanted, left + begun)
        if wanted != self._credit and self._connected:
            self._credit = wanted
            self._transport.set_credit(wanted)

    def _deliveries(self) -> Iterator[Delivery[Work]]:
        """Every unsettled one."""
        yield from self._backlog
        yield from self._trainings.deliveries()
        yield from self._outbox.deliveries()

    def _give_back_waiting(self) -> None:
        self._trainings.forget()
        if waiting := self._backlog.give_back():
            self._set_credit()  # first, or they would come again at once
            if self._connected:
                self._transport.release(waiting)

    def _settle(self) -> None:
        if self._to_settle:
            self._transport.settle(self._to_settle)
            self._to_settle = []
