"""The loop and early stopping: reports decide, points end as pruned, and a killed steering goes on as it would have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_steer.messages import Stop
from steering.hosts import InProcessHost
from steering.store.opening import open_store
from tests.unit.steering.simulation import Bench, experiment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpo_steer.algorithm import Observation, Step
    from hpo_steer.messages import Work
    from steering.loop import SteeringLoop

ASHA = {"method": "asha", "min_steps": 1, "max_steps": 9}
FOUR = {"points_per_iteration": 4, "trigger": {"fraction": 1.0}, "max_points": 4}


class Listening(InProcessHost):
    """Keeps what an algorithm is told, and the histories it is restored from."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Observation] = []
        self.restored: list[Step] = []

    def tell(self, model: str, observations: Sequence[Observation]) -> None:
        self.told += observations
        super().tell(model, observations)

    def restore(self, model: str, history: Sequence[Step]) -> None:
        self.restored += history
        super().restore(model, history)


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for one in made:
        one.transport.close()
        one.store.close()


def bench(benches: list[Bench], **changes: Any) -> Bench:
    store = open_store("memory", "sim", create=True)
    store.lock("test")
    made = Bench(experiment(**({"pruning": ASHA, "steering": FOUR} | changes)), store)
    made.create()
    benches.append(made)
    return made


def begin(b: Bench, loop: SteeringLoop, count: int = 4) -> list[Work]:
    """So many workers each begin a point."""
    loop.step(0)
    works = [b.take() for _ in range(count)]
    for i, work in enumerate(works):
        b.start(work, f"host-{i}-a")
    loop.step(0)
    return works


def say(b: Bench, loop: SteeringLoop, works: Sequence[Work], step: int, *losses: float) -> list[Stop]:
    """Each reports a loss; the stops that follow."""
    for i, (work, loss) in enumerate(zip(works, losses, strict=True)):
        b.report(work, step, f"host-{i}-a", loss=loss)
    return heard(b, loop)


def heard(b: Bench, loop: SteeringLoop) -> list[Stop]:
    loop.step(0)
    stops = [each for each in b.transport.controls if isinstance(each, Stop)]
    b.transport.controls.clear()
    return stops


def warnings(b: Bench) -> list[str]:
    return [text for kind, text in b.notices if kind == "warning"]


def test_a_point_that_promises_little_is_stopped_and_told_with_its_curve(benches: list[Bench]) -> None:
    b = bench(benches)
    host = Listening()
    loop = b.loop(host)
    works = begin(b, loop)
    (stop,) = say(b, loop, works[:2], 1, 0.2, 0.7)
    assert (stop.point, stop.attempt, stop.kind) == (works[1].point, 1, "pruned")
    assert stop.reason == "step 1: loss 0.7 is not among the best 1 of the 2 points that have reached step 1"
    b.report(works[1], 2, "host-1-a", loss=0.6, accuracy=0.1)
    b.finish(works[1], kind="pruned", worker="host-1-a")
    loop.step(0)
    (point,) = b.store.points(ids=[works[1].point])
    assert (point.state, point.failure and point.failure.kind, point.attempts) == ("failed", "pruned", 1)
    (told,) = host.told
    assert told.failure is not None
    assert told.failure.kind == "pruned"
    assert told.curve == ((1, {"loss": 0.7}), (2, {"loss": 0.6, "accuracy": 0.1}))
    assert loop.counts == b.store.counts()
    assert loop.counts.failed == {"pruned": 1}
    assert [text for kind, text in b.notices if kind == "pruned"] == [f"point {works[1].point} pruned: x"]
    assert loop.attempts.streak == [], "it is no failure of the training's"
    loop.close()


def test_a_value_that_comes_all_the_same_counts(benches: list[Bench]) -> None:
    b = bench(benches)
    loop = b.loop()
    works = begin(b, loop)
    assert say(b, loop, works[:2], 1, 0.2, 0.7)
    b.finish(works[1], 0.65, worker="host-1-a")
    loop.step(0)
    assert b.store.points(ids=[works[1].point])[0].values == {"loss": 0.65}
    loop.close()


@pytest.mark.parametrize("how", ["error", "timeout", "lost", "left"])
def test_a_stopped_point_is_never_tried_again(benches: list[Bench], how: Any) -> None:
    b = bench(benches)
    loop = b.loop()
    works = begin(b, loop)
    (stop,) = say(b, loop, works[:2], 1, 0.2, 0.7)
    if how in ("error", "timeout"):
        b.finish(works[1], kind=how, worker="host-1-a")
    else:
        loop.attempts.forsake("host-1-a", "it has died", orderly=how == "left")
    loop.step(0)
    (point,) = b.store.points(ids=[works[1].point])
    assert point.failure is not None
    assert (point.failure.kind, point.failure.message) == ("pruned", stop.reason)
    assert b.store.attempts(point.id)[0].outcome == {"left": "lost"}.get(how, how), (
        "the attempt's row says what was"
    )
    assert not b.transport.work
    loop.close()


