"""The points in a worker's slots: begun, watched, ended."""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from typing import TYPE_CHECKING, Any

from evaluation.attempt import AttemptFolder
from evaluation.outbox import Key, Outbox, key_of
from evaluation.pace import OVERRUN_S, Pace
from evaluation.quarantine import Quarantine
from evaluation.resources.memory import EVERY_S, MemoryWatch
from evaluation.runners.base import Handle, Outcome, Runner, Task, failed
from evaluation.slot import SlotAttempt
from evaluation.tally import Tally
from hpo_steer import faults
from hpo_steer.messages import MAX_LOG_CHARS, FailureInfo, Stop, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from evaluation.checkpoints.keeper import Keeper
    from evaluation.life import Life
    from evaluation.settings import WorkerSettings
    from hpo_steer.transport.base import Delivery

REPORTS_S = 0.3
TOGETHER_S = 1.0
"""A batch system ends all processes of a job, and the worker may hear of it last."""
STOP_GRACE_S = 10.0
"""How long a training may take to end by itself once steering has stopped it."""


class Trainings:
    """What runs in a worker's slots, and what was handed to a child to run next.

    Args:
        runner: what trains.
        outbox: where leases, reports and results go.
        settings: who the worker is, and where it keeps things.
        selector: told of what is to be waited for, with the `SlotAttempt` as its data.
        keeper: sees to checkpoints.
        say: told a sentence when something happens that people should know.
        life: told of every training that has ended.
        memory: sees to the trainings' bounds on memory; None: they have none.

    Attributes:
        pace: how long evaluations take of late.
        tally: what came of them.
        quarantine: the slots in which nothing is begun for a while.
    """

    def __init__(
        self,
        runner: Runner,
        outbox: Outbox,
        settings: WorkerSettings,
        selector: selectors.BaseSelector,
        keeper: Keeper,
        say: Callable[[str], None],
        life: Life,
        memory: MemoryWatch | None = None,
    ) -> None:
        self._memory = memory if memory is not None and memory.bounded else None
        self._runner, self._outbox, self._settings = runner, outbox, settings
        self._selector, self._keeper, self._say = selector, keeper, say
        self.pace = Pace(settings.slots)
        self.tally = Tally()
        self._life = life
        self.quarantine = Quarantine(settings.terms.rules, settings.slots)
        self._free = list(range(settings.slots - 1, -1, -1))
        self._attempts: dict[Key, SlotAttempt] = {}
        self._prepared: dict[Key, SlotAttempt] = {}
        self._serial = 0
        self._reports_at = self._memory_at = 0.0
        self._kill_by: float | None = None

    def __len__(self) -> int:
        """Slots in use."""
        return len(self._attempts)

    @property
    def free(self) -> int:
        """Slots that are not, and in which a point may be begun."""
        return len(self._usable)

    @property
    def _usable(self) -> list[int]:
        return self.quarantine.usable(self._free, time.monotonic(), busy=len(self._attempts))

    def get(self, key: Key) -> SlotAttempt | None:
        """The attempt in a slot, if it is there."""
        return self._attempts.get(key)

    def deliveries(self) -> Iterator[Delivery[Work]]:
        """Unsettled work of what is in the slots."""
        return (each.delivery for each in self._attempts.values() if each.delivery is not None)

    def training(self) -> Iterator[Key]:
        """The attempts whose training has begun, or whose checkpoint is on its way."""
        return (key for key, each in self._attempts.items() if each.handle is not None or each.fetching)

    @property
    def all_train(self) -> bool:
        """Whether no attempt awaits its lease: a child answers in the order in which it was handed them."""
        return all(attempt.handle is not None for attempt in self._attempts.values())

    # --- one point ---

    def begin(self, delivery: Delivery[Work], *, lease: bool) -> None:
        """Puts a point into a free slot.

        Args:
            delivery: its work.
            lease: take the lease first, and train once that is confirmed (see `confirmed`); else train at once.
        """
        work = delivery.message
        attempt = self._prepared.pop(key_of(work), None) or self._prepare(delivery)
        attempt.delivery = delivery
        attempt.slot = self._usable[-1]
        attempt.gpus = self._settings.gpus_of(attempt.slot)
        self._free.remove(attempt.slot)
        self._attempts[key_of(work)] = attempt
        faults.reached("worker.taken")
        if lease or self._keeper.wants(work):
            self._lease(attempt)
        else:
            self.train(attempt)

    def confirmed(self, attempt: SlotAttempt) -> Delivery[Work] | None:
        """The lease of an attempt is confirmed; `train` it next, if it has no handle.

        Returns:
            Its work, which can be settled now.
        """
        attempt.confirmed = True
        faults.reached("worker.leased")
        delivery, attempt.delivery = attempt.delivery, None
        return delivery

    def train(self, attempt: SlotAttempt) -> None:
        """Starts the training of an attempt, once its checkpoint is here."""
        if not attempt.fetching and self._keeper.wants(attempt.work):
            attempt.fetching = True
            self._keeper.bring(attempt.work, lambda: self._train(attempt))
        elif not attempt.fetching:
            self._train(attempt)

    def _train(self, attempt: SlotAttempt) -> None:
        attempt.fetching = False
        if self._attempts.get(key_of(attempt.work)) is not attempt:
            return
        attempt.began, attempt.started_at = time.monotonic(), time.time()
        try:
            attempt.handle = self._runner.start(self._task(attempt))
        except OSError as exc:
            self._keeper.drop(attempt.work)
            self._finish(attempt, failed("error", f"the training cannot be started: {exc}"))
            return
        faults.reached("worker.training")
        if attempt.leased:
            self._outbox.training(attempt.note(self._settings.id, attempt.handle))
        if attempt.handle.ready:
            self.look_at(attempt)
            if self._attempts.get(key_of(attempt.work)) is not attempt or attempt.saving is not None:
                return
        attempt.fds = attempt.handle.fds()
        for fd in attempt.fds:
            self._selector.register(fd, selectors.EVENT_READ, attempt)

    def look_at(self, attempt: SlotAttempt) -> None:
        """Sees whether an attempt has ended."""
        if attempt.handle is None or self._attempts.get(key_of(attempt.work)) is not attempt:
            return
        if attempt.saving is not None:
            return
        now = time.monotonic()
        outcome = attempt.handle.poll(now)
        if outcome is not None and outcome.terminated and attempt.asked is None and attempt.ending is None:
            attempt.saving, attempt.held_until = outcome, now + TOGETHER_S
            self._unwatch(attempt)
        elif outcome is not None:
            self._over(attempt, attempt.judge(outcome), outcome.rest)

    def _over(self, attempt: SlotAttempt, outcome: Outcome, rest: Callable[[], None] | None) -> None:
        """A training is over: its result goes out once its checkpoint is safe, and lies on the disk until then."""
        attempt.duration_s = time.monotonic() - attempt.began
        attempt.saving, attempt.held_until = outcome, None
        if not self._keeper.owes(attempt.work, rest):
            self._keeper.drop(attempt.work)
            self._finish(attempt, outcome)
            return
        self._unwatch(attempt)
        if outcome.metrics is not None and attempt.delivery is None:  # before a thread can meet its end
            self._outbox.hold(attempt.work, **_content(attempt, outcome))
        self._keeper.keep(attempt.work, rest, lambda: self._finish(attempt, outcome))

    def stop(self, stop: Stop) -> None:
        """Steering has stopped an attempt."""
        attempt = self._attempts.get((stop.run, stop.point, stop.attempt))
        if attempt is None or attempt.asked is not None or stop.worker not in (None, self._settings.id):
            return
        reason = stop.reason or "steering has ended this attempt"
        attempt.asked = FailureInfo(kind=stop.kind, message=reason)
        if attempt.handle is None:
            self._keeper.drop(attempt.work)
            self._finish(attempt, Outcome(failure=attempt.asked))
            return
        attempt.kill_by = time.monotonic() + STOP_GRACE_S
        with contextlib.suppress(OSError):
            attempt.folder.ask_to_stop(reason)

    def release(self, kill_by: float, why: str) -> None:
        """The worker has to leave: what trains is asked to save and end, what does not is released at once.

        Args:
            kill_by: when trainings that do not heed it are killed, by the monotonic clock.
            why: what makes it leave, for people.
        """
        self._kill_by = kill_by
        why = f"the worker has to leave ({why})"
        for attempt in list(self._attempts.values()):
            attempt.kill_by = kill_by if attempt.kill_by is None else min(attempt.kill_by, kill_by)
            if attempt.asked is None:
                attempt.asked = FailureInfo(kind="released", message=why)
            if attempt.handle is None:
                self._keeper.drop(attempt.work)
                self._finish(attempt, Outcome(failure=attempt.asked))
            elif attempt.held_until is not None and attempt.saving is not None:
                self._over(attempt, attempt.judge(attempt.saving), attempt.saving.rest)
            elif attempt.saving is None:
                with contextlib.suppress(OSError):
                    attempt.folder.ask_to_stop(why, preempted=attempt.asked.kind == "released")
                attempt.handle.preempt(max(kill_by - time.monotonic(), 0.0))

    def disconnected(self) -> None:
        """What is training goes on, its result is sent later; what was not begun goes to other workers."""
        self.forget()
        for attempt in list(self._attempts.values()):
            attempt.delivery = None
            if attempt.handle is None and not attempt.fetching:
                self._drop(attempt)

    def _lease(self, attempt: SlotAttempt) -> None:
        attempt.leased = True
        self._outbox.started(attempt.work, attempt.slot, attempt)
        faults.reached("worker.started")

    def _prepare(self, delivery: Delivery[Work]) -> SlotAttempt:
        work = delivery.message
        self._serial += 1
        name = f"attempt-{work.attempt}-{os.getpid()}-{self._serial}"
        return SlotAttempt(work, 0, AttemptFolder(f"{self._settings.points}/{work.point}/{name}"), delivery)

    def _task(self, attempt: SlotAttempt) -> Task:
        work = attempt.work
        log = self._settings.logs / f"{work.point}-{work.attempt}.log"
        return Task(work, attempt.slot, attempt.folder, log)

    def _finish(self, attempt: SlotAttempt, outcome: Outcome) -> None:
        """Frees the slot and sends the result."""
        work, failure, handle = attempt.work, outcome.failure, attempt.handle
        duration_s = attempt.duration_s if outcome.duration_s is None else outcome.duration_s
        if handle is not None:
            self._pass_on_reports(attempt)
            self.pace.ended(duration_s)
        faults.reached("worker.trained")
        self._drop(attempt)
        if attempt.began:
            self._life.ended(duration_s)
            if news := self.quarantine.ended(attempt.slot, failure, time.monotonic()):
                self._say(news)
        if failure is None:
            self.tally.done += 1
        elif failure.kind == "released":
            self._say(f"point {work.point} is released (attempt {work.attempt}): {failure.message}")
        else:
            self.tally.failed += 1
            self._say(
                f"point {work.point} failed: {failure.kind} (attempt {work.attempt}): {failure.message}"
            )
        self._outbox.result(work, attempt.delivery, **_content(attempt, outcome))
        if attempt.leased:
            self._outbox.trained(work)

    def _drop(self, attempt: SlotAttempt) -> None:
        """Frees an attempt's slot."""
        self._unwatch(attempt)
        attempt.folder.remove()
        del self._attempts[key_of(attempt.work)]
        self._free.append(attempt.slot)

    def _unwatch(self, attempt: SlotAttempt) -> None:
        for fd in attempt.fds:
            self._selector.unregister(fd)
        attempt.fds = ()

    def _pass_on_reports(self, attempt: SlotAttempt) -> None:
        had = attempt.folder.bad_reports
        for line in attempt.folder.new_reports():
            self._outbox.report(attempt.work, line)
        if attempt.folder.bad_reports and not had:
            self._say(f"warning: point {attempt.work.point}: a report that cannot be read is left out")

    # --- what is handed over beforehand ---

    def foresee(self, deliveries: Sequence[Delivery[Work]]) -> None:
        """Hands the next points to the child beforehand, so that it need not wait for each."""
        tasks = []
        for delivery in deliveries:
            if self._keeper.wants(delivery.message):  # it begins with its checkpoint
                break
            key = key_of(delivery.message)
            attempt = self._prepared.get(key)
            if attempt is None:
                attempt = self._prepared[key] = self._prepare(delivery)
            tasks.append(self._task(attempt))
        if tasks:
            self._runner.foresee(tasks)

    def unprepare(self, work: Work) -> None:
        """A point is not wanted any more: the child's answer to it, if it was handed over, is not waited for."""
        self._prepared.pop(key_of(work), None)

    def forget(self) -> None:
        """What was handed over beforehand is not begun here."""
        if self._prepared:
            self._prepared.clear()
            self._runner.forget()

    # --- from time to time ---

    def tick(self, now: float) -> None:
        """Passes on reports and sees to limits of time.

        Args:
            now: by the monotonic clock.
        """
        with_reports = now >= self._reports_at
        if with_reports:
            self._reports_at = now + REPORTS_S
        for attempt in list(self._attempts.values()):
            if attempt.handle is not None:
                if with_reports:
                    self._pass_on_reports(attempt)
                self._watch(attempt, attempt.handle, now)
        if self._memory is not None and now >= self._memory_at:
            self._memory_at = now + EVERY_S
            self._bound_memory(self._memory)

    def _bound_memory(self, memory: MemoryWatch) -> None:
        """Ends trainings that take more memory than their slots have; at once, or the machine may be next."""
        running = {
            attempt.slot: (attempt, attempt.handle)
            for attempt in self._attempts.values()
            if attempt.handle is not None and attempt.ending is None and attempt.saving is None
        }
        if not running:
            return
        for slot, message in memory.look({slot: handle.pid for slot, (_, handle) in running.items()}).items():
            attempt, handle = running[slot]
            attempt.ending = FailureInfo(kind="error", message=message)
            handle.kill()

    def _watch(self, attempt: SlotAttempt, handle: Handle, now: float) -> None:
        """Sees to an attempt's limits of time."""
        timeout_s = attempt.work.timeout_s
        running_s = now - attempt.began
        if running_s > OVERRUN_S and not attempt.leased:
            self._lease(attempt)
            self._outbox.training(attempt.note(self._settings.id, handle))
            self.pace.overran()
        if attempt.saving is not None:
            if attempt.held_until is not None and now >= attempt.held_until:
                self._over(attempt, attempt.judge(attempt.saving), attempt.saving.rest)
            return
        if attempt.ending is None:
            if timeout_s is not None and running_s >= timeout_s:
                attempt.ending = FailureInfo(kind="timeout", message=f"no result within {timeout_s:g} s")
            elif attempt.kill_by is not None and now >= attempt.kill_by:
                attempt.ending = attempt.asked
            if attempt.ending is not None:
                handle.stop()
        if self._kill_by is not None and now >= self._kill_by:
            handle.kill()
        self.look_at(attempt)


def _content(attempt: SlotAttempt, outcome: Outcome) -> dict[str, Any]:
    """What the result of an attempt says."""
    handle = attempt.handle
    return {
        "slot": attempt.slot,
        "gpus": attempt.gpus,
        "metrics": outcome.metrics,
        "failure": outcome.failure,
        "started_at": attempt.started_at or time.time(),
        "duration_s": attempt.duration_s if outcome.duration_s is None else outcome.duration_s,
        "load_s": outcome.load_s,
        "log": handle.log_tail()[-MAX_LOG_CHARS:] if outcome.failure and handle else "",
    }
