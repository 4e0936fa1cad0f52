"""Points chosen ahead where asks take long: as many as keep slots busy, and not one more."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_steer.algorithm import Told
from hpo_steer.config import Steering
from hpo_steer.messages import Bye, Hello, Work
from steering.book import steps
from steering.hosts import InProcessHost, Opening, Proposal, wait_opened
from steering.look_ahead import Spare, waiting
from steering.search import ModelSearch
from steering.store.opening import open_store
from tests.unit.steering.simulation import RUN, Bench, experiment
from tests.unit.steering.slow_host import SlowHost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from steering.loop import SteeringLoop

TRACED = {"class": "tests/unit/steering/traced.py:Traced"}


# ---------------------------------------------------------------- the length of the queue


def shortage(mean: float, queue: int) -> float:
    """How many points more than `queue` there are on average, where they are distributed as Poisson's."""
    counts = np.arange(400)
    logs = counts * math.log(mean) - mean - np.array([math.lgamma(k + 1) for k in counts])
    return float((np.exp(logs) * np.maximum(counts - queue, 0)).sum())


@given(meanwhile=st.floats(0.001, 100.0), slots=st.integers(1, 150))
def test_the_queue_is_as_short_as_can_be(meanwhile: float, slots: int) -> None:
    queue = waiting(meanwhile, slots)
    assert 0 <= queue <= slots
    if queue < slots:
        assert shortage(1.5 * meanwhile, queue) <= 0.01 * slots + 1e-6
    if queue and 1.5 * meanwhile < slots:
        assert shortage(1.5 * meanwhile, queue - 1) > 0.01 * slots - 1e-6


def test_what_ends_in_no_time_needs_no_queue() -> None:
    assert [waiting(0.0, slots) for slots in (0, 1, 256)] == [0, 0, 0]
    assert waiting(1e9, 8) == 8
    assert waiting(7.1, 256) > waiting(1.8, 64) > waiting(0.11, 4) > 0


@pytest.mark.parametrize(
    ("size", "unevaluated", "spare", "wanted"),
    [
        (8, 8, Spare(), 0),
        (8, 7, Spare(), 1),
        (8, 7, Spare(2, -1), 3),  # the successor, and two that wait
        (8, 9, Spare(2, 1), 1),
        (8, 10, Spare(2, 2), 0),
        (8, 10, Spare(1, 2), 0),  # asks have become quicker: those that are there are used up
        (8, 7, Spare(8, -1), 5),  # at most half of an iteration
        (8, 7, Spare(2, 3), 1),  # so much waits anyway
        (8, 7, Spare(2, -20), 3),  # slots that would be idle in any case make it no more
        (1, 1, Spare(1, 0), 0),  # one at a time means one at a time
        (1, 0, Spare(1, -1), 1),
    ],
)
def test_how_many_an_ask_is_for(size: int, unevaluated: int, spare: Spare, wanted: int) -> None:
    rules = Steering.model_validate({"points_per_iteration": size, "trigger": "top_up", "max_points": 1000})
    search = ModelSearch(rules, ())
    search.begin_iteration(50)
    for _ in range(50 - unevaluated):
        search.end_point(1, None)
    assert search.wanted(spare) == wanted


@pytest.mark.parametrize("trigger", [{"fraction": 0.5}, {"unevaluated_below": 2}])
def test_other_triggers_say_themselves_when_an_iteration_starts(trigger: dict[str, Any]) -> None:
    rules = Steering.model_validate({"points_per_iteration": 8, "trigger": trigger, "max_points": 1000})
    search = ModelSearch(rules, ())
    search.begin_iteration(8)
    search.end_point(1, None)
    assert search.wanted(Spare(4, -8)) == 0


# ---------------------------------------------------------------- through the loop


