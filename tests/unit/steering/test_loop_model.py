"""Random schedules of everything that can happen to steering, with an observer who checks each step.

Without further ado some schedules run, always the same ones. ``HPO_STEER_SCHEDULES=5000`` runs so many, new ones each
time; Hypothesis prints how to repeat the one that failed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hpo_steer.errors import StoreError
from hpo_steer.messages import (
    Bye,
    Cancel,
    Echo,
    Event,
    FailureInfo,
    Heartbeat,
    Hello,
    Report,
    Result,
    Started,
    Stop,
)
from steering.store.opening import open_store
from tests.unit.steering.hazards import Fuse, HazardStore, HazardTransport, Killed, RecordingHost
from tests.unit.steering.loop_model import Job, Observer
from tests.unit.steering.quiet_run import QuietRun
from tests.unit.steering.simulation import RUN, Bench, experiment

if TYPE_CHECKING:
    from collections.abc import Callable

_SCHEDULES = os.environ.get("HPO_STEER_SCHEDULES")
_TRACED = {"class": "tests/unit/steering/traced.py:Traced"}
_WIDE = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
_NARROW = {
    "x": {"type": "categorical", "choices": [1.0, 2.0]},
    "y": {"type": "categorical", "choices": ["a", "b"]},
}
_TICK = 0.8
"""Of a heartbeat's time: how far the clock goes between two looks of steering."""
_PATIENCE = 600
_FIRST_STEADY = 1000
"""Above the process ids of all other workers."""

SEARCHES = [
    {"algorithm": _TRACED, "search_space": _WIDE},
    {"algorithm": _TRACED, "search_space": _NARROW},
    {"algorithm": "random", "search_space": _WIDE},
    {"algorithm": "random", "search_space": _NARROW},
    {"algorithm": "grid", "search_space": _NARROW},
]
TRIGGERS = [{"fraction": 0.5}, {"fraction": 1.0}, {"unevaluated_below": 2}, "top_up"]
STOPS: list[dict[str, Any]] = [
    {},
    {},
    {"target": 1.0},
    {"patience": 3},
    {"max_time_s": 60.0},
    {"max_iterations": 3},
]
OUTCOMES = [
    0,
    1,
    2,
    3,
    2,
    3,
    "missing",
    "error",
    "error",
    "invalid",
    "released",
    "timeout",
    "pruned",
    "cancelled",
]
STEADY: list[int | str] = [3, "error", 2, "error", "error", 1]

any_of = st.integers(0, 99)
maybe = st.booleans()
lasting = st.integers(1, 8)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """The sections of a small experiment."""
    heartbeat_s, lease_s = draw(st.sampled_from([(5.0, 10.0), (5.0, 10.0), (600.0, 3600.0)]))
    stop = draw(st.sampled_from(STOPS))
    most = {} if "max_iterations" in stop else {"max_points": draw(st.integers(3, 12))}
    return {
        **draw(st.sampled_from(SEARCHES)),
        "models": [{"name": n, "constants": {"c": i}} for i, n in enumerate("ab"[: draw(st.integers(1, 2))])],
        "steering": {
            "points_per_iteration": draw(st.integers(3, 4)),
            "trigger": draw(st.sampled_from(TRIGGERS)),
            "duplicates": draw(st.sampled_from(["reuse", "forbid", "replicate"])),
            **most,
            **stop,
        },
        "evaluation": {
            "function": "t.py:t",
            "workers": 0,
            "heartbeat_s": heartbeat_s,
            "lease_s": lease_s,
            "max_attempts": draw(st.integers(1, 3)),
            "max_lost": draw(st.sampled_from([1, 2, 3, 3])),
            "max_retries": draw(st.sampled_from([None, None, None, 0, 2])),
            "retry_delay_s": draw(st.sampled_from([0.0, 1.0, 30.0])),
        },
    }


@dataclass(eq=False)
class Worker:
    """One worker.

    Attributes:
        name: its id.
        silent: nothing of it arrives.
        outbox: what waits for better times.
    """

    name: str
    silent: bool = False
    outbox: list[Event] = field(default_factory=list)


