"""The examples in Node keep the documented protocol: limits, bundles, dead letters, stop and cancel."""

from __future__ import annotations

import json
import secrets
import signal
from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer.messages import Bye, Cancel, Heartbeat, Hello, Report, Result, Started, Stop, Work
from hpo_steer.testing.transport import collect
from hpo_steer.transport import BrokerSettings, steering_end, worker_end
from hpo_steer.transport.base import Delivery, SteeringEnd
from tests.acceptance.foreign import Stage
from tests.servers.node import require_node
from tests.servers.rabbitmq import RabbitNode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rabbitmq

RUN = "r"
PATIENCE_S = 60.0


@pytest.fixture
def stage(tmp_path: Path, any_rabbitmq: RabbitNode) -> Iterator[Stage]:
    one = Stage(tmp_path, any_rabbitmq, f"foreign-{secrets.token_hex(4)}")
    yield one
    one.close()


class Desk:
    """Our steering's end, and all events that it has read so far."""

    def __init__(self, stage: Stage) -> None:
        require_node("foreign-worker")
        self._stage = stage
        self.end: SteeringEnd = steering_end(BrokerSettings(stage.broker.url), stage.experiment, RUN)
        self.end.open()
        self.seen: list[Any] = []

    def send(self, *points: int, bundle: int = 1, **fields: Any) -> None:
        """Sends attempts at points out."""
        common = {"experiment": self._stage.experiment, "run": RUN, "model": "main", "iteration": 1}
        works = [
            Work(**{**common, "point": n, "attempt": 1, "params": {"x": 0.3, "k": n}, **fields})
            for n in points
        ]
        self.end.publish(works, bundle)

    def control(self, message: type[Stop | Cancel], **fields: Any) -> None:
        """Tells all workers."""
        self.end.control(message(experiment=self._stage.experiment, run=RUN, **fields))

    def wait(self, kind: type, n: int = 1) -> list[Any]:
        """Reads on until `n` events of a kind have come, from the beginning; gives all of that kind."""
        while (missing := n - len(self.of(kind))) > 0:
            deliveries = collect(self.end, Delivery, 1, PATIENCE_S)
            self.end.settle(deliveries)
            self.seen += [delivery.message for delivery in deliveries]
            assert missing > 0
        return self.of(kind)

    def of(self, kind: type) -> list[Any]:
        """The events of a kind so far."""
        return [event for event in self.seen if isinstance(event, kind)]


@pytest.fixture
def desk(stage: Stage) -> Iterator[Desk]:
    one = Desk(stage)
    yield one
    one.end.close()


def test_the_way_of_a_point(stage: Stage, desk: Desk) -> None:
    worker = stage.worker("--slots", "2")
    (hello,) = desk.wait(Hello)
    assert (hello.run, hello.slots, hello.running) == ("*", 2, [])
    desk.send(1, 2, 3)
    results = desk.wait(Result, 3)
    assert {r.point: round(r.metrics["loss"], 9) for r in results} == {1: 0.09, 2: 0.04, 3: 0.01}
    assert {s.point for s in desk.of(Started)} == {1, 2, 3}
    assert [r.step for r in desk.of(Report) if r.point == 1] == [1, 2, 3, 4]
    for point in (1, 2, 3):
        kinds = [type(e) for e in desk.seen if isinstance(e, Started | Result) and e.point == point]
        assert kinds == [Started, Result]
    beats = len(desk.of(Heartbeat))
    assert desk.wait(Heartbeat, beats + 2)[-1].running == []
    stage.bow_out(worker)
    assert desk.wait(Bye)[0].reason == "drained"
    assert stage.dead_letters() == []


def test_bundles_are_taken_apart(stage: Stage, desk: Desk) -> None:
    desk.send(*range(1, 21), bundle=10)
    stage.worker("--slots", "2", seconds=0.001)
    assert sorted(r.point for r in desk.wait(Result, 20)) == list(range(1, 21))
    assert not desk.of(Started)


def test_stop_ends_a_training_and_a_limit_of_time_too(stage: Stage, desk: Desk) -> None:
    stage.worker("--slots", "2", seconds=600.0)
    desk.send(1)
    desk.send(2, timeout_s=0.5)
    worker = {s.point: s.worker for s in desk.wait(Started, 2)}[1]
    (late,) = desk.wait(Result)
    assert (late.point, late.failure.kind) == (2, "timeout")
    desk.control(Stop, point=1, attempt=2, kind="pruned")
    desk.control(Stop, point=1, attempt=1, worker="somebody else", kind="pruned")
    desk.control(Stop, point=1, attempt=1, worker=worker, kind="pruned", reason="of no hope")
    stopped = desk.wait(Result, 2)[1]
    assert (stopped.point, stopped.failure.kind, stopped.failure.message) == (1, "pruned", "of no hope")
    desk.send(3)
    assert desk.wait(Started, 3)[2].point == 3  # the slots are free again


