from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpo_steer.algorithm import FailureKind
from hpo_steer.messages import Bye, Cancel, Echo, Stop
from steering.store.opening import open_store
from tests.unit.steering.simulation import Bench, experiment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from steering.loop import SteeringLoop


def bench(**changes: Any) -> Bench:
    store = open_store("memory", "sim", create=True)
    store.lock("test")
    made = Bench(experiment(**changes), store)
    made.create()
    return made


@pytest.fixture
def closing() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for one in made:
        one.transport.close()
        one.store.close()


ONE_POINT = {
    "x": {"type": "categorical", "choices": [1.0, 2.0]},
    "y": {"type": "categorical", "choices": ["a"]},
}
"""`Constant` proposes always the same one of these."""
EXPIRED_S = 67
"""After so long without a heartbeat a lease has expired: `lease_s`, the way of an echo, and some steps."""


def new(closing: list[Bench], **changes: Any) -> tuple[Bench, SteeringLoop]:
    made = bench(**changes)
    closing.append(made)
    return made, made.loop()


def pass_time(b: Bench, loop: SteeringLoop, seconds: int) -> None:
    """Steering listens all the while."""
    for _ in range(seconds):
        b.clock.now += 1
        loop.step(0)


def run_all(b: Bench, loop: SteeringLoop, most: int = 500) -> None:
    for _ in range(most):
        if loop.over:
            return
        while b.transport.work:
            work = b.take()
            b.finish(work, loss=work.params["x"])
        loop.step(0)
    raise AssertionError("the search does not end")


def test_next_iteration_starts_at_the_fraction(closing: list[Bench]) -> None:
    b, loop = new(closing)
    works = [b.take() for _ in range(4)]
    assert not b.transport.work
    b.finish(works[2], loss=0.5)
    loop.step(0)
    assert not b.transport.work
    b.finish(works[0], loss=0.5)
    loop.step(0)
    assert [w.iteration for w in b.transport.work] == [2, 2, 2, 2]
    assert [w.point for w in b.transport.work] == [5, 6, 7, 8]


def test_counts_equal_the_store(closing: list[Bench]) -> None:
    b, loop = new(closing)
    first, second, third = b.take(), b.take(), b.take()
    b.start(first)
    b.finish(second, loss=1.0)
    b.finish(third, kind="invalid")
    loop.step(0)
    assert loop.counts == b.store.counts()
    assert (loop.counts.running, loop.counts.done, loop.counts.failed) == (1, 1, {"invalid": 1})


def test_unevaluated_below(closing: list[Bench]) -> None:
    b, loop = new(
        closing, steering={"points_per_iteration": 5, "trigger": {"unevaluated_below": 2}, "max_points": 50}
    )
    works = [b.take() for _ in range(5)]
    for work in works[:3]:
        b.finish(work, loss=1.0)
    loop.step(0)
    assert not b.transport.work  # two are unevaluated
    b.finish(works[3], loss=1.0)
    loop.step(0)
    assert len(b.transport.work) == 3  # points per iteration minus the bound


def test_top_up_keeps_the_number_out(closing: list[Bench]) -> None:
    b, loop = new(closing, steering={"points_per_iteration": 3, "trigger": "top_up", "max_points": 7})
    for done in range(7):
        assert len(b.transport.work) == min(3, 7 - done)
        b.finish(b.take(), loss=1.0)
        loop.step(0)
    assert loop.over


@pytest.mark.parametrize(
    ("rules", "reason", "points"),
    [
        ({"max_points": 10}, "max_points (10) reached", 10),
        ({"max_iterations": 2}, "max_iterations (2) reached", 8),
        ({"target": 2.0, "max_points": 100}, "target reached: loss", None),
        ({"patience": 1, "max_points": 100}, "patience: no better point in the last 1", None),
    ],
)
def test_stop_rules(closing: list[Bench], rules: dict[str, Any], reason: str, points: int | None) -> None:
    b, loop = new(closing, steering={"points_per_iteration": 4, "trigger": {"fraction": 0.5}, **rules})
    run_all(b, loop)
    (model,) = b.store.models()
    assert model.ended is not None
    assert model.ended.startswith(reason)
    assert b.store.counts().queued == b.store.counts().running == 0
    if points is not None:
        assert b.store.counts().total == points


