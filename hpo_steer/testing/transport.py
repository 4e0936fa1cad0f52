"""The contract of transports, as a test suite for those who write one.

class TestMine(TransportContract):
    @pytest.fixture
    def site(self):
        ...  # yields a TransportSite of its own for each test
"""

from __future__ import annotations

import base64
import select
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer.limits import MAX_PART
from hpo_steer.messages import (
    BundleGone,
    BundlePart,
    BundleWanted,
    Cancel,
    Control,
    Echo,
    Event,
    Hello,
    Message,
    Report,
    Result,
    Stop,
    Work,
)
from hpo_steer.transport.admission import ANY_RUN
from hpo_steer.transport.base import Confirmed, Delivery, SteeringEnd, WorkerEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RUN = "run-1"
_PATIENCE_S = 15.0
_QUIET_S = 0.3
_MANY_TIMES = 25
"""More than brokers let a message be given back by themselves."""


class TransportSite(ABC):
    """What the suite needs of a transport besides its two ends.

    Attributes:
        experiment: name of the experiment, new for each test.
        durable: events outlive steering's end.
    """

    experiment: str
    durable: bool

    @abstractmethod
    def steering(self, run: str = RUN) -> SteeringEnd:
        """Steering's end, open. The suite closes it."""

    @abstractmethod
    def worker(self, run: str | None = RUN) -> WorkerEnd:
        """A worker's end, open. The suite closes it."""

    @abstractmethod
    def kill(self, worker: WorkerEnd) -> None:
        """Cuts a worker's connection as the death of its process would."""

    @abstractmethod
    def inject_work(self, body: bytes) -> None:
        """Puts bytes on the work queue."""

    @abstractmethod
    def inject_event(self, body: bytes) -> None:
        """Puts bytes on the events queue."""

    @abstractmethod
    def dead_letters(self) -> list[tuple[str, bytes]]:
        """Reasons and bodies of the dead letters so far."""


class Ends:
    """The ends of one test, closed with it."""

    def __init__(self, site: TransportSite) -> None:
        self.site = site
        self._open: list[SteeringEnd | WorkerEnd] = []

    def steering(self, run: str = RUN) -> SteeringEnd:
        """Opens steering's end."""
        end = self.site.steering(run)
        self._open.append(end)
        return end

    def worker(self, credit: int = 0, run: str | None = RUN) -> WorkerEnd:
        """Opens a worker's end with some credit."""
        end = self.site.worker(run)
        self._open.append(end)
        if credit:
            end.set_credit(credit)
        return end

    def close(self) -> None:
        """Closes all, workers first."""
        for end in sorted(self._open, key=lambda end: isinstance(end, SteeringEnd)):
            if isinstance(end, WorkerEnd):
                self.site.kill(end)
            end.close()


def collect(
    end: SteeringEnd | WorkerEnd, kind: type | tuple[type, ...], n: int, within_s: float = _PATIENCE_S
) -> list[Any]:
    """Waits for `n` incoming things of a kind, drops others, and gives them in their order of arrival."""
    found: list[Any] = []
    deadline = time.monotonic() + within_s
    while len(found) < n and (left := deadline - time.monotonic()) > 0:
        select.select([end], [], [], left)
        found += [item for item in end.receive() if isinstance(item, kind)]
    assert len(found) >= n, f"{len(found)} of {n} {kind} came within {within_s} s"
    return found


def quiet(end: SteeringEnd | WorkerEnd, kind: type | tuple[type, ...], for_s: float = _QUIET_S) -> None:
    """Fails if anything of a kind comes."""
    deadline = time.monotonic() + for_s
    while (left := deadline - time.monotonic()) > 0:
        select.select([end], [], [], left)
        found = [item for item in end.receive() if isinstance(item, kind)]
        assert not found, f"{found} came"


def eventually(condition: Callable[[], object], within_s: float = _PATIENCE_S) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)


def points(deliveries: Sequence[Delivery[Any]]) -> list[int]:
    """The points that deliveries are about."""
    return [delivery.message.point for delivery in deliveries]