@dataclass
class Simulation:
    """An experiment whose trainings take a time each, and whose algorithm another.

    Attributes:
        bench: with its clock.
        ask_s: how long an ask takes; 0: the algorithm lives in the loop's process.
        out: the most points that had not ended, once the first sixteen had.
        idle_s: how long slots had no point since then, and
        slot_s: how long they were there.
    """

    bench: Bench
    ask_s: float
    out: int = 0
    idle_s: float = 0.0
    slot_s: float = 0.0
    free: list[str] = field(default_factory=list)
    running: list[tuple[float, int, str, Work]] = field(default_factory=list)
    ended: int = 0

    def begin(self) -> None:
        """A steering process begins."""
        clock = self.bench.clock
        self.host = SlowHost(clock, self.ask_s) if self.ask_s else InProcessHost()
        self.loop: SteeringLoop = self.bench.loop(self.host)

    def workers(self, first: int, up_to: int) -> None:
        """Workers of one slot each come."""
        for number in range(first, up_to):
            name = f"host-{number}-a"
            self.bench.transport.events.append(
                Hello(experiment="sim", run=RUN, worker=name, at=0.0, host="host", slots=1)
            )
            self.free.append(name)

    def leave(self, count: int) -> None:
        """Idle or not, workers go; what they trained goes out again."""
        for _ in range(count):
            name = self.free.pop() if self.free else self.running.pop()[2]
            heapq.heapify(self.running)
            self.bench.transport.events.append(
                Bye(experiment="sim", run=RUN, worker=name, at=0.0, reason="enough")
            )

    def run(self, seconds: float) -> None:
        """Lets time pass until then, or to the end of the search."""
        clock, transport = self.bench.clock, self.bench.transport
        until = clock.now + seconds
        while clock.now < until and not self.loop.over:
            self.loop.step(0)
            while self.free and transport.work:
                work, worker = self.bench.take(), self.free.pop()
                pace = np.random.default_rng(work.point).standard_normal()
                heapq.heappush(
                    self.running, (clock.now + 100.0 * math.exp(0.5 * pace), work.point, worker, work)
                )
                self.bench.start(work, worker)
            if transport.events:
                continue
            counts = self.loop.counts
            due = self.host.due if isinstance(self.host, SlowHost) else math.inf
            then = min(self.running[0][0] if self.running else math.inf, due, until)
            if self.ended >= 16:
                self.out = max(self.out, counts.queued + counts.running)
                self.idle_s += len(self.free) * (then - clock.now)
                self.slot_s += (len(self.free) + len(self.running)) * (then - clock.now)
            clock.now = max(then, clock.now)
            while self.running and self.running[0][0] <= clock.now:
                _, _, worker, work = heapq.heappop(self.running)
                self.ended += 1
                self.free.append(worker)
                self.bench.finish(work, loss=work.params["x"], worker=worker)

    @property
    def busy(self) -> float:
        return 1.0 - self.idle_s / self.slot_s

    def busy_for(self, seconds: float) -> float:
        """How busy the slots are from now on."""
        self.idle_s = self.slot_s = 0.0
        self.run(seconds)
        return self.busy

    def close(self) -> None:
        """Ends the loop, the transport and the store."""
        self.loop.close()
        self.bench.transport.close()
        self.bench.store.close()

    def replayed(self) -> bool:
        """Whether the algorithm proposes the recorded points again when asked and told as it is recorded."""
        store, model = self.bench.store, self.bench.experiment.models[0]
        host = InProcessHost()
        opened = self.bench.experiment
        host.open(
            Opening(
                model.name,
                opened.algorithm_of(model),
                opened.space(model),
                opened.goals,
                0,
                opened.constraints,
                Path(),
                opened.steering.duplicates,
            )
        )
        wait_opened(host, {model.name})
        for step, _ in steps(store.iterations(model.name), store.points(model=model.name), {}):
            if isinstance(step, Told):
                host.tell(model.name, step.observations)
                continue
            host.ask(model.name, step.n)
            (reply,) = host.replies()
            assert isinstance(reply, Proposal)
            if [p.params for p in reply.points] != [p.params for p in step.points]:
                return False
        return True


@pytest.fixture
def made() -> Iterator[list[Simulation]]:
    simulations: list[Simulation] = []
    yield simulations
    for each in simulations:
        each.close()