def test_max_time_cancels_what_nobody_has_begun_and_awaits_the_rest(closing: list[Bench]) -> None:
    b, loop = new(closing, steering={"points_per_iteration": 4, "max_time_s": 100.0})
    running = b.take()
    b.start(running)
    loop.step(0)
    b.clock.now += 101
    b.beat(running)
    loop.step(0)
    assert not loop.over
    assert any(isinstance(c, Cancel) and len(c.points) == 3 for c in b.transport.controls)
    b.finish(running, loss=0.1)
    loop.step(0)
    assert loop.over
    counts = b.store.counts()
    assert (counts.done, counts.failed) == (1, {"cancelled": 3})


def test_a_lease_without_heartbeats_expires_and_the_late_result_is_welcome(closing: list[Bench]) -> None:
    b, loop = new(closing)
    work = b.take()
    b.start(work)
    loop.step(0)
    b.clock.now += 50
    b.beat(work)
    loop.step(0)
    pass_time(b, loop, 50)
    assert loop.counts.running == 1
    pass_time(b, loop, EXPIRED_S)
    again = b.transport.work[-1]
    assert (again.point, again.attempt) == (work.point, 2)
    b.finish(work, loss=0.25)
    loop.step(0)
    (point,) = b.store.points(ids=[work.point])
    assert (point.state, point.values, point.lost) == ("done", {"loss": 0.25}, 1)
    b.finish(again, loss=0.75)  # the second result of a point is counted and dropped
    loop.step(0)
    (point,) = b.store.points(ids=[work.point])
    assert point.values == {"loss": 0.25}
    assert loop.attempts.dropped == 1


def test_lease_clocks_stand_still_while_the_broker_is_away(closing: list[Bench]) -> None:
    b, loop = new(closing)
    work = b.take()
    b.start(work)
    loop.step(0)
    b.cut()
    loop.step(0)
    pass_time(b, loop, 1000)
    b.mend()
    loop.step(0)
    pass_time(b, loop, 30)
    assert loop.counts.running == 1


@pytest.mark.parametrize("held_up_s", [7, 59, 61, 1000])
def test_silence_counts_only_as_far_as_it_was_listened_to(closing: list[Bench], held_up_s: int) -> None:
    """The broker's disk is busy, say: heartbeats wait in front of the queue, while all else goes on."""
    b, loop = new(closing)
    work = b.take()
    b.start(work)
    loop.step(0)
    pass_time(b, loop, 4)
    b.transport.held_up = True
    for second in range(held_up_s):
        pass_time(b, loop, 1)
        if second % 5 == 0:
            b.beat(work)
    b.transport.held_up = False
    pass_time(b, loop, 8)
    assert loop.counts.running == 1
    pass_time(b, loop, EXPIRED_S)
    assert loop.counts.running == 0


def test_an_echo_that_was_lost_or_came_twice_changes_nothing(closing: list[Bench]) -> None:
    b, loop = new(closing)
    work = b.take()
    b.start(work)
    loop.step(0)
    pass_time(b, loop, 30)
    echoes = [e for e in b.transport.seen if isinstance(e, Echo)]
    assert len(echoes) >= 5
    b.transport.events += echoes
    b.beat(work)
    for _ in range(30):
        b.clock.now += 1
        b.transport.events = [e for e in b.transport.events if not isinstance(e, Echo)]
        loop.step(0)
    assert loop.counts.running == 1
    pass_time(b, loop, EXPIRED_S)
    assert loop.counts.running == 0


@pytest.mark.parametrize("when_s", [0, 3, 6, 9])
def test_a_point_that_was_just_taken_has_not_vanished(closing: list[Bench], when_s: int) -> None:
    """The queue is empty and its `started` is on the way: nothing goes out again, whenever steering looks."""
    b, loop = new(closing)
    for _ in range(20):
        pass_time(b, loop, 5)
        b.beat()
    pass_time(b, loop, when_s)
    works = [b.take() for _ in range(4)]
    pass_time(b, loop, 8)
    for work in works:
        b.start(work)
    pass_time(b, loop, 25)
    assert not b.transport.work
    assert loop.counts.running == 4