class TransportContract:
    """What every transport does. Subclasses give a fixture ``site``."""

    @pytest.fixture
    def ends(self, site: TransportSite) -> Iterator[Ends]:
        """The ends of a test."""
        ends = Ends(site)
        yield ends
        ends.close()

    def work(self, ends: Ends, *numbers: int, run: str = RUN, experiment: str | None = None) -> list[Work]:
        """Work of the test's experiment."""
        name = experiment or ends.site.experiment
        return [
            Work(experiment=name, run=run, point=n, attempt=1, model="m", iteration=1, params={"x": 0.5})
            for n in numbers
        ]

    def result(self, ends: Ends, point: int, run: str = RUN) -> Result:
        """An event of the test's experiment."""
        return Result(
            **self.of(ends, run),
            point=point,
            attempt=1,
            metrics={"loss": 0.1},
            started_at=0.0,
            duration_s=1.0,
        )

    def part(self, ends: Ends, number: int, count: int = 3) -> BundlePart:
        """A piece of a code bundle, as large as one may be but for the last."""
        content = bytes([number]) * (MAX_PART if number < count - 1 else 7)
        return BundlePart(
            experiment=ends.site.experiment,
            run=RUN,
            bundle="ab" * 32,
            number=number,
            count=count,
            size=(count - 1) * MAX_PART + 7,
            data=base64.b64encode(content).decode(),
        )

    def of(self, ends: Ends, run: str = RUN) -> dict[str, Any]:
        """What all events of the test's experiment have."""
        return {"experiment": ends.site.experiment, "run": run, "worker": "w-1", "at": 0.0}

    def test_work_goes_to_exactly_one_worker(self, ends: Ends) -> None:
        steering, first, second = ends.steering(), ends.worker(5), ends.worker(5)
        steering.publish(self.work(ends, *range(10)))
        taken = collect(first, Delivery, 5) + collect(second, Delivery, 5)
        assert sorted(points(taken)) == list(range(10))

    def test_work_arrives_whole(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker(1)
        sent = self.work(ends, 7)[0].model_copy(update={"params": {"a": "é", "n": 3}, "timeout_s": 2.5})
        steering.publish([sent])
        [delivery] = collect(worker, Delivery, 1)
        assert delivery.message == sent
        assert not delivery.redelivered

    def test_one_worker_gets_work_in_order(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker(3)
        steering.publish(self.work(ends, *range(50)))
        got: list[int] = []
        while len(got) < 50:
            deliveries = collect(worker, Delivery, 1)
            got += points(deliveries)
            worker.settle(deliveries)
        assert got == list(range(50))

    def test_credit_is_respected(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker()
        steering.publish(self.work(ends, *range(10)))
        quiet(worker, Delivery)
        worker.set_credit(3)
        held = collect(worker, Delivery, 3)
        quiet(worker, Delivery)
        worker.settle(held[:1])
        held = held[1:] + collect(worker, Delivery, 1)
        quiet(worker, Delivery)
        worker.set_credit(5)
        held += collect(worker, Delivery, 2)
        quiet(worker, Delivery)
        assert points(held) == [1, 2, 3, 4, 5]

    def test_credit_shrinks_and_grows_again(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker(4)
        steering.publish(self.work(ends, *range(10)))
        held = collect(worker, Delivery, 4)
        worker.set_credit(0)
        worker.settle(held)
        quiet(worker, Delivery)
        worker.set_credit(2)
        assert points(collect(worker, Delivery, 2)) == [4, 5]
        quiet(worker, Delivery)

    def test_released_work_goes_to_another_worker(self, ends: Ends) -> None:
        steering, first, second = ends.steering(), ends.worker(2), ends.worker()
        steering.publish(self.work(ends, 1, 2, 3))
        held = collect(first, Delivery, 2)
        first.set_credit(0)
        first.release(held)
        second.set_credit(3)
        again = collect(second, Delivery, 3)
        assert sorted(points(again)) == [1, 2, 3]
        assert {d.message.point for d in again if d.redelivered} >= {1, 2}

    def test_work_may_be_given_back_time_and_again(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker(1)
        steering.publish(self.work(ends, 1))
        for _ in range(_MANY_TIMES):
            worker.release(collect(worker, Delivery, 1))
        assert points(collect(worker, Delivery, 1)) == [1]
        assert ends.site.dead_letters() == []

    def test_unsettled_work_of_a_dead_worker_goes_to_another(self, ends: Ends) -> None:
        steering, first, second = ends.steering(), ends.worker(3), ends.worker()
        steering.publish(self.work(ends, 1, 2, 3, 4))
        held = collect(first, Delivery, 3)
        first.settle(held[:1])
        eventually(lambda: not first.status().unconfirmed)
        time.sleep(0.1)
        ends.site.kill(first)
        second.set_credit(10)
        again = collect(second, Delivery, 3)
        assert points(again)[:2] == [2, 3]
        assert sorted(points(again)) == [2, 3, 4]
        quiet(second, Delivery)

    def test_events_arrive_whole_and_in_order(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker()
        sent: list[Event] = [Hello(**self.of(ends), host="h", slots=2), self.result(ends, 1)]
        sent.append(Report(**self.of(ends), point=1, attempt=1, step=3, metrics={"loss": 0.5}))
        for event in sent:
            worker.publish(event, token=object())
        assert [delivery.message for delivery in collect(steering, Delivery, 3)] == sent

    def test_confirms_come_once_each(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker()
        for n in range(20):
            worker.publish(self.result(ends, n), token=("t", n))
        worker.publish(self.result(ends, 20))
        steering.settle(collect(steering, Delivery, 21))
        tokens: list[Any] = []
        while len(tokens) < 20:
            tokens += [token for item in collect(worker, Confirmed, 1) for token in item.tokens]
        assert sorted(tokens) == [("t", n) for n in range(20)]
        quiet(worker, Confirmed)
        eventually(lambda: worker.status().unconfirmed == 0)

    def test_an_echo_comes_behind_all_that_was_sent_before_it(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker()
        for n in range(100):
            worker.publish(self.result(ends, n), token=n)
        if ends.site.durable:
            eventually(lambda: worker.status().unconfirmed == 0)
        else:
            time.sleep(_QUIET_S)
        echo = Echo(experiment=ends.site.experiment, run=RUN, number=7)
        steering.echo(echo)
        worker.publish(self.result(ends, 100), token=100)
        heard = collect(steering, Delivery, 102)
        assert echo in [delivery.message for delivery in heard[100:]]
        steering.settle(heard)
        eventually(lambda: worker.status().unconfirmed == 0)
        steering.close()
        quiet(ends.steering(), Delivery)

    def test_unsettled_events_stay(self, ends: Ends) -> None:
        if not ends.site.durable:
            pytest.skip("this transport keeps nothing: workers have no confirm and keep their results")
        steering, worker = ends.steering(), ends.worker()
        for n in range(5):
            worker.publish(self.result(ends, n), token=n)
        held = collect(steering, Delivery, 5)
        steering.settle([held[1], held[0], held[3]])
        steering.close()
        steering = ends.steering()
        assert not steering.drained()
        again = collect(steering, Delivery, 2)
        assert {2, 4} <= set(points(again))  # settled ones may come again with their bundle
        assert all(delivery.redelivered for delivery in again)
        eventually(lambda: steering.receive() == [] and steering.drained())
        steering.settle(again)
        steering.close()
        assert ends.steering().drained()

    def test_an_unsettled_event_is_not_confirmed_unless_it_is_durable(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker()
        worker.publish(self.result(ends, 1), token="t")  # noqa: S106 - no password
        deliveries = collect(steering, Delivery, 1)
        if not ends.site.durable:
            quiet(worker, Confirmed)
        steering.settle(deliveries)
        if not ends.site.durable:
            assert [item.tokens for item in collect(worker, Confirmed, 1)] == [["t"]]

    def test_control_reaches_all_workers(self, ends: Ends) -> None:
        steering, workers = ends.steering(), [ends.worker() for _ in range(3)]
        for worker in workers:
            worker.publish(Hello(**self.of(ends), host="h", slots=1))
        collect(steering, Delivery, 3)  # so all are connected
        stop = Stop(experiment=ends.site.experiment, run=RUN, point=1, attempt=1, reason="enough")
        cancel = Cancel(experiment=ends.site.experiment, run=RUN, points=[2])
        steering.control(stop)
        steering.control(cancel)
        for worker in workers:
            assert collect(worker, Message, 2) == [stop, cancel]

    def test_code_bundles_reach_those_only_that_collect_them(self, ends: Ends) -> None:
        steering, workers = ends.steering(), [ends.worker() for _ in range(3)]
        for worker in workers[:2]:
            worker.collect(True)
        for worker in workers:
            worker.publish(Hello(**self.of(ends), host="h", slots=1))
        collect(steering, Delivery, 3)  # so all are connected
        time.sleep(_QUIET_S)  # and those two collect, which nothing confirms
        parts = [self.part(ends, number) for number in range(3)]
        gone = BundleGone(experiment=ends.site.experiment, run=RUN, bundle="cd" * 32, reason="of another run")
        stop = Stop(experiment=ends.site.experiment, run=RUN, point=1, attempt=1)
        sent: list[Control] = [*parts, gone, stop]
        for message in sent:
            steering.control(message)
        for worker in workers[:2]:
            came = collect(worker, Message, 5)
            assert [message for message in came if not isinstance(message, Stop)] == [*parts, gone]
        assert collect(workers[2], Message, 1) == [stop]
        quiet(workers[2], Message)
        assert b"".join(part.content for part in parts).count(b"\0") == MAX_PART

    def test_code_bundles_are_collected_on_and_off(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker()
        stop = Stop(experiment=ends.site.experiment, run=RUN, point=1, attempt=1)
        for on in (True, True, False, True):
            worker.collect(on)
            worker.publish(
                BundleWanted(**self.of(ends), bundle="ab" * 32, parts=[(0, 2)], problem="new here")
            )
            [delivery] = collect(steering, Delivery, 1)
            assert delivery.message.parts == [(0, 2)]
            time.sleep(_QUIET_S)
            steering.control(self.part(ends, 1))
            steering.control(stop)
            wanted = {BundlePart, Stop} if on else {Stop}
            assert {type(message) for message in collect(worker, Message, len(wanted))} == wanted
            quiet(worker, Message)

    @pytest.mark.parametrize("body", [b"\xff\x00", b"{}", b"[" * 100_000, b'{"type": "bye", "v": 2}'])
    def test_malformed_events_are_dead_letters(self, ends: Ends, body: bytes) -> None:
        steering, worker = ends.steering(), ends.worker()
        ends.site.inject_event(body)
        worker.publish(self.result(ends, 1))
        assert points(collect(steering, Delivery, 1)) == [1]
        eventually(ends.site.dead_letters)
        [(reason, _)] = ends.site.dead_letters()
        assert reason

    def test_malformed_work_is_a_dead_letter(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker(1)
        ends.site.inject_work(b'{"type": "work"}')
        steering.publish(self.work(ends, 1))
        assert points(collect(worker, Delivery, 1)) == [1]
        eventually(ends.site.dead_letters)
        [(reason, body)] = ends.site.dead_letters()
        assert "required" in reason
        assert body == b'{"type": "work"}'

    def test_oversized_messages_are_dead_letters(self, ends: Ends) -> None:
        steering = ends.steering()
        ends.site.inject_event(b'"' + b"x" * 1_100_000 + b'"')
        eventually(ends.site.dead_letters)
        [(reason, _)] = ends.site.dead_letters()
        assert "1,048,576 are allowed" in reason
        assert steering.receive() == []

    def test_foreign_messages_are_dead_letters(self, ends: Ends) -> None:
        ends.steering()
        worker = ends.worker(1)
        worker.publish(self.result(ends, 1, run="run-0"))
        ends.site.inject_work(self.work(ends, 1, run="run-0")[0].encoded())
        ends.site.inject_work(self.work(ends, 1, experiment="other")[0].encoded())
        eventually(lambda: len(ends.site.dead_letters()) == 3)
        reasons = sorted(reason for reason, _ in ends.site.dead_letters())
        assert reasons == [
            f"of experiment other, this is experiment {ends.site.experiment}",
            "of run run-0, this is run run-1",
            "of run run-0, this is run run-1",
        ]

    def test_a_worker_that_knows_no_run_takes_any(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker(1, run=None)
        hello = Hello(**self.of(ends, ANY_RUN), host="h", slots=1)
        worker.publish(hello)
        steering.publish(self.work(ends, 1))
        [delivery] = collect(worker, Delivery, 1)
        assert delivery.message.run == RUN
        worker.publish(self.result(ends, 1, run=ANY_RUN))
        worker.publish(self.result(ends, 2))
        assert [item.message for item in collect(steering, Delivery, 2)] == [hello, self.result(ends, 2)]
        eventually(lambda: len(ends.site.dead_letters()) == 1)

    def test_rejected_messages_are_dead_letters(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker(1)
        steering.publish(self.work(ends, 1, 2))
        worker.reject(collect(worker, Delivery, 1)[0], "unknown model")
        assert points(collect(worker, Delivery, 1)) == [2]
        worker.publish(self.result(ends, 9), token="t")  # noqa: S106 - no password
        steering.reject(collect(steering, Delivery, 1)[0], "unknown point")
        eventually(lambda: len(ends.site.dead_letters()) == 2)
        letters = dict(ends.site.dead_letters())
        assert set(letters) == {"unknown model", "unknown point"}
        assert Work.model_validate_json(letters["unknown model"]) == self.work(ends, 1)[0]
        assert collect(worker, Confirmed, 1)[0].tokens == ["t"]

    def test_discard_work_empties_the_queue(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker(1)
        steering.publish(self.work(ends, *range(100)))
        held = collect(worker, Delivery, 1)
        steering.discard_work()
        steering.publish(self.work(ends, 500))
        worker.settle(held)
        assert points(collect(worker, Delivery, 1)) == [500]

    def test_waiting_counts_what_no_worker_holds(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker()
        eventually(lambda: steering.waiting() == 0)
        steering.publish(self.work(ends, *range(5)))
        eventually(lambda: steering.waiting() == 5)
        worker.set_credit(2)
        collect(worker, Delivery, 2)
        eventually(lambda: steering.waiting() == 3)

    def test_status_tells_how_it_stands(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker()
        for end in (steering, worker):
            status = end.status()
            assert status.connected
            assert status.blocked is None
            assert status.trouble is None
            assert "guest:" not in status.detail

    def test_receive_gives_at_most_the_limit(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker()
        for n in range(10):
            worker.publish(self.result(ends, n))
        got: list[Any] = []
        while len(got) < 10:
            assert select.select([steering], [], [], _PATIENCE_S)[0], "it is readable while there is more"
            batch = steering.receive(limit=3)
            assert len(batch) <= 3
            got += batch
        assert points(got) == list(range(10))

    def test_closing_twice_is_no_error(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker()
        for end in (worker, worker, steering, steering):
            end.close()
        assert not steering.status().connected

    def test_closing_waits_for_confirms(self, ends: Ends) -> None:
        if not ends.site.durable:
            pytest.skip("confirmed is what steering has settled")
        steering, worker = ends.steering(), ends.worker()
        for n in range(500):
            worker.publish(self.result(ends, n), token=n)
        worker.close()
        assert points(collect(steering, Delivery, 500)) == list(range(500))

    def test_many_messages_both_ways(self, ends: Ends) -> None:
        n = 2000
        steering, worker = ends.steering(), ends.worker(100)
        steering.publish(self.work(ends, *range(n)))
        taken, told, confirmed = 0, set[int](), 0
        deadline = time.monotonic() + 60
        while confirmed < n or len(told) < n:
            assert time.monotonic() < deadline
            select.select([steering.fileno(), worker.fileno()], [], [], 1.0)
            for item in worker.receive():
                if isinstance(item, Delivery):
                    taken += 1
                    worker.publish(self.result(ends, item.message.point), token=item.message.point)
                    worker.settle([item])
                elif isinstance(item, Confirmed):
                    confirmed += len(item.tokens)
            events = [item for item in steering.receive() if isinstance(item, Delivery)]
            told.update(points(events))
            steering.settle(events)
        assert taken == confirmed == len(told) == n