def test_a_stop_that_got_lost_is_said_again(benches: list[Bench]) -> None:
    b = bench(benches)
    loop = b.loop()
    works = begin(b, loop)
    assert len(say(b, loop, works[:2], 1, 0.2, 0.7)) == 1
    b.beat(works[1], worker="host-1-a")
    assert [stop.point for stop in heard(b, loop)] == [works[1].point]
    b.report(works[1], 2, "host-1-a", loss=0.1)
    assert [stop.point for stop in heard(b, loop)] == [works[1].point], "what it says later changes nothing"
    loop.close()


def test_a_killed_steering_has_decided_already(benches: list[Bench]) -> None:
    b = bench(benches)
    loop = b.loop()
    works = begin(b, loop)
    assert len(say(b, loop, works, 1, 0.7, 0.2, 0.6, 0.5)) == 2
    loop.close()  # killed before the messages went out
    loop = b.loop()
    assert sorted(stop.point for stop in heard(b, loop)) == [works[2].point, works[3].point], "0.7 came first"
    assert say(b, loop, works[:2], 3, 0.7, 0.8)[-1].point == works[1].point
    loop.close()


def test_without_workers_left_a_stopped_point_ends_at_the_next_start(benches: list[Bench]) -> None:
    b = bench(benches)
    loop = b.loop()
    works = begin(b, loop)
    say(b, loop, works[:2], 1, 0.2, 0.7)
    loop.close()
    host = Listening()
    loop = b.loop(host, workers_gone=True)
    assert [o.curve for o in host.told] == [((1, {"loss": 0.7}),)]
    assert works[1].point not in {work.point for work in b.transport.work}
    loop.close()


def test_the_next_attempt_starts_with_a_clean_slate(benches: list[Bench]) -> None:
    b = bench(benches)
    loop = b.loop()
    works = begin(b, loop)
    assert not say(b, loop, works[:1], 1, 0.9)
    b.report(works[0], 2, "host-0-a", loss=0.8)
    b.finish(works[0], kind="error", worker="host-0-a")
    loop.step(0)
    b.clock.now += 400
    loop.step(0)
    again = b.take()
    assert (again.point, again.attempt) == (works[0].point, 2)
    b.start(again, "host-9-a")
    b.report(again, 1, "host-9-a", loss=0.3)  # not backwards: another attempt
    b.report(works[0], 5, "host-0-a", loss=0.0)  # of the old one
    loop.step(0)
    assert warnings(b) == []
    assert say(b, loop, works[1:2], 1, 0.5) == [], "the one that says 0.5 is not host-0"
    b.report(works[1], 1, "host-1-a", loss=0.5)
    (stop,) = heard(b, loop)
    assert stop.point == works[1].point, "0.3 of the second attempt counts, not 0.9 of the first"
    loop.close()


def test_steps_that_go_back_or_repeat_are_ignored_with_one_warning(benches: list[Bench]) -> None:
    b = bench(benches)
    loop = b.loop()
    works = begin(b, loop)
    say(b, loop, works[:1], 2, 0.5)
    for step, loss in [(2, 0.5), (1, 0.4), (2, 0.3), (0, 0.1)]:  # the first is the same once more: no mistake
        say(b, loop, works[:1], step, loss)
    assert warnings(b) == [
        f"point {works[0].point} has reported step 1 after step 2; steps have to increase: ignored"
    ]
    assert [(r.step, r.metrics) for r in b.store.reports(works[0].point)] == [(2, {"loss": 0.5})]
    loop.close()


def test_reports_without_the_metric_decide_nothing_and_are_kept(benches: list[Bench]) -> None:
    b = bench(benches)
    loop = b.loop()
    works = begin(b, loop)
    say(b, loop, works[:1], 1, 0.2)
    for step in (1, 2, 3):
        b.report(works[1], step, "host-1-a", accuracy=0.1)  # a loss of NaN is left out where it is reported
        assert heard(b, loop) == []
    assert len(warnings(b)) == 1
    assert 'step 1 without a finite "loss", which pruning.metric wants; it has: accuracy' in warnings(b)[0]
    assert len(b.store.reports(works[1].point)) == 3
    b.report(works[1], 4, "host-1-a", loss=0.9)
    assert [stop.point for stop in heard(b, loop)] == [works[1].point]
    loop.close()