def test_cancelled_points_are_dropped(stage: Stage, desk: Desk) -> None:
    stage.worker()
    desk.wait(Hello)
    desk.control(Cancel, points=[1, 2])
    desk.control(Stop, point=9, attempt=1)
    desk.send(1, 2, 3)
    assert [r.point for r in desk.wait(Result)] == [3]
    assert [s.point for s in desk.of(Started)] == [3]
    assert desk.end.waiting() in (0, None)


def test_a_worker_that_drains_gives_nothing_up(stage: Stage, desk: Desk) -> None:
    worker = stage.worker(seconds=4.0)
    desk.send(1, 2)
    desk.wait(Started)
    worker.send_signal(signal.SIGTERM)
    desk.wait(Bye)
    assert [r.point for r in desk.of(Result)] == [1]
    worker.communicate(timeout=30)
    stage.worker(seconds=0.01)  # the next one gets what it left
    assert [r.point for r in desk.wait(Result, 2)] == [1, 2]


def test_malformed_messages_end_among_the_dead_letters(stage: Stage, desk: Desk) -> None:
    stage.worker()
    desk.wait(Hello)
    good = json.loads(
        Work(
            experiment=stage.experiment, run=RUN, point=1, attempt=1, model="m", iteration=1, params={}
        ).encoded()
    )
    changes: list[dict[str, object]] = [
        {"v": 2}, {"type": "stop"}, {"experiment": "other"}, {"point": -1}, {"attempt": 0}, {"params": []},
        {"run": ""}, {"timeout_s": 0},
    ]  # fmt: skip
    broken = [b"\xff", b"[]", b"{", *(json.dumps({**good, **change}).encode() for change in changes)]
    for body in broken:
        stage.put("work", body)
    stage.put("control", b"nonsense")
    desk.send(2)
    desk.wait(Result)
    letters = stage.wait_for_dead_letters(len(broken) + 1)
    assert sorted(body for origin, _, body in letters if origin == "work") == sorted(broken)
    assert [body for origin, _, body in letters if origin == "control"] == [b"nonsense"]
    assert all(reason for _, reason, _ in letters)
    assert [r.point for r in desk.of(Result)] == [2]


def test_steering_in_node_buries_what_is_of_no_use(stage: Stage) -> None:
    require_node("foreign-steering")
    steering = stage.steering("--points", "1", "--parallel", "1")
    end = worker_end(BrokerSettings(stage.broker.url), stage.experiment)
    end.open()
    try:
        end.set_credit(1)
        (delivery,) = collect(end, Delivery, 1, PATIENCE_S)
        work: Work = delivery.message
        common: dict[str, Any] = {
            "experiment": stage.experiment,
            "run": work.run,
            "worker": "w-1-x",
            "at": 1.0,
        }
        good = Result(**common, point=1, attempt=1, metrics={"loss": 0.25}, started_at=1.0, duration_s=0.5)
        changes: list[dict[str, object]] = [
            {"run": "other"}, {"point": 7}, {"attempt": 2}, {"metrics": None}, {"metrics": {"loss": "a"}},
            {"failure": {"kind": "odd"}}, {"worker": 3}, {"v": 3},
        ]  # fmt: skip
        read = json.loads(good.encoded())
        broken = [b"nonsense", *(json.dumps({**read, **change}).encode() for change in changes)]
        for body in broken:
            stage.put("events", body)
        letters = stage.wait_for_dead_letters(len(broken))
        assert sorted(body for _, _, body in letters) == sorted(broken)
        assert {origin for origin, _, _ in letters} == {"events"}
        end.publish(good, token=1)
        answer = json.loads(stage.finish(steering))
        assert answer == {
            "done": 1,
            "failed": 0,
            "best": {"point": 1, "params": work.params, "metrics": {"loss": 0.25}},
        }
    finally:
        end.close()


def test_steering_in_node_calls_off_what_is_needed_no_more(stage: Stage) -> None:
    require_node("foreign-steering")
    steering = stage.steering("--points", "9", "--parallel", "3", "--target", "0.1")
    end = worker_end(BrokerSettings(stage.broker.url), stage.experiment)
    end.open()
    try:
        end.set_credit(2)
        first, second = (delivery.message for delivery in collect(end, Delivery, 2, PATIENCE_S)[:2])
        common: dict[str, Any] = {
            "experiment": stage.experiment,
            "run": first.run,
            "worker": "w-1-x",
            "at": 1.0,
        }
        end.publish(Started(**common, point=second.point, attempt=1), token=1)
        end.publish(
            Result(
                **common, point=first.point, attempt=1, metrics={"loss": 0.05}, started_at=1.0, duration_s=0.5
            ),
            token=2,
        )
        cancel, stop = collect(end, (Cancel, Stop), 2, PATIENCE_S)
        assert sorted(cancel.points) == [2, 3]
        assert (stop.point, stop.attempt, stop.kind) == (second.point, 1, "cancelled")
        assert json.loads(stage.finish(steering))["done"] == 1
    finally:
        end.close()