def test_errors_are_tried_again_and_then_told(closing: list[Bench]) -> None:
    b, loop = new(closing)
    point = b.transport.work[0].point
    for attempt in (1, 2, 3):
        work = next(w for w in b.transport.work if w.point == point)
        b.transport.work.remove(work)
        assert work.attempt == attempt
        b.start(work)
        b.finish(work, kind="error")
        loop.step(0)
        assert all(w.point != point for w in b.transport.work)  # it waits a while
        pass_time(b, loop, 2)
    (record,) = b.store.points(ids=[point])
    assert record.state == "failed"
    assert record.failure is not None
    assert record.failure.kind == "error"
    assert [a.outcome for a in b.store.attempts(point)] == ["error", "error", "error"]


@pytest.mark.parametrize("kind", ["invalid", "timeout"])
def test_what_would_fail_again_is_not_tried_again(closing: list[Bench], kind: FailureKind) -> None:
    b, loop = new(closing)
    work = b.take()
    b.finish(work, kind=kind)
    loop.step(0)
    assert b.store.counts().failed == {kind: 1}


def test_a_point_that_keeps_losing_its_worker_is_set_aside(closing: list[Bench]) -> None:
    b, loop = new(closing, evaluation={"function": "t.py:t", "workers": 0, "max_lost": 3})
    point = b.transport.work[0].point
    for _ in range(3):
        work = next(w for w in b.transport.work if w.point == point)
        b.transport.work.remove(work)
        b.start(work)
        loop.step(0)
        pass_time(b, loop, EXPIRED_S)
    assert b.store.counts().failed == {"lost": 1}


def test_a_second_worker_with_the_same_attempt_is_stopped(closing: list[Bench]) -> None:
    b, loop = new(closing)
    work = b.take()
    b.start(work, worker="host-1-a")
    b.start(work, worker="host-2-b")
    loop.step(0)
    assert not b.transport.controls  # the first may have died before it acknowledged the work
    b.beat(work, worker="host-2-b")
    b.beat(work, worker="host-1-a")
    loop.step(0)
    (stop,) = b.transport.controls
    assert isinstance(stop, Stop)
    assert stop.worker == "host-2-b"


def test_a_second_worker_with_the_same_attempt_goes_on_if_the_first_is_gone(closing: list[Bench]) -> None:
    b, loop = new(closing)
    work = b.take()
    b.start(work, worker="host-1-a")
    loop.step(0)
    b.start(work, worker="host-2-b")
    loop.step(0)
    loop.forsake_process("host", 1, "signal 9")
    loop.step(0)
    (record,) = b.store.points(ids=[work.point])
    assert (record.state, record.attempts, record.lost) == ("running", 1, 0)
    assert [a.worker for a in b.store.attempts(work.point)] == ["host-2-b"]
    assert not b.transport.controls
    for _ in range(4):
        b.beat(work, worker="host-2-b")
        pass_time(b, loop, 30)
    b.finish(work, loss=0.5, worker="host-2-b")
    loop.step(0)
    assert loop.counts.done == 1


def test_a_result_without_the_objective_is_an_error_that_says_so(closing: list[Bench]) -> None:
    b, loop = new(
        closing, objectives={"auc": "maximize"}, evaluation={"function": "t.py:t", "max_attempts": 1}
    )
    b.finish(b.take(), loss=1.0)
    loop.step(0)
    (record,) = b.store.points(states=["failed"])
    assert record.failure is not None
    assert record.failure.message == 'the result has no metric "auc"; it has: loss'


def test_results_of_points_that_never_were_are_dead_lettered(closing: list[Bench]) -> None:
    b, loop = new(closing)
    work = b.take()
    b.finish(work.model_copy(update={"point": 999}), loss=1.0)
    loop.step(0)
    assert b.transport.rejected[0][1] == "there is no point 999"


