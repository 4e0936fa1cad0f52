"""Says why nothing moves, or not as fast as it could: one sentence that names the cause and what to do."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from hpo_steer.registry import algorithm_name
from steering.attempts import STREAK
from steering.words import duration, host_of, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpo_steer.algorithm import Failure
    from hpo_steer.transport.base import TransportStatus
    from steering.clock import Clock
    from steering.loop import SteeringLoop
    from steering.tuned import Tuned

_NO_WORKER_AFTER_S = 5.0
_ASKING_AFTER_S = 2.0
_IDLE_AFTER_S = 15.0
_BUSY_AFTER_S = 60.0
_SHOWN_CHARS = 100


class Watchdog:
    """Looks at a steering loop again and again, and remembers since when things are as they are.

    Args:
        loop: what it looks at.
        clock: the time.
        start: the command that starts a worker; None where steering starts them itself.
        words: what the last of the workers that steering starts itself has said; None: nothing.
    """

    def __init__(
        self,
        loop: SteeringLoop,
        clock: Clock,
        start: str | None = None,
        words: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._loop, self._clock, self._start, self._words = loop, clock, start, words
        self._cause: str | None = None
        self._moved = self._attended = clock.monotonic()
        self._since_time = clock.time()
        self._stood = (-1, 0, 0)

    @property
    def cause(self) -> str | None:
        """One word for why nothing moves, which stays the same while the sentence's figures change."""
        return self._cause

    def look(self, status: TransportStatus) -> str | None:
        """Looks once more.

        Args:
            status: how the transport stands.

        Returns:
            The sentence; None while points go on.
        """
        now = self._clock.monotonic()
        counts = self._loop.counts
        if self._loop.fleet.present():
            self._attended = now
        stands = (counts.ended, counts.running, len(self._loop.fleet.present()))
        if stands != self._stood:
            self._stood, self._moved = stands, now
        for cause, holds, sentence in self._causes(status, now):
            if holds:
                if cause != self._cause:
                    self._cause, self._since_time = cause, self._clock.time()
                return sentence()
        self._cause = None
        return None

    # ------------------------------------------------------------ what may be the matter

    def _causes(self, status: TransportStatus, now: float) -> Iterator[tuple[str, bool, Callable[[], str]]]:
        """What may be the matter, the gravest first: a word, whether it is so, and the sentence."""
        loop = self._loop
        counts, slots = loop.counts, loop.fleet.slots
        delayed = loop.attempts.delayed(now)[0]
        ready = counts.queued - delayed
        idle = counts.running < slots
        quiet_s = now - self._moved
        usual_s = 3 * (loop.attempts.typical_s or 0.0)
        asking = self._asking
        long_ask = asking is not None and now - asking.ask_began > _ASKING_AFTER_S
        alone = now - self._attended > _NO_WORKER_AFTER_S
        held = counts.running > 0 and idle and not counts.queued and self._held is not None
        yield "disconnected", not status.connected, partial(self._say_disconnected, status)
        yield "trouble", status.trouble is not None, lambda: f"waiting: {status.trouble}"
        yield "blocked", status.blocked is not None, partial(self._say_blocked, status)
        shut = ready > 0 and not counts.running
        yield "quarantined", shut and self._all("quarantined"), self._say_quarantined
        yield "ending", shut and self._all("quarantined", "waiting", "draining"), self._say_ending
        yield "failing", self._failing, self._say_failing
        yield "shipping", ready > 0 and self._shipping(now) is not None, lambda: self._shipping(now) or ""
        yield "unfit", ready > 0 and alone and self._lack is not None, self._say_unfit
        yield "workers", ready > 0 and alone, partial(self._say_no_workers, now)
        yield (
            "asking",
            long_ask and not ready and (idle or not counts.running),
            partial(self._say_asking, now),
        )
        yield (
            "delayed",
            delayed > 0 and not (ready or counts.running or asking),
            partial(self._say_delayed, now),
        )
        if not slots:
            return
        untaken = ready > 0 and not counts.running and quiet_s > max(_IDLE_AFTER_S, usual_s)
        yield "untaken", untaken, partial(self._say_untaken, now)
        busy = ready > 0 and not idle and quiet_s > max(_BUSY_AFTER_S, usual_s)
        yield "busy", busy, partial(self._say_busy, now)
        yield "trigger", held and quiet_s > _IDLE_AFTER_S, self._say_held

    def _all(self, *states: str) -> bool:
        """Whether there are workers, and each of them is in one of these states."""
        workers = self._loop.fleet.present()
        return bool(workers) and all(worker.state in states for worker in workers)

    @property
    def _failing(self) -> bool:
        streak = self._loop.attempts.streak
        return len(streak) >= STREAK and all(f.kind in {"error", "timeout"} for _, _, f in streak)

    @property
    def _lack(self) -> str | None:
        """What the largest machine of a worker lacks, if none has what a point asks for."""
        return self._loop.fleet.lacks(self._loop.experiment.evaluation.wants)

    def _shipping(self, now: float) -> str | None:
        """What workers say that lack the code, unless others are at work."""
        loop = self._loop
        if loop.shipping is None or loop.counts.running:
            return None
        return loop.shipping.waiting(now)

    @property
    def _asking(self) -> Tuned | None:
        """The model whose ask takes longest."""
        asking = [t for t in self._loop.models.values() if t.search.asking]
        return min(asking, key=lambda t: t.ask_began, default=None)

    @property
    def _held(self) -> Tuned | None:
        """A model whose next iteration awaits results of the current one."""
        return next(
            (t for t in self._loop.models.values() if t.search.stopped is None and not t.search.asking), None
        )

    # ------------------------------------------------------------ the sentences

    def _say_disconnected(self, status: TransportStatus) -> str:
        return (
            f"waiting: no connection to the broker ({status.detail}) since {self._clock_time()}; trying again. "
            "Trainings go on, and workers keep their results"
        )

    def _say_blocked(self, status: TransportStatus) -> str:
        return (
            f"waiting: RabbitMQ blocks publishers ({status.blocked}) since {self._clock_time()}; results that "
            "workers have are kept until it takes them"
        )

    def _clock_time(self) -> str:
        return time.strftime("%H:%M", time.localtime(self._since_time))

    def _say_failing(self) -> str:
        streak = self._loop.attempts.streak
        point, _, failure = streak[-1]
        return (
            f"stalled: the last {len(streak)} attempts failed {self._where} ({failure.kind}: {_first(failure)}). "
            f"Last lines: hpo-steer logs {point}; once it is mended: hpo-steer retry --failed"
        )

    @property
    def _where(self) -> str:
        """On which machine the last attempts failed, or on how many."""
        workers = {worker for _, worker, _ in self._loop.attempts.streak}
        hosts = sorted({host_of(worker) for worker in workers})
        where = f"on {hosts[0]}" if len(hosts) == 1 else f"on {len(hosts)} machines"
        shut = {worker.name for worker in self._loop.fleet.present() if worker.state == "quarantined"}
        return f"{where}, now quarantined" if workers and workers <= shut else where

    def _say_quarantined(self) -> str:
        workers, streak = self._loop.fleet.present(), self._loop.attempts.streak
        if streak:
            point, _, failure = streak[-1]
            text = f'{len(streak)} of the last {len(streak)} attempts failed with "{_first(failure)}" {self._where}'
            look = f" Last lines: hpo-steer logs {point}; once it is mended: hpo-steer retry --failed"
        else:
            hosts = sorted({worker.host for worker in workers})
            where = hosts[0] if len(hosts) == 1 else f"{len(hosts)} machines"
            health = workers[0].health
            text = f"all workers are quarantined, on {where}: {health.reason if health else ''}"
            look = ""
        return f"stalled: {text} (one point is tried there now and then).{look}"

    def _say_ending(self) -> str:
        worker = min(self._loop.fleet.present(), key=lambda each: each.state != "waiting")
        reason = worker.health.reason if worker.health is not None else ""
        queued = plural(self._loop.counts.queued, "point")
        return f"waiting: {queued} queued, and no worker takes one: {reason}"

    def _say_no_workers(self, now: float) -> str:
        experiment = self._loop.experiment.name
        said = self._words()
        starting = "; they are being started" if said is None else f"; the one here says: {said}"
        hint = f". Start one: {self._start}" if self._start else starting
        queued = plural(self._loop.counts.queued, "point")
        since = duration(now - self._attended)
        return f'waiting: {queued} queued, no worker is connected to "{experiment}" ({since}){hint}'

    def _say_unfit(self) -> str:
        first = min(point.record.id for point in self._loop.book.queued())
        return (
            f"waiting: point {first} {self._lack}, the largest of all workers so far. Start one on a machine that has "
            "more, or ask for less in another experiment"
        )

    def _say_asking(self, now: float) -> str:
        tuned = self._asking
        assert tuned is not None  # noqa: S101 - `_causes` has looked
        usual = f", last time {duration(tuned.last_ask_s)}" if tuned.last_ask_s else ""
        return (
            f"waiting: {self._algorithm(tuned)} is choosing {plural(tuned.search.wanted_at_ask, 'point')} "
            f"({duration(now - tuned.ask_began)} so far{usual})"
        )

    def _algorithm(self, tuned: Tuned) -> str:
        return algorithm_name(self._loop.experiment.algorithm_of(tuned.model))

    def _say_delayed(self, now: float) -> str:
        number, wait_s = self._loop.attempts.delayed(now)
        points = "1 point goes" if number == 1 else f"{number} points go"
        first = "" if number == 1 else ", the first"
        return f"waiting: {points} out again after a failed attempt{first} in {duration(wait_s)}"

    def _say_untaken(self, now: float) -> str:
        workers = self._loop.fleet.present()
        return (
            f"waiting: {plural(self._loop.counts.queued, 'point')} queued, and {plural(len(workers), 'worker')} "
            f"took none for {duration(now - self._moved)}: see what they say"
            + ("" if self._start else f" ({self._loop.experiment.name}/logs/worker-0.log)")
        )

    def _say_busy(self, now: float) -> str:
        running = self._loop.book.running()
        longest = min(running, key=lambda p: p.started)
        typical_s = self._loop.attempts.typical_s
        usual = f", the last one took {duration(typical_s)}" if typical_s else ""
        return (
            f"waiting: {'all slots are' if self._loop.fleet.slots > 1 else 'the slot is'} busy, point "
            f"{longest.record.id} for {duration(now - longest.started)}{usual}"
        )

    def _say_held(self) -> str:
        tuned, loop = self._held, self._loop
        assert tuned is not None  # noqa: S101 - `_causes` has looked
        search = tuned.search
        idle = loop.fleet.slots - loop.counts.running
        return (
            f"waiting: {plural(idle, 'slot')} idle until more of iteration {search.iterations} has ended "
            f"({search.current_ended}/{search.current_size}, the next starts at "
            f"{loop.experiment.steering.trigger}); a smaller trigger keeps more slots busy"
        )


def _first(failure: Failure) -> str:
    """The first line of a failure's message."""
    return failure.message.strip().partition("\n")[0][:_SHOWN_CHARS] or "no message"