def test_of_two_workers_with_one_attempt_the_leaseholder_is_heard(benches: list[Bench]) -> None:
    b = bench(benches, pruning=None)
    loop = b.loop()
    works = begin(b, loop)
    say(b, loop, works[:1], 5, 0.5)
    b.start(works[0], "host-7-z")
    b.report(works[0], 1, "host-7-z", loss=0.4)
    loop.step(0)
    loop.attempts.forsake("host-0-a", "it has died")
    b.report(works[0], 2, "host-7-z", loss=0.3)
    loop.step(0)
    assert [r.step for r in b.store.reports(works[0].point)] == [2, 5]
    assert warnings(b) == []
    loop.close()


def test_a_restored_history_has_the_observations_that_were_told(benches: list[Bench]) -> None:
    b = bench(benches, steering={"points_per_iteration": 4, "trigger": {"fraction": 1.0}, "max_points": 8})
    host = Listening()
    loop = b.loop(host)
    works = begin(b, loop)
    say(b, loop, works, 1, 0.1, 0.2, 0.3, 0.4)
    for i, work in enumerate(works):
        if i:
            b.finish(work, kind="pruned", worker=f"host-{i}-a")
        else:
            b.finish(work, 0.1, worker="host-0-a")
    loop.step(0)
    assert len(b.transport.work) == 4, "the next iteration has been asked for"
    told = {o.point_id: o for o in host.told}
    loop.close()
    again = Listening()
    loop = b.loop(again)
    restored = {o.point_id: o for step in again.restored for o in getattr(step, "observations", ())}
    assert restored == told
    assert sum(o.curve is not None for o in told.values()) == 3
    loop.close()


def test_a_long_curve_is_told_thinned_out(benches: list[Bench]) -> None:
    b = bench(benches, pruning={"method": "threshold", "upper": 1.0})
    host = Listening()
    loop = b.loop(host)
    works = begin(b, loop)
    for step in range(2500):
        b.report(works[0], step, "host-0-a", loss=0.5)
    b.report(works[0], 2500, "host-0-a", loss=2.0)
    while b.transport.events:
        stops = heard(b, loop)
    assert len(stops) == 1
    b.finish(works[0], kind="pruned", worker="host-0-a")
    loop.step(0)
    (told,) = host.told
    assert told.curve is not None
    assert len(told.curve) == 1000
    assert (told.curve[0][0], told.curve[-1]) == (0, (2500, {"loss": 2.0}))
    loop.close()


def test_each_model_is_judged_by_itself(benches: list[Bench]) -> None:
    b = bench(
        benches,
        models=[{"name": "a"}, {"name": "b"}],
        steering={"points_per_iteration": 1, "max_points": 1, "trigger": {"fraction": 1.0}},
    )
    loop = b.loop()
    works = begin(b, loop, 2)
    assert {work.model for work in works} == {"a", "b"}
    assert say(b, loop, works, 1, 0.1, 0.9) == []
    loop.close()


# ---------------------------------------------------------------- killed anywhere


def run(losses: Sequence[float], kills: frozenset[int], rules: Any) -> list[Any]:
    """Eight points on four workers; steering is killed after the events numbered in `kills`.

    Returns:
        What became of each point.
    """
    made: list[Bench] = []
    b = bench(
        made,
        pruning=rules,
        steering={"points_per_iteration": 8, "max_points": 8, "trigger": {"fraction": 1.0}},
    )
    loop = b.loop()
    events = 0
    stopped: set[int] = set()

    def after() -> None:
        nonlocal loop, events
        events += 1
        stopped.update(stop.point for stop in heard(b, loop))
        if events in kills:
            loop.close()
            loop = b.loop()
            stopped.update(stop.point for stop in heard(b, loop))

    works = begin(b, loop, 8)
    at = dict.fromkeys(range(8), 0)
    while at:
        for i in list(at):
            at[i] += 1
            if works[i].point in stopped:
                b.finish(works[i], kind="pruned", worker=f"host-{i}-a")
                del at[i]
            elif at[i] == 5:
                b.finish(works[i], losses[i], worker=f"host-{i}-a")
                del at[i]
            else:
                b.report(works[i], at[i], f"host-{i}-a", loss=losses[i] + (i * at[i]) % 3 / 10)
            after()
    loop.close()
    found = [(p.state, p.values, [r.step for r in b.store.reports(p.id)]) for p in b.store.points()]
    b.transport.close()
    b.store.close()
    return found


@pytest.mark.parametrize(
    "rules", [ASHA, {"method": "median", "min_points": 2}, {"method": "hyperband", "max_steps": 9}]
)
@settings(max_examples=8, deadline=None)
@given(
    losses=st.lists(st.sampled_from([0.1, 0.2, 0.35, 0.5, 0.8]), min_size=8, max_size=8),
    kills=st.frozensets(st.integers(1, 40), max_size=4),
)
def test_killed_or_not_the_same_points_are_stopped(
    losses: list[float], kills: frozenset[int], rules: Any
) -> None:
    assert run(losses, kills, rules) == run(losses, frozenset(), rules)