def test_many_models_share_the_queue_each_with_its_own_iterations(closing: list[Bench]) -> None:
    models = [{"name": f"slice_{i}", "constants": {"slice": i}} for i in range(30)]
    b, loop = new(closing, models=models, steering={"points_per_iteration": 2, "max_points": 6})
    assert {(w.model, w.params["slice"]) for w in b.transport.work} == {(f"slice_{i}", i) for i in range(30)}
    run_all(b, loop)
    assert b.store.counts().done == 180
    assert all(len(b.store.iterations(m.name)) >= 3 for m in b.store.models())


def test_duplicates_reuse_the_value(closing: list[Bench]) -> None:
    b, loop = new(
        closing,
        search_space=ONE_POINT,
        algorithm={"class": "tests/unit/steering/constant.py:Constant"},
        steering={"points_per_iteration": 3, "max_points": 6},
    )
    assert len(b.transport.work) == 1
    b.finish(b.take(), loss=0.5)
    loop.step(0)
    assert loop.over
    points = b.store.points()
    assert [p.values for p in points] == [{"loss": 0.5}] * 6
    assert [p.duplicate_of for p in points] == [None, 1, 1, 1, 1, 1]
    assert b.store.counts().duplicates == 5


def test_work_that_is_given_back_while_draining_begins_nowhere(closing: list[Bench]) -> None:
    b, loop = new(closing)
    running, ahead = b.take(), b.take()
    b.start(running)
    loop.step(0)
    loop.hold()
    assert not b.transport.work
    b.transport.work.append(ahead)
    loop.step(0)
    assert not b.transport.work
    b.finish(running, loss=0.5)
    loop.step(0)
    assert (loop.counts.done, loop.counts.queued, loop.counts.running) == (1, 3, 0)