class LoopMachine(RuleBasedStateMachine):
    """The real loop, searches, algorithms and store, between workers and a broker in Hypothesis' hands."""

    def __init__(self) -> None:
        super().__init__()
        self.path = list(sys.path)
        self.ready = self.draining = False
        self.workers: list[Worker] = []
        self.sent: list[Event] = []
        self.cancelled: set[int] = set()
        self.serial = self.hired = self.minded = self.ruled = self.successors = 0
        self.steady = ""
        self.passing: list[tuple[int, Callable[[], None]]] = []

    @initialize(
        config=configs(),
        slow=maybe,
        on_disk=st.sampled_from([False] * 15 + [True]),
        pace=st.sampled_from([2, 3, 4, 99]),
    )
    def begin(self, config: dict[str, Any], slow: bool, on_disk: bool, pace: int) -> None:
        self.config, self.slow, self.pace = config, slow, pace
        self.folder = tempfile.TemporaryDirectory() if on_disk else None
        self.fuse = Fuse()
        self.transport = HazardTransport(self.fuse)
        self.store = HazardStore(self._open_store(), self.fuse)
        self.bench = Bench(experiment(**config), self.store.face(), transport=self.transport)
        self.clock = self.bench.clock
        self.bench.create()
        self.observer = Observer(self.bench.experiment, self.store.face(), self.transport, self.clock)
        self.transport.witness = self.store.witness = self.observer
        self.jobs = self.observer.jobs
        self.tick_s = _TICK * self.bench.experiment.evaluation.heartbeat_s
        self.host = RecordingHost(slow=slow)
        self.loop = self.bench.loop(self.host)
        self.ready = True
        self.check()

    def _open_store(self) -> Any:
        store = open_store(Path(self.folder.name) if self.folder else "memory", "sim", create=True)
        store.lock("test")
        return store

    # ------------------------------------------------------------ steering

    def step(self) -> None:
        """Steering looks at what has come."""
        self.survive(lambda: self.loop.step(0))

    def survive(self, act: Callable[[], object]) -> None:
        """Steering does something; it may die of it, and another one takes over."""
        broken = bool(self.store.failures)
        try:
            act()
        except Killed:
            self.restart()
        except StoreError:
            assert broken
            self.restart()
        else:
            self.check()

    def check(self) -> None:
        self.observer.check(self.loop, self.host)
        self.observer.the_asks_are_those_in_the_store(self.loop, self.host)

    def restart(self, *, workers_gone: bool = False) -> None:
        """A new steering process takes the run up; it may die of that too."""
        self.draining = False
        while True:
            self.loop.close()
            if self.folder is not None:
                self.store.close()
                self.store.replace(self._open_store())
            self.store.failures = []
            self.host = RecordingHost(slow=self.slow)
            try:
                self.transport.discard_work()
                self.loop = self.bench.loop(self.host, workers_gone=workers_gone)
            except Killed:
                continue
            break
        self.check()

    def listen(self, now: bool) -> None:
        if now:
            self.step()

    def until(self, rules: int, then: Callable[[], None]) -> None:
        """Something stays so for some rules."""
        self.passing.append((self.ruled + rules, then))

    @invariant()
    def what_is_passing_passes(self) -> None:
        self.ruled += 1
        over = [then for until, then in self.passing if until <= self.ruled]
        self.passing = [each for each in self.passing if each[0] > self.ruled]
        for then in over:
            then()

    @invariant()
    def the_world_goes_on(self) -> None:
        """Between the rules somebody goes on evaluating, so that there is something to be broken."""
        if self.ruled % self.pace:
            return
        if self.host.thinking:
            self.host.release(self.host.thinking[0])
        steady = next((w for w in self.workers if w.name == self.steady), None)
        if (
            steady is None
        ):  # a new one, with an id of its own: last words of the old one may still be on their way
            self.successors += 1
            self.steady = f"farm-{_FIRST_STEADY + self.successors}-x"
            steady = Worker(self.steady)
            self.workers.append(steady)
        mine = self.of(steady)
        if mine and not mine[0].held:
            self.send_result(mine[0], STEADY[self.serial % len(STEADY)])
        elif not mine and not steady.silent and self.transport.work and self.take_work(steady, 0):
            self.send_start(self.of(steady)[0])
        self.step()

    # ------------------------------------------------------------ what workers do

    def worker(self, number: int) -> Worker:
        while len(self.workers) <= number:
            self.hired += 1
            self.workers.append(Worker(f"farm-{self.hired}-x"))
        return self.workers[number]

    def of(self, worker: Worker) -> list[Job]:
        return [job for job in self.jobs if job.worker == worker.name]

    def whose(self, job: Job) -> Worker:
        return next(w for w in self.workers if w.name == job.worker)

    def emit(self, worker: Worker, event: Event) -> None:
        (worker.outbox if worker.silent else self.transport.events).append(event)
        self.sent.append(event)

    def stamp(self, worker: str, job: Job | None = None) -> dict[str, Any]:
        stamp = {"experiment": "sim", "run": RUN, "worker": worker, "at": 0.0}
        return stamp if job is None else {**stamp, "point": job.work.point, "attempt": job.work.attempt}

    def running(self, worker: Worker) -> list[tuple[int, int]]:
        return [job.key for job in self.of(worker) if not job.held]

    def send_beat(self, worker: Worker) -> None:
        self.emit(worker, Heartbeat(**self.stamp(worker.name), running=self.running(worker)))

    def send_start(self, job: Job) -> None:
        job.held = False
        self.emit(self.whose(job), Started(**self.stamp(job.worker, job)))

    def send_result(self, job: Job, outcome: int | str) -> None:
        self.serial += 1
        ended: dict[str, Any]
        if isinstance(outcome, int):
            ended = {"metrics": {"loss": outcome + self.serial / 1000}}
        elif outcome == "missing":
            ended = {"metrics": {"other": 1.0}}
        else:
            ended = {"failure": FailureInfo(kind=outcome, message="x")}  # type: ignore[arg-type] # of OUTCOMES
        result = Result(**self.stamp(job.worker, job), started_at=0.0, duration_s=1.0, **ended)
        self.emit(self.whose(job), result)
        self.jobs.remove(job)

    def take_work(self, worker: Worker, which: int) -> Job | None:
        queue = self.transport.work
        work = queue.pop(which % len(queue))
        if work.point in self.cancelled:
            return None
        job = Job(work, worker.name)
        twice = [other for other in self.of(worker) if other.key == job.key]
        for other in [job, *twice] if twice else []:
            other.sound = False  # the worker contradicts itself
        self.jobs.append(job)
        return job

    def unplug(self, worker: Worker) -> None:
        """The broker notices that a worker is not there: what it had not acknowledged goes to others."""
        self.transport.work[:0] = [job.work for job in self.of(worker) if job.held]

    def doubt(self, *workers: str) -> None:
        for job in self.jobs:
            if job.worker in workers:
                job.sound = False

    def mind_controls(self) -> None:
        """Workers that steering reaches do what it says."""
        said, self.minded = self.transport.controls[self.minded :], len(self.transport.controls)
        for message in said:
            if isinstance(message, Cancel):
                self.cancelled |= set(message.points)
            elif isinstance(message, Stop):
                for job in list(self.jobs):
                    meant = message.worker in (None, job.worker) and not self.whose(job).silent
                    if meant and job.key == (message.point, message.attempt):
                        self.send_result(job, message.kind)

    # ------------------------------------------------------------ rules: evaluations

    @rule(who=st.integers(0, 2), n=st.integers(1, 5), outcome=st.sampled_from(OUTCOMES), now=maybe)
    def evaluate(self, who: int, n: int, outcome: int | str, now: bool) -> None:
        worker = self.worker(who)
        for _ in range(min(n, len(self.transport.work))):
            job = None if worker.silent else self.take_work(worker, 0)
            if job is not None:
                if now:
                    self.send_start(job)
                self.send_result(job, outcome)
        self.step()

    @rule(who=st.integers(0, 2), outcome=st.sampled_from(OUTCOMES), ticks=st.integers(0, 1))
    def train_one(self, who: int, outcome: int | str, ticks: int) -> None:
        worker = self.worker(who)
        if worker.silent or not self.transport.work:
            return
        job = self.take_work(worker, 0)
        if job is not None:
            self.send_start(job)
            self.pass_time(ticks)
            if job in self.jobs:
                self.send_result(job, outcome)
        self.step()

    @precondition(lambda self: self.transport.work)
    @rule(who=st.integers(0, 2), which=any_of, begins=maybe, now=maybe)
    def take(self, who: int, which: int, begins: bool, now: bool) -> None:
        worker = self.worker(who)
        job = None if worker.silent else self.take_work(worker, which)
        if job is not None and begins:
            self.send_start(job)
        self.listen(now)

    @precondition(lambda self: self.jobs)
    @rule(which=any_of, now=maybe)
    def start(self, which: int, now: bool) -> None:
        job = self.jobs[which % len(self.jobs)]
        if not job.held:
            self.emit(
                self.whose(job), Report(**self.stamp(job.worker, job), step=which, metrics={"loss": 1.0})
            )
        else:
            self.send_start(job)
        self.listen(now)

    @precondition(lambda self: self.jobs)
    @rule(which=any_of, outcome=st.sampled_from(OUTCOMES), now=maybe)
    def finish(self, which: int, outcome: int | str, now: bool) -> None:
        self.send_result(self.jobs[which % len(self.jobs)], outcome)
        self.listen(now)

    @precondition(lambda self: self.workers)
    @rule(who=any_of, again=maybe)
    def beat(self, who: int, again: bool) -> None:
        worker = self.workers[who % len(self.workers)]
        if again:
            hello = Hello(**self.stamp(worker.name), host="farm", slots=2, running=self.running(worker))
            self.emit(worker, hello)
        else:
            self.send_beat(worker)
        self.step()

    @rule()
    def obey(self) -> None:
        self.mind_controls()
        self.step()

    # ------------------------------------------------------------ rules: workers come and go

    @precondition(lambda self: self.workers)
    @rule(who=any_of, rules=lasting)
    def fall_silent(self, who: int, rules: int) -> None:
        worker = self.workers[who % len(self.workers)]
        if not worker.silent:
            self.doubt(worker.name)
            self.unplug(worker)
            worker.silent = True
            self.until(rules, lambda: self.wake(worker))

    def wake(self, worker: Worker) -> None:
        if worker in self.workers:
            self.transport.events += worker.outbox
            worker.outbox, worker.silent = [], False
            self.doubt(worker.name)
            self.send_beat(worker)

    @precondition(lambda self: self.workers)
    @rule(
        who=any_of,
        how=st.sampled_from(["unseen", "noticed", "inherited", "same id"]),
        now=maybe,
        ticks=st.sampled_from([0, 4]),
    )
    def die(self, who: int, how: str, now: bool, ticks: int) -> None:
        worker = self.workers.pop(who % len(self.workers))
        self.bury(worker, inherited=how in ("inherited", "same id"))
        if how == "same id":
            self.workers.append(Worker(worker.name))
        elif how == "noticed":
            self.observer.forsaken(worker.name)
            self.loop.forsake_process("farm", int(worker.name.split("-")[1]), "exit code 1")
        self.listen(now or how == "noticed")
        self.pass_time(ticks)

    def bury(self, worker: Worker, *, inherited: bool) -> None:
        """Its successor, if it has one, sends what lies on its disk, and says what it was training."""
        self.unplug(worker)
        jobs = self.of(worker)
        self.jobs[:] = [job for job in self.jobs if job not in jobs]
        if not inherited:
            return
        self.transport.events += [e for e in worker.outbox if isinstance(e, Result)]
        heir = Worker(worker.name)
        for job in jobs:
            if not job.held:
                lost = FailureInfo(kind="lost", message="")
                stamp = self.stamp(worker.name, job)
                self.emit(
                    heir, Result(**stamp, started_at=0.0, duration_s=0.0, failure=lost, log="last words")
                )

    @precondition(lambda self: self.workers)
    @rule(who=any_of, now=maybe)
    def say_bye(self, who: int, now: bool) -> None:
        worker = self.workers.pop(who % len(self.workers))
        self.unplug(worker)
        self.jobs[:] = [job for job in self.jobs if job.worker != worker.name]
        self.emit(worker, Bye(**self.stamp(worker.name), reason="enough"))
        self.transport.events += worker.outbox  # if it was silent, that was the last of it
        self.listen(now)

    # ------------------------------------------------------------ rules: the broker

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(1, 30), now=maybe)
    def deliver_again(self, back: int, now: bool) -> None:
        event = self.sent[-min(back, len(self.sent))]
        if isinstance(event, Bye) or (isinstance(event, Result) and event.failure is not None):
            self.doubt(event.worker)
        self.transport.events.append(event)
        self.listen(now)

    @precondition(lambda self: len(self.transport.events) > 1)
    @rule(one=any_of, other=any_of)
    def reorder(self, one: int, other: int) -> None:
        events = self.transport.events
        one, other = one % len(events), other % len(events)
        events[one], events[other] = events[other], events[one]
        self.doubt(*(event.worker for event in events if not isinstance(event, Echo)))

    @precondition(lambda self: self.transport.events)
    @rule(which=any_of)
    def lose_an_event(self, which: int) -> None:
        event = self.transport.events[which % len(self.transport.events)]
        if not isinstance(event, Result):
            self.transport.events.remove(event)
            if not isinstance(event, Echo):
                self.doubt(event.worker)

    @precondition(lambda self: self.transport.work)
    @rule(which=any_of, purge=maybe)
    def lose_work(self, which: int, purge: bool) -> None:
        queue = self.transport.work
        if purge:
            queue.clear()
        else:
            queue.pop(which % len(queue))

    @rule(rules=lasting, ticks=st.sampled_from([0, 0, 4]))
    def cut_the_connection(self, rules: int, ticks: int) -> None:
        self.transport.cut()
        self.until(rules, self.transport.mend)
        self.step()
        self.pass_time(ticks)

    @rule(rules=lasting)
    def raise_an_alarm(self, rules: int) -> None:
        self.transport.alarm = True
        self.until(rules, self.end_alarm)

    def end_alarm(self) -> None:
        self.transport.alarm = False
        self.transport.deliver()

    @rule(rules=lasting, ticks=st.sampled_from([0, 4, 8]))
    def hold_events_up(self, rules: int, ticks: int) -> None:
        """The broker's disk is busy: nothing gets into the events queue, and all else goes on."""
        self.transport.held_up = True
        self.until(rules, self.let_events_through)
        self.pass_time(ticks)

    def let_events_through(self) -> None:
        self.transport.held_up = False

    @rule(n=st.integers(0, 3))
    def step_partly(self, n: int) -> None:
        self.transport.partly = n
        self.step()
        self.transport.partly = None

    # ------------------------------------------------------------ rules: time

    def beat_all(self) -> None:
        for worker in self.workers:
            if not worker.silent:
                self.send_beat(worker)

    @rule(ticks=st.sampled_from([1, 1, 4, 8]))
    def pass_time(self, ticks: int) -> None:
        for _ in range(ticks):
            self.clock.now += self.tick_s
            self.beat_all()
            self.step()

    @rule(seconds=st.sampled_from([7.0, 600.0, 86400.0]))
    def stand_still(self, seconds: float) -> None:
        self.clock.now += seconds
        self.step()

    @rule(years=st.sampled_from([-20, -1, 1, 20]))
    def set_the_wall_clock(self, years: int) -> None:
        self.clock.wrong = years * 3.15e7

    # ------------------------------------------------------------ rules: steering

    @rule(away_s=st.sampled_from([0.0, 5.0, 7200.0]))
    def kill(self, away_s: float) -> None:
        self.clock.now += away_s
        self.restart()

    @rule(effect=st.integers(1, 12))
    def kill_at_an_effect_to_come(self, effect: int) -> None:
        self.fuse.left = effect

    @rule()
    def end_with_all_workers(self) -> None:
        """The transport is the local one: its workers die with steering."""
        for worker in self.workers:
            self.bury(worker, inherited=True)
        self.workers.clear()
        self.transport.work.clear()
        self.restart(workers_gone=True)

    @rule(times=st.integers(1, 3), passes=maybe)
    def break_the_store(self, times: int, passes: bool) -> None:
        self.store.failures = [passes] * times

    @precondition(lambda self: self.ready and self.host.thinking)
    @rule()
    def answer(self) -> None:
        self.host.release(self.host.thinking[0])
        self.step()

    @precondition(lambda self: self.ready and any(p.failure for p in self.observer.points.values()))
    @rule(which=any_of, n=st.integers(1, 3), now=maybe)
    def retry(self, which: int, n: int, now: bool) -> None:
        """Somebody has mended the training and wants failed points tried again."""
        failed = [p.id for p in self.observer.points.values() if p.failure is not None]
        chosen = [failed[(which + i) % len(failed)] for i in range(min(n, len(failed)))]
        self.observer.retried.update(chosen)
        self.survive(lambda: self.loop.retry(chosen))
        self.listen(now)

    @rule(rules=lasting)
    def drain(self, rules: int) -> None:
        try:
            self.loop.hold()
        except Killed:
            self.restart()
        else:
            self.draining = True
            self.until(rules, self.end_session)

    def end_session(self) -> None:
        if not self.draining:
            return
        with contextlib.suppress(Killed, StoreError):
            self.loop.finish(None)
        self.restart()

    # ------------------------------------------------------------ the end

    def teardown(self) -> None:
        try:
            if self.ready and sys.exception() is None:
                self.run_out()
        finally:
            sys.path[:] = self.path
            if self.ready:
                self.loop.close()
                self.transport.close()
                self.store.close()
                if self.folder is not None:
                    self.folder.cleanup()

    def run_out(self) -> None:
        """With healthy workers and nothing broken any more every search comes to its end, and to the right one."""
        self.fuse.left, self.store.failures, self.transport.alarm, self.passing = None, [], False, []
        self.transport.mend()
        self.transport.deliver()
        self.let_events_through()
        for worker in [w for w in self.workers if w.silent]:
            self.workers.remove(worker)
            self.bury(worker, inherited=False)
        if self.draining:
            self.end_session()
        for _ in range(_PATIENCE):
            self.evaluate_all()
            self.step()
            if self.loop.over:
                break
            self.clock.now += self.tick_s
        assert self.loop.over, f"it does not end: {self.store.points(states=['queued', 'running'])}"
        self.observer.every_point_has_ended_once()
        ends = [model.ended or "" for model in self.store.models()]
        if not self.observer.retried and not any(end.startswith("max_time_s") for end in ends):
            QuietRun(self.config, self.store.face(), slow=self.slow).compare()
        self.restart()
        assert self.loop.over
        assert not self.transport.work

    def evaluate_all(self) -> None:
        """Whatever there is to do is done at once."""
        for model in list(self.host.thinking):
            self.host.release(model)
        self.mind_controls()
        worker = self.worker(0)
        while self.transport.work:
            self.take_work(worker, 0)
        for job in list(self.jobs):
            self.send_result(job, 3)
        self.send_beat(worker)


_COMMON = settings(
    deadline=None,
    database=None,
    stateful_step_count=60,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
LoopMachine.TestCase.settings = (
    settings(_COMMON, max_examples=int(_SCHEDULES), derandomize=False)
    if _SCHEDULES
    else settings(_COMMON, max_examples=150, derandomize=True)
)


@pytest.mark.timeout(0 if _SCHEDULES else 900)  # finding the shortest schedule that fails takes minutes
class TestAnySchedule(LoopMachine.TestCase):  # type: ignore[valid-type,misc] # made by Hypothesis
    pass
