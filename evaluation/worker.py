"""The worker: takes points, trains them in its slots, and sends back what came of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import signal
import socket
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.attempt import AttemptFolder
from evaluation.pace import OVERRUN_S, Pace
from evaluation.runners.base import Handle, Outcome, Runner, Task, failed
from evaluation.spool import Spool
from hpo_steer.errors import MalformedMessage
from hpo_steer.messages import (
    MAX_LOG_CHARS,
    Bye,
    Cancel,
    FailureInfo,
    Heartbeat,
    Hello,
    Report,
    Result,
    Started,
    Stop,
    Work,
)
from hpo_steer.transport.base import (
    Confirmed,
    Connected,
    Delivery,
    Disconnected,
    Released,
    WorkerEnd,
    WorkerIncoming,
)

TICK_S = 0.1
REPORTS_S = 0.3
STOP_GRACE_S = 10.0
"""How long a training may take to end by itself once steering has stopped it."""
_CONFIRM_S = 10.0
"""How long an ending worker waits until its results are confirmed."""
_REMEMBERED = 10_000
ANY_RUN = "*"

Key = tuple[str, int, int]
"""Run, point and attempt."""


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is told at its start.

    Attributes:
        experiment: name of the experiment.
        run: id of the run, where it is known.
        slots: how many points it evaluates at once.
        heartbeat_s: how often it gives a sign of life.
        points: folders of points, with their checkpoints, are made here.
        logs: logs of attempts are written here.
        host: the machine's name.
        id: the worker's.
    """

    experiment: str
    run: str | None
    slots: int
    heartbeat_s: float
    points: Path
    logs: Path
    host: str
    id: str


@dataclass(frozen=True)
class Snapshot:
    """How a worker stands, for people.

    Attributes:
        busy: slots in use.
        slots: how many there are.
        done: points evaluated.
        failed: points that failed.
        per_hour: points that ended an hour, of late.
        spooled: results on disk that are not confirmed.
        connected: messages can travel.
        detail: the connection in words; why it is blocked, where it is.
        draining: it takes no more points.
    """

    busy: int
    slots: int
    done: int
    failed: int
    per_hour: float
    spooled: int
    connected: bool
    detail: str
    draining: bool


def worker_id() -> tuple[str, str]:
    """The machine's name, and a new worker's id: ``host-pid-random``."""
    host = socket.gethostname() or "localhost"
    return host, f"{host[:100]}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass(eq=False)
class _Attempt:
    """A point in a slot. It is also the token of its `Started`.

    Attributes:
        work: the point.
        slot: where it runs.
        delivery: the work in hand, while it is unsettled.
        leased: `Started` was sent.
        confirmed: and confirmed.
        handle: its training; None before that begins.
        ending: the failure it will end with, where the worker is ending it.
        kill_by: when a training that was asked to stop is ended (monotonic).
    """

    work: Work
    slot: int
    delivery: Delivery[Work] | None
    folder: AttemptFolder
    leased: bool = False
    confirmed: bool = False
    handle: Handle | None = None
    fds: tuple[int, ...] = ()
    began: float = 0.0
    started_at: float = 0.0
    ending: FailureInfo | None = None
    asked: FailureInfo | None = None
    kill_by: float | None = None

    @property
    def key(self) -> Key:
        return self.work.run, self.work.point, self.work.attempt


@dataclass(eq=False)
class _Unconfirmed:
    """A result on its way: the token of its `Result`."""

    key: Key
    delivery: Delivery[Work] | None = None
    spooled: Path | None = None


@dataclass
class _Tally:
    done: int = 0
    failed: int = 0
    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=61))

    def per_hour(self, now: float) -> float:
        """Points an hour over the last ten minutes."""
        total = self.done + self.failed
        if not self.samples or now - self.samples[-1][0] >= 10:
            self.samples.append((now, total))
        since, before = self.samples[0]
        return 3600 * (total - before) / (now - since) if now > since else 0.0


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the worker's own messages