def test_work_that_vanished_from_the_queue_goes_out_again(closing: list[Bench]) -> None:
    b, loop = new(closing)
    b.transport.work.clear()  # somebody purged it
    for _ in range(9):
        pass_time(b, loop, 10)
        b.beat()
    assert [(w.point, w.attempt) for w in b.transport.work] == [(1, 1), (2, 1), (3, 1), (4, 1)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_schedule_keeps_the_books(data: st.DataObject) -> None:
    """Random results, losses, duplicates and restarts: every point ends once, the points are those of a quiet run."""
    quiet = bench()
    loop = quiet.loop()
    run_all(quiet, loop)
    wanted = [(p.number, p.params) for p in quiet.store.points()]
    quiet.transport.close()
    quiet.store.close()

    b = bench()
    loop = b.loop()
    seen: list[Any] = []
    try:
        for _ in range(200):
            if loop.over:
                break
            match data.draw(
                st.sampled_from(["finish", "finish", "finish", "start", "fail", "again", "lose", "restart"])
            ):
                case "finish" if b.transport.work:
                    work = b.take()
                    seen.append(work)
                    b.finish(work, loss=work.params["x"])
                case "start" if b.transport.work:
                    work = b.take()
                    seen.append(work)
                    b.start(work)
                    if data.draw(st.booleans()):
                        b.finish(work, loss=work.params["x"])
                case "fail" if b.transport.work:
                    work = b.take()
                    b.finish(work, kind=data.draw(st.sampled_from(["invalid", "timeout", "error"])))
                case "again" if seen:
                    work = data.draw(st.sampled_from(seen))
                    b.finish(work, loss=work.params["x"])
                case "lose":
                    pass_time(b, loop, 70)
                case "restart":
                    loop.close()
                    b.transport.discard_work()
                    loop = b.loop()
                case _:
                    pass
            loop.step(0)
            assert loop.counts == b.store.counts()
        for _ in range(20):
            pass_time(b, loop, 70)
            if loop.over:
                break
            run_all_now(b, loop)
        assert loop.over
        points = b.store.points()
        assert [(p.number, p.params) for p in points] == wanted
        told = sorted(p.told or 0 for p in points)
        assert told == list(range(1, len(points) + 1))
        loop.close()
    finally:
        b.transport.close()
        b.store.close()


def run_all_now(b: Bench, loop: SteeringLoop) -> None:
    loop.step(0)
    while b.transport.work:
        work = b.take()
        b.finish(work, loss=work.params["x"])
    loop.step(0)


@pytest.mark.parametrize("rules", [{"target": 2.0}, {"patience": 1}, {"max_time_s": 50.0}])
def test_rules_cut_short_what_was_proposed_last(closing: list[Bench], rules: dict[str, Any]) -> None:
    b, loop = new(closing, steering={"points_per_iteration": 6, "max_points": 6, **rules})
    for _ in range(2):
        b.finish(b.take(), loss=1.0)
        loop.step(0)
    pass_time(b, loop, 60)
    assert loop.over
    (model,) = b.store.models()
    assert model.ended is not None
    assert model.ended.startswith(next(iter(rules)))
    counts = b.store.counts()
    assert counts.done <= 2
    assert counts.failed == {"cancelled": 6 - counts.done}


def test_a_budget_of_retries_holds_over_restarts(closing: list[Bench]) -> None:
    rules = {"function": "t.py:t", "workers": 0, "max_retries": 2, "retry_delay_s": 0}
    b, loop = new(closing, evaluation=rules)
    for _ in range(2):
        work = b.take()
        b.finish(work, kind="error")
        loop.step(0)
    assert b.store.counts().failed == {}
    loop.close()
    b.transport.discard_work()
    loop = b.loop()
    b.finish(b.take(), kind="error")
    loop.step(0)
    assert b.store.counts().failed == {"error": 1}  # its first attempt, and the budget is spent


def test_delays_double_and_end(closing: list[Bench]) -> None:
    rules = {"function": "t.py:t", "workers": 0, "max_attempts": 12, "retry_delay_s": 2}
    b, loop = new(closing, evaluation=rules)
    point = b.transport.work[0].point
    waited = []
    for _ in range(10):
        work = next(w for w in b.transport.work if w.point == point)
        b.transport.work.remove(work)
        b.finish(work, kind="error")
        loop.step(0)
        began = b.clock.now
        while all(w.point != point for w in b.transport.work):
            number, left_s = loop.attempts.delayed(b.clock.now)
            assert number == 1
            assert left_s >= 0
            pass_time(b, loop, 1)
        waited.append(b.clock.now - began)
    assert waited[:4] == pytest.approx([2, 4, 8, 16], abs=1.1)
    assert waited[-1] == pytest.approx(300, abs=1.1)


def test_what_a_worker_gives_back_counts_against_nothing(closing: list[Bench]) -> None:
    b, loop = new(closing, evaluation={"function": "t.py:t", "workers": 0, "max_lost": 1, "max_attempts": 1})
    point = b.transport.work[0].point
    for number in range(5):
        work = next(w for w in b.transport.work if w.point == point)
        b.transport.work.remove(work)
        worker = f"host-{number}-a"
        b.start(work, worker=worker)
        loop.step(0)
        b.transport.events.append(Bye(experiment=work.experiment, run=work.run, worker=worker, at=0.0))
        loop.step(0)
    (record,) = b.store.points(ids=[point])
    assert (record.state, record.attempts, record.lost, record.forgiven) == ("queued", 5, 0, 5)


def test_a_released_point_goes_out_again_at_once_and_nothing_counts(closing: list[Bench]) -> None:
    b, loop = new(closing, evaluation={"function": "t.py:t", "workers": 0, "max_lost": 1, "max_attempts": 1})
    point = b.transport.work[0].point
    for number in range(5):
        (work,) = (w for w in b.transport.work if w.point == point)
        b.transport.work.remove(work)
        assert work.attempt == number + 1
        worker = f"host-{number}-a"
        if number != 2:  # a short evaluation takes no lease
            b.start(work, worker=worker)
            loop.step(0)
        b.finish(work, kind="released", worker=worker, log="saved at step 7")
        b.finish(work, kind="released", worker=worker)  # once more
        b.finish(work, kind="released", worker="host-9-z")  # from a worker without the lease
        loop.step(0)
    (record,) = b.store.points(ids=[point])
    assert (record.state, record.attempts, record.lost, record.forgiven) == ("queued", 5, 0, 5)
    assert [(a.outcome, a.log) for a in b.store.attempts(point)] == [("released", "saved at step 7")] * 5
    assert loop.counts == b.store.counts()
    assert loop.attempts.streak == []
    assert (loop.counts.failed, loop.attempts.retries) == ({}, 0)
    work = next(w for w in b.transport.work if w.point == point)
    b.finish(work, loss=0.5)
    loop.step(0)
    (record,) = b.store.points(ids=[point])
    assert (record.state, record.values) == ("done", {"loss": 0.5})


def test_a_point_that_is_released_while_it_is_pruned_has_ended(closing: list[Bench]) -> None:
    b, loop = new(closing)
    work = b.take()
    b.start(work)
    loop.step(0)
    point = loop.book.get(work.point)
    assert point is not None
    point.pruned = "not among the best third"
    b.finish(work, kind="released")
    loop.step(0)
    (record,) = b.store.points(ids=[work.point])
    assert record.failure is not None
    assert (record.failure.kind, record.failure.message) == ("pruned", "not among the best third")
    assert [a.outcome for a in b.store.attempts(work.point)] == ["released"]


def test_work_that_is_released_while_draining_begins_nowhere(closing: list[Bench]) -> None:
    b, loop = new(closing)
    running = b.take()
    b.start(running)
    loop.step(0)
    loop.hold()
    b.finish(running, kind="released")
    loop.step(0)
    assert not b.transport.work
    assert (loop.counts.queued, loop.counts.running) == (4, 0)


def test_a_poison_point_is_set_aside_with_its_log(closing: list[Bench]) -> None:
    b, loop = new(closing, evaluation={"function": "t.py:t", "workers": 0, "max_lost": 2})
    point = b.transport.work[0].point
    for number in range(2):
        work = next(w for w in b.transport.work if w.point == point)
        b.transport.work.remove(work)
        worker = f"host-{number}-a"
        b.start(work, worker=worker)
        loop.step(0)
        b.finish(work, kind="lost", worker=worker, log=f"last words {number}")
        b.finish(work, kind="lost", worker="host-9-z", log="of somebody else")  # not who has the lease
        pass_time(b, loop, 2)
    (record,) = b.store.points(ids=[point])
    assert record.failure is not None
    assert (record.failure.kind, record.lost) == ("lost", 2)
    assert "lost its worker 2 times" in record.failure.message
    assert "last words 1" in record.failure.message
    assert [a.log for a in b.store.attempts(point)] == ["last words 0", "last words 1"]
    assert "host-9-z" not in [w.name for w in loop.fleet.present()]


def test_heartbeats_that_were_not_read_do_not_cost_a_lease(closing: list[Bench]) -> None:
    """Steering stood still (suspended, or busy) for an hour, while its workers went on."""
    b, loop = new(closing)
    work = b.take()
    b.start(work)
    loop.step(0)
    b.clock.now += 3600
    loop.step(0)
    assert loop.counts.running == 1
    b.beat(work)
    pass_time(b, loop, 50)
    assert loop.counts.running == 1


def test_a_heartbeat_stands_for_a_started_that_was_lost(closing: list[Bench]) -> None:
    b, loop = new(closing)
    work = b.take()
    b.beat(work)
    loop.step(0)
    (record,) = b.store.points(ids=[work.point])
    assert (record.state, record.worker) == ("running", "host-1-a")


def test_a_failed_point_gets_a_fresh_start(closing: list[Bench]) -> None:
    b, loop = new(closing, evaluation={"function": "t.py:t", "workers": 0, "max_attempts": 1})
    bad = b.take()
    b.finish(bad, kind="error")
    loop.step(0)
    assert loop.retry([bad.point, 2]) == 1
    loop.step(0)
    assert loop.counts == b.store.counts()
    again = next(w for w in b.transport.work if w.point == bad.point)
    assert again.attempt == 2
    run_all(b, loop)
    points = b.store.points()
    assert [p.state for p in points] == ["done"] * 12
    told = sorted(p.told or 0 for p in points)
    assert len(set(told)) == 12
    assert told[0] == 2  # the place of the failure stays empty


def test_a_finished_search_is_taken_up_for_a_fresh_start(closing: list[Bench]) -> None:
    steering = {"points_per_iteration": 2, "max_points": 2}
    rules = {"function": "t.py:t", "workers": 0, "max_attempts": 1}
    b, loop = new(closing, steering=steering, evaluation=rules)
    for _ in range(2):
        b.finish(b.take(), kind="error")
    loop.step(0)
    assert loop.over
    loop.finish("max_points (2) reached")
    assert loop.retry([1]) == 1
    assert not loop.over
    loop.close()
    b.transport.discard_work()
    loop = b.loop()
    run_all(b, loop)
    assert b.store.counts().done == 1
    assert b.store.counts().failed == {"error": 1}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_fresh_start_takes_over_what_an_equal_point_has_found(
    closing: list[Bench], restarted: bool
) -> None:
    """Both had failed; one was tried again and has a value, so the other is not evaluated."""
    b, loop = new(
        closing,
        search_space=ONE_POINT,
        algorithm={"class": "tests/unit/steering/constant.py:Constant"},
        steering={"points_per_iteration": 2, "max_points": 2},
        evaluation={"function": "t.py:t", "workers": 0, "max_attempts": 1},
    )
    b.finish(b.take(), kind="error")
    loop.step(0)
    assert b.store.counts().failed == {"error": 2}
    assert loop.retry([2]) == 1
    b.finish(b.take(), loss=0.5)
    loop.step(0)
    if restarted:
        with b.store.transaction() as transaction:
            transaction.reopen_point(1)
            transaction.end_model("main", None)
        loop.close()
        loop = b.loop()
    else:
        assert loop.retry([1]) == 1
        loop.step(0)
    first, second = b.store.points()
    assert (first.values, first.duplicate_of) == ({"loss": 0.5}, 2)
    assert (second.values, second.duplicate_of) == ({"loss": 0.5}, None)
    assert not b.transport.work
    assert loop.over


def test_places_of_what_was_told_stay_apart_when_an_ended_search_is_taken_up(closing: list[Bench]) -> None:
    models = [{"name": "a"}, {"name": "b"}]
    b, loop = new(
        closing,
        models=models,
        steering={"points_per_iteration": 2, "max_points": 2},
        evaluation={"function": "t.py:t", "workers": 0, "max_attempts": 1},
    )
    works = {(w.model, w.point): w for w in b.transport.work}
    mine = [w for w in works.values() if w.model == "a"]
    b.finish(mine[0], kind="error")
    b.finish(mine[1], loss=0.5)
    loop.step(0)
    loop.close()
    b.transport.discard_work()
    loop = b.loop()  # a has ended, b has not
    assert loop.retry([mine[0].point]) == 1
    loop.step(0)
    b.finish(next(w for w in b.transport.work if w.point == mine[0].point), loss=0.25)
    loop.step(0)
    assert [p.told for p in b.store.points(model="a")] == [3, 2]


def test_two_models_are_taken_up_before_either_asks(closing: list[Bench]) -> None:
    models = [{"name": "a"}, {"name": "b"}]
    steering = {"points_per_iteration": 2, "max_points": 6, "trigger": {"fraction": 0.5}}
    b, loop = new(closing, models=models, steering=steering)
    work = b.take()
    loop.hold()
    b.finish(work, loss=0.5)
    loop.step(0)
    loop.finish(None)
    loop.close()
    loop = b.loop()
    run_all(b, loop)
    assert b.store.counts().done == 12


def test_the_last_words_of_a_worker_of_this_machine(closing: list[Bench]) -> None:
    """Its end is noticed before what it had sent is read: nothing waits for a lease to expire."""
    b, loop = new(closing)
    first, second = b.take(), b.take()
    b.start(first, worker="here-7-a")
    b.finish(second, loss=0.25, worker="here-7-a")
    b.beat(first, worker="here-7-a")
    assert not loop.forsake_process("here", 7, "signal 9")
    pass_time(b, loop, 2)
    assert not loop.fleet.present()
    assert b.transport.work[-1].point == first.point
    assert b.transport.work[-1].attempt == 2
    assert loop.counts.done == 1