def simulation(
    made: list[Simulation], *, ask_s: float, slots: int, size: int, most: int = 10_000, **changes: Any
) -> Simulation:
    store = open_store("memory", "sim", create=True)
    store.lock("test")
    rules = {"points_per_iteration": size, "trigger": "top_up", "max_points": most}
    evaluation = {"function": "t.py:t", "workers": 0, "lease_s": 1e9}
    bench = Bench(experiment(**{"steering": rules, "evaluation": evaluation, **changes}), store)
    bench.create()
    new = Simulation(bench, ask_s)
    made.append(new)
    new.begin()
    new.workers(0, slots)
    return new


@pytest.mark.parametrize(
    ("ask_s", "slots", "most_ahead"), [(3.0, 4, 1), (3.0, 16, 2), (10.0, 4, 2), (10.0, 16, 6)]
)
def test_slots_stay_busy_while_an_algorithm_chooses(
    made: list[Simulation], ask_s: float, slots: int, most_ahead: int
) -> None:
    sim = simulation(made, ask_s=ask_s, slots=slots, size=slots)
    sim.run(1200)
    assert sim.busy > 0.97
    assert slots < sim.out <= slots + most_ahead
    assert sim.loop.chosen_ahead > 0


@pytest.mark.parametrize("ask_s", [0.0, 0.3])
def test_nothing_is_chosen_early_where_asks_are_quick(made: list[Simulation], ask_s: float) -> None:
    sim = simulation(made, ask_s=ask_s, slots=8, size=8)
    sim.run(1200)
    assert sim.out == 8
    assert sim.loop.chosen_ahead == 0
    assert sim.busy > 0.99


def test_nothing_is_chosen_early_where_one_at_a_time_is_asked_for(made: list[Simulation]) -> None:
    sim = simulation(made, ask_s=30.0, slots=1, size=1)
    sim.run(3000)
    assert sim.out == 1
    assert {i.told for i in sim.bench.store.iterations()} == set(range(len(sim.bench.store.iterations())))


def test_nothing_is_chosen_early_where_more_points_are_out_than_slots(made: list[Simulation]) -> None:
    sim = simulation(made, ask_s=10.0, slots=6, size=12)
    sim.run(1200)
    assert sim.out == 12
    assert sim.busy == 1.0


def test_many_models_that_share_the_slots_share_the_queue(made: list[Simulation]) -> None:
    models = [{"name": f"m{number}"} for number in range(8)]
    sim = simulation(made, ask_s=1.5, slots=8, size=2, models=models)
    sim.run(500)
    assert sim.out == 16
    assert sim.busy == 1.0
    sim.workers(8, 16)
    sim.run(200)
    assert sim.busy_for(800) > 0.97
    assert 16 < sim.out < 16 + 8  # not one for each model


def test_a_search_never_has_more_points_than_it_may(made: list[Simulation]) -> None:
    sim = simulation(made, ask_s=10.0, slots=8, size=8, most=101)
    sim.run(1e6)
    assert sim.loop.over
    assert sim.out > 8
    assert sim.bench.store.counts().total == 101


def test_workers_that_go_leave_no_growing_queue(made: list[Simulation]) -> None:
    sim = simulation(made, ask_s=10.0, slots=12, size=12)
    sim.run(600)
    sim.leave(8)
    sim.run(250)  # what was chosen ahead is used up
    assert sim.out > 12
    sim.out = 0
    sim.run(500)
    assert sim.out == 12
    sim.workers(12, 20)
    sim.run(400)
    assert sim.busy_for(600) > 0.97
    assert sim.out > 12


@settings(max_examples=6, deadline=None)
@given(lives=st.lists(st.floats(1.0, 400.0), min_size=1, max_size=4))
def test_a_run_with_early_points_is_replayed_however_often_steering_was_killed(lives: list[float]) -> None:
    made: list[Simulation] = []
    sim = simulation(made, ask_s=10.0, slots=6, size=6, most=60, algorithm=TRACED)
    try:
        for seconds in lives:
            sim.run(seconds)
            sim.loop.close()
            sim.begin()
            sim.bench.transport.work[:] = [
                work
                for work in sim.bench.transport.work
                if work.point not in {each[1] for each in sim.running}
            ]
        sim.run(1e6)
        assert sim.loop.over
        assert sim.bench.store.counts().done == 60
        assert max(i.wanted for i in sim.bench.store.iterations()) > 1
        assert sim.replayed()
    finally:
        sim.close()