class Worker:
    """A worker's loop, in one thread.

    Args:
        transport: its end of the transport, not opened yet.
        runner: what trains.
        spool: keeps results until they are confirmed.
        settings: the rest.
        say: told a sentence when something happens that people should know.
        show: told several times a second how things stand.
    """

    def __init__(
        self,
        transport: WorkerEnd,
        runner: Runner,
        spool: Spool,
        settings: WorkerSettings,
        say: Callable[[str], None] = _to_stderr,
        show: Callable[[Snapshot], None] | None = None,
    ) -> None:
        self._transport, self._runner, self._spool = transport, runner, spool
        self._settings, self._say, self._show = settings, say, show
        self._run = settings.run or ANY_RUN
        self._pace = Pace(settings.slots)
        self._selector = selectors.DefaultSelector()
        self._free = list(range(settings.slots - 1, -1, -1))
        self._attempts: dict[Key, _Attempt] = {}
        self._waiting: deque[Delivery[Work]] = deque()
        self._unconfirmed: dict[Key, _Unconfirmed] = {}
        self._to_settle: list[Delivery[Work]] = []
        self._cancelled: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._tally = _Tally()
        self._credit = 0
        self._connected = True
        self._signals = 0
        self._released: str | None = None
        self._serial = 0

    # -- life ---------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Works until it is told to end.

        The first SIGTERM or SIGINT (or `drain`) finishes what runs, the second ends it at once.

        Returns:
            Whether it ended in order; False: at once, with trainings killed.

        Raises:
            BrokerError: the transport cannot be opened.
        """
        with self._listening_to_signals():
            self._transport.open()
            try:
                self._begin()
                self._loop()
                return self._leave()
            finally:
                self._runner.close()
                self._transport.close()
                self._tell_what_is_left()
                self._spool.close()
                self._selector.close()

    def drain(self) -> None:
        """Takes no more points; called once more, it ends at once."""
        self._signals += 1

    def _begin(self) -> None:
        self._selector.register(self._transport.fileno(), selectors.EVENT_READ, None)
        self._hello()
        for path, result in self._spool.adopt():
            self._send_result(result, _Unconfirmed((result.run, result.point, result.attempt), spooled=path))
        self._runner.warm(self._settings.slots)
        self._beat_at = time.monotonic() + self._settings.heartbeat_s
        self._tick_at = self._reports_at = 0.0

    def _loop(self) -> None:
        told = False
        while self._released is None and self._signals < 2:
            if self._signals and not told:
                told = True
                self._start_draining()
            if self._signals and not self._attempts:
                return
            self._set_credit()
            self._wait()

    def _wait(self) -> None:
        now = time.monotonic()
        until = min(self._beat_at, self._tick_at if self._attempts or self._show else self._beat_at)
        for key, _ in self._selector.select(max(0.0, until - now)):
            if isinstance(key.data, _Attempt):
                self._look_at(key.data)
            elif key.data == "signal":
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 1024)
            else:
                self._receive()
        self._fill()
        self._settle()
        now = time.monotonic()
        if now >= self._tick_at:
            self._tick(now)
        if now >= self._beat_at:
            self._beat(now)

    def _leave(self) -> bool:
        """Says goodbye; results that nobody has confirmed stay in the spool."""
        orderly = self._released is None and self._signals < 2
        if self._released is not None:
            self._say(f"ending: {self._released}")
        elif orderly:
            self._await_confirms()
        for attempt in list(self._attempts.values()):
            if attempt.handle is not None:
                attempt.handle.kill()
        held = [d for d in self._deliveries() if d is not None]
        if held and self._released is None and self._connected:
            self._transport.release(held)
        if self._released is None:
            self._publish(Bye(**self._envelope(), reason="drained" if orderly else "stopped"))
        return orderly or self._released is not None

    def _await_confirms(self) -> None:
        deadline = time.monotonic() + _CONFIRM_S
        while self._unconfirmed and self._released is None and self._signals < 2:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._selector.select(min(left, 0.2))
            self._receive()
            self._settle()

    def _tell_what_is_left(self) -> None:
        if left := len(self._spool):
            self._say(f"{left} {_results(left)} in {self._spool.folder}; the next worker here sends them")

    def _start_draining(self) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        if waiting and self._connected:
            self._transport.release(waiting)
        if running := len(self._attempts):
            self._say(f"draining: {running} running; again to stop at once, they will be evaluated anew")

    @contextlib.contextmanager
    def _listening_to_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM count up and wake the loop; SIGHUP ends at once, unless it is ignored (nohup)."""

        def count(number: int, _frame: object) -> None:
            self._signals += 2 if number == signal.SIGHUP else 1

        read_end, write_end = os.pipe()
        for fd in (read_end, write_end):
            os.set_blocking(fd, False)
        self._selector.register(read_end, selectors.EVENT_READ, "signal")
        before: dict[int, Any] = {}
        old_fd = None
        try:
            old_fd = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, count)
        except ValueError:  # not the main thread: whoever runs us calls `drain`
            pass
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if old_fd is not None:
                signal.set_wakeup_fd(old_fd)
            os.close(read_end)
            os.close(write_end)

    # -- what comes in ------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        for incoming in self._transport.receive():
            self._take(incoming)

    def _take(self, incoming: WorkerIncoming) -> None:
        match incoming:
            case Delivery():
                self._on_work(incoming)
            case Confirmed():
                self._on_confirmed(incoming)
            case Stop():
                self._on_stop(incoming)
            case Cancel():
                self._on_cancel(incoming)
            case Disconnected():
                self._on_disconnected(incoming)
            case Connected():
                self._connected = True
                self._credit = -1  # a new connection knows none
                self._say("connected again")
                self._hello()
            case Released():
                self._released = incoming.reason

    def _on_work(self, delivery: Delivery[Work]) -> None:
        work = delivery.message
        self._run = work.run
        key = (work.run, work.point, work.attempt)
        if (work.run, work.point) in self._cancelled:
            self._to_settle.append(delivery)
        elif (running := self._attempts.get(key)) is not None:
            self._attach(running, delivery)
        elif (sent := self._unconfirmed.get(key)) is not None:
            if sent.spooled is not None or sent.delivery is not None:
                self._to_settle.append(delivery)
            else:
                sent.delivery = delivery
        elif self._signals:
            self._transport.release([delivery])
        else:
            self._waiting.append(delivery)

    def _attach(self, attempt: _Attempt, delivery: Delivery[Work]) -> None:
        """The broker has sent an attempt again that is running here."""
        if attempt.confirmed or attempt.delivery is not None:
            self._to_settle.append(delivery)
        else:
            attempt.delivery = delivery

    def _on_confirmed(self, confirmed: Confirmed) -> None:
        for token in confirmed.tokens:
            if isinstance(token, _Unconfirmed):
                if self._unconfirmed.get(token.key) is token:
                    del self._unconfirmed[token.key]
                if token.delivery is not None:
                    self._to_settle.append(token.delivery)
                if token.spooled is not None:
                    self._spool.forget(token.spooled)
            elif isinstance(token, _Attempt) and self._attempts.get(token.key) is token:
                token.confirmed = True
                if token.delivery is not None:
                    self._to_settle.append(token.delivery)
                    token.delivery = None
                if token.handle is None:
                    self._settle()
                    self._train(token)

    def _on_stop(self, stop: Stop) -> None:
        attempt = self._attempts.get((stop.run, stop.point, stop.attempt))
        if attempt is None or attempt.asked is not None:
            return
        default = "steering has ended this attempt"
        attempt.asked = FailureInfo(kind=stop.kind, message=stop.reason or default)
        if attempt.handle is None:
            self._finish(attempt, Outcome(failure=attempt.asked))
            return
        attempt.kill_by = time.monotonic() + STOP_GRACE_S
        with contextlib.suppress(OSError):
            attempt.folder.ask_to_stop(attempt.asked.message)

    def _on_cancel(self, cancel: Cancel) -> None:
        for point in cancel.points:
            self._cancelled[cancel.run, point] = None
        while len(self._cancelled) > _REMEMBERED:
            self._cancelled.popitem(last=False)
        kept: deque[Delivery[Work]] = deque()
        for delivery in self._waiting:
            unwanted = (delivery.message.run, delivery.message.point) in self._cancelled
            (self._to_settle if unwanted else kept).append(delivery)
        self._waiting = kept

    def _on_disconnected(self, event: Disconnected) -> None:
        """Work in hand goes to other workers; what is training goes on, and its result is sent when that can be."""
        self._connected = False
        self._say(f"disconnected: {event.reason}; trying again, trainings go on")
        self._waiting.clear()
        self._to_settle.clear()
        for attempt in list(self._attempts.values()):
            attempt.delivery = None
            if attempt.handle is None:
                self._drop(attempt)
        for sent in self._unconfirmed.values():
            sent.delivery = None

    # -- one point ----------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Gives waiting points to free slots."""
        while self._waiting and self._free and not self._signals:
            delivery = self._waiting.popleft()
            work = delivery.message
            self._serial += 1
            folder = (
                f"{self._settings.points}/{work.point}/attempt-{work.attempt}-{os.getpid()}-{self._serial}"
            )
            attempt = _Attempt(work, self._free.pop(), delivery, AttemptFolder(folder))
            if attempt.key in self._attempts:  # the very same message twice in one batch
                self._free.append(attempt.slot)
                self._attach(self._attempts[attempt.key], delivery)
                continue
            self._attempts[attempt.key] = attempt
            if self._pace.short:
                self._train(attempt)
            else:
                self._lease(attempt)
        if self._waiting and not self._pace.short:
            self._give_back_waiting()

    def _lease(self, attempt: _Attempt) -> None:
        attempt.leased = True
        work = attempt.work
        event = Started(**self._envelope(work.run), point=work.point, attempt=work.attempt, slot=attempt.slot)
        self._transport.publish(event, attempt)

    def _train(self, attempt: _Attempt) -> None:
        work = attempt.work
        attempt.began, attempt.started_at = time.monotonic(), time.time()
        log = self._settings.logs / f"{work.point}-{work.attempt}.log"
        try:
            attempt.handle = self._runner.start(Task(work, attempt.slot, attempt.folder, log))
        except OSError as exc:
            self._finish(attempt, failed("error", f"the training cannot be started: {exc}"))
            return
        attempt.fds = attempt.handle.fds()
        for fd in attempt.fds:
            self._selector.register(fd, selectors.EVENT_READ, attempt)

    def _look_at(self, attempt: _Attempt) -> None:
        if attempt.handle is None or self._attempts.get(attempt.key) is not attempt:
            return
        outcome = attempt.handle.poll(time.monotonic())
        if outcome is not None:
            self._finish(attempt, _as_asked(attempt, outcome))

    def _finish(self, attempt: _Attempt, outcome: Outcome) -> None:
        """Sends the result: by way of the spool, unless the broker still holds the work."""
        duration_s = time.monotonic() - attempt.began if attempt.began else 0.0
        work, failure = attempt.work, outcome.failure
        if attempt.handle is not None:
            self._pass_on_reports(attempt)
            self._pace.ended(duration_s)
        result = Result(
            **self._envelope(work.run),
            point=work.point,
            attempt=work.attempt,
            slot=attempt.slot,
            metrics=None if outcome.metrics is None else dict(outcome.metrics),
            failure=failure,
            started_at=attempt.started_at or time.time(),
            duration_s=duration_s,
            log=attempt.handle.log_tail()[-MAX_LOG_CHARS:] if failure and attempt.handle else "",
        )
        self._drop(attempt)
        if failure is None:
            self._tally.done += 1
        else:
            self._tally.failed += 1
            self._say(
                f"point {work.point} failed: {failure.kind} (attempt {work.attempt}): {failure.message}"
            )
        sent = _Unconfirmed(attempt.key, attempt.delivery)
        if attempt.delivery is None:
            try:
                sent.spooled = self._spool.keep(result)
            except OSError as exc:
                self._say(f"warning: point {work.point}: its result cannot be written to the spool: {exc}")
        self._send_result(result, sent)

    def _send_result(self, result: Result, sent: _Unconfirmed) -> None:
        self._unconfirmed[sent.key] = sent
        try:
            self._transport.publish(result, sent)
        except MalformedMessage as exc:
            failure = FailureInfo(kind="error", message=f"its result cannot be sent: {exc}")
            self._transport.publish(
                result.model_copy(update={"metrics": None, "failure": failure, "log": ""}), sent
            )

    def _drop(self, attempt: _Attempt) -> None:
        """Frees an attempt's slot."""
        for fd in attempt.fds:
            self._selector.unregister(fd)
        attempt.fds = ()
        attempt.folder.remove()
        del self._attempts[attempt.key]
        self._free.append(attempt.slot)

    def _pass_on_reports(self, attempt: _Attempt) -> None:
        had = attempt.folder.bad_reports
        for line in attempt.folder.new_reports():
            self._publish(
                Report(
                    **self._envelope(attempt.work.run),
                    point=attempt.work.point,
                    attempt=attempt.work.attempt,
                    step=line.step,
                    metrics=line.metrics,
                )
            )
        if attempt.folder.bad_reports and not had:
            self._say(f"warning: point {attempt.work.point}: a report that cannot be read is left out")

    # -- from time to time --------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._tick_at = now + TICK_S
        with_reports = now >= self._reports_at
        if with_reports:
            self._reports_at = now + REPORTS_S
        for attempt in list(self._attempts.values()):
            if attempt.handle is not None:
                self._watch(attempt, now)
                if with_reports and attempt.key in self._attempts:
                    self._pass_on_reports(attempt)
        if self._show is not None:
            self._show(self.snapshot(now))

    def _watch(self, attempt: _Attempt, now: float) -> None:
        """Sees to an attempt's limits of time."""
        assert attempt.handle is not None  # noqa: S101 - as its caller has seen
        timeout_s = attempt.work.timeout_s
        running_s = now - attempt.began
        if running_s > OVERRUN_S and not attempt.leased:
            self._lease(attempt)
            self._pace.overran()
            self._give_back_waiting()
        if attempt.ending is None:
            if timeout_s is not None and running_s >= timeout_s:
                attempt.ending = FailureInfo(kind="timeout", message=f"no result within {timeout_s:g} s")
            elif attempt.kill_by is not None and now >= attempt.kill_by:
                attempt.ending = attempt.asked
            if attempt.ending is not None:
                attempt.handle.stop()
        self._look_at(attempt)

    def _give_back_waiting(self) -> None:
        if self._waiting and self._connected:
            self._set_credit()
            self._transport.release(list(self._waiting))
            self._waiting.clear()

    def _beat(self, now: float) -> None:
        self._beat_at = now + self._settings.heartbeat_s
        running: dict[str, list[tuple[int, int]]] = {}
        for attempt in self._attempts.values():
            if attempt.handle is not None:
                running.setdefault(attempt.work.run, []).append((attempt.work.point, attempt.work.attempt))
        for run, listed in (running or {self._run: []}).items():
            self._publish(
                Heartbeat(
                    **self._envelope(run),
                    running=listed,
                    slots=self._settings.slots,
                    spooled=len(self._spool),
                )
            )

    def _hello(self) -> None:
        running = [(a.work.point, a.work.attempt) for a in self._attempts.values() if a.handle is not None]
        self._publish(
            Hello(**self._envelope(), host=self._settings.host, slots=self._settings.slots, running=running)
        )

    # -- small things -------------------------------------------------------------------------------------------

    def snapshot(self, now: float) -> Snapshot:
        """How the worker stands."""
        status = self._transport.status()
        return Snapshot(
            busy=len(self._attempts),
            slots=self._settings.slots,
            done=self._tally.done,
            failed=self._tally.failed,
            per_hour=self._tally.per_hour(now),
            spooled=len(self._spool),
            connected=status.connected,
            detail=f"blocked: {status.blocked}" if status.blocked else status.detail,
            draining=self._signals > 0,
        )

    def _set_credit(self) -> None:
        """Says how many unsettled deliveries may be here; a busy slot whose delivery is settled attracts none."""
        if self._signals:
            wanted = 0
        elif self._pace.short:
            wanted = self._settings.slots + self._pace.ahead
        else:
            unsettled = sum(delivery is not None for delivery in self._deliveries())
            wanted = len(self._free) - len(self._waiting) + unsettled
        if wanted != self._credit and self._connected:
            self._credit = wanted
            self._transport.set_credit(wanted)

    def _deliveries(self) -> Iterable[Delivery[Work] | None]:
        yield from self._waiting
        yield from (attempt.delivery for attempt in self._attempts.values())
        yield from (sent.delivery for sent in self._unconfirmed.values())

    def _settle(self) -> None:
        if self._to_settle:
            self._transport.settle(self._to_settle)
            self._to_settle = []

    def _publish(self, event: Hello | Heartbeat | Report | Bye) -> None:
        with contextlib.suppress(MalformedMessage):
            self._transport.publish(event)

    def _envelope(self, run: str | None = None) -> dict[str, Any]:
        return {
            "experiment": self._settings.experiment,
            "run": run or self._run,
            "worker": self._settings.id,
            "at": time.time(),
        }


def _as_asked(attempt: _Attempt, outcome: Outcome) -> Outcome:
    """A training that was ended has the failure it was ended with, unless it had finished before it noticed."""
    if attempt.ending is not None:
        return Outcome(failure=attempt.ending)
    if attempt.asked is not None and outcome.failure is not None:
        return Outcome(failure=attempt.asked)
    return outcome


def _results(n: int) -> str:
    return "result stays" if n == 1 else "results stay"
