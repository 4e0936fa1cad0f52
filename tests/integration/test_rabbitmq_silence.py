"""The RabbitMQ transport when a connection stands and nothing moves, or ends in an unusual way."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from hpo_steer.testing.transport import collect, eventually, points
from hpo_steer.transport import BrokerSettings, steering_end, worker_end
from hpo_steer.transport.base import Confirmed, Delivery, Disconnected, SteeringEnd, WorkerEnd
from tests.acceptance.faults.proxy import Proxy, Way
from tests.integration.test_rabbitmq import RUN, result, work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq
STALL_S = 1.5
HEARTBEAT_S = 2


@pytest.fixture
def experiment() -> str:
    return f"s-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def settings(any_rabbitmq: RabbitNode) -> BrokerSettings:
    return BrokerSettings(any_rabbitmq.url, stall_s=STALL_S, heartbeat_s=HEARTBEAT_S)


@pytest.fixture
def steering(settings: BrokerSettings, experiment: str) -> Iterator[SteeringEnd]:
    end = steering_end(settings, experiment, RUN)
    end.open()
    yield end
    end.close()


@pytest.fixture
def worker(settings: BrokerSettings, experiment: str, steering: SteeringEnd) -> Iterator[WorkerEnd]:
    end = worker_end(settings, experiment)
    end.open()
    yield end
    end.close()


@contextlib.contextmanager
def silent(node: RabbitNode, queue: str) -> Iterator[None]:
    """A queue that neither takes nor gives, on a broker that is well otherwise."""
    lookup = f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>))'
    process = f"{lookup}, {{P, _}} = amqqueue:get_pid(Q)"
    node.ctl("eval", f"{process}, sys:suspend(P).")
    try:
        yield
    finally:
        node.ctl("eval", f"{process}, sys:resume(P).")


def trouble(end: SteeringEnd | WorkerEnd) -> str:
    return end.status().trouble or ""


def test_confirms_that_stay_out_are_said_with_the_way_to_mend_it(
    any_rabbitmq: RabbitNode, experiment: str, worker: WorkerEnd, steering: SteeringEnd
) -> None:
    queue = f"hpo.{experiment}.events"
    with silent(any_rabbitmq, queue):
        worker.publish(result(experiment, 1), token="t")
        collect(worker, Disconnected, 1)
        eventually(lambda: f'does not confirm what was sent to "{queue}"' in trouble(worker))
        command = trouble(worker).split("rabbitmqctl eval '")[1].split("'")[0]
    assert any_rabbitmq.ctl("eval", command).strip() == "[ok,ok,ok]", (
        "the way to mend it can be typed as it is"
    )
    assert collect(worker, Confirmed, 1, within_s=60)[0].tokens == ["t"]
    assert set(points(collect(steering, Delivery, 1))) == {1}, "it may come twice"
    eventually(lambda: worker.status().trouble is None)


def test_a_full_queue_is_said_and_tried_again_in_peace(
    any_rabbitmq: RabbitNode, experiment: str, worker: WorkerEnd, steering: SteeringEnd
) -> None:
    full = '{"max-length": 2, "overflow": "reject-publish"}'
    steering.close()  # so that events stay in the queue
    any_rabbitmq.ctl("set_policy", experiment, rf"^hpo\.{experiment}\.events$", full)
    try:
        for n in range(20):
            worker.publish(result(experiment, n), token=n)
            time.sleep(0.02)
        eventually(lambda: f'refuses the messages for "hpo.{experiment}.events"' in trouble(worker))
        assert "policy" in trouble(worker)
        assert worker.status().connected
    finally:
        any_rabbitmq.ctl("clear_policy", experiment)
    eventually(lambda: worker.status().unconfirmed == 0 and worker.status().trouble is None)


def test_a_consumer_that_the_broker_has_forgotten_is_made_anew(
    any_rabbitmq: RabbitNode, experiment: str, worker: WorkerEnd, steering: SteeringEnd
) -> None:
    worker.set_credit(2)
    steering.publish(work(experiment, 1))
    worker.settle(collect(worker, Delivery, 1))
    forget = (
        f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"hpo.{experiment}.work">>)), '
        "[ra:process_command(amqqueue:get_pid(Q), "
        "rabbit_fifo:make_checkout({element(2, C), element(1, C)}, cancel, #{})) "
        "|| C <- rabbit_amqqueue:consumers(Q)]."
    )
    assert "ok" in any_rabbitmq.ctl("eval", forget)
    steering.publish(work(experiment, 2))
    [lost] = collect(worker, Disconnected, 1)
    assert "hands out none of the messages" in lost.reason
    assert points(collect(worker, Delivery, 1)) == [2]
    eventually(lambda: worker.status().trouble is None)


def test_an_idle_connection_is_left_alone(steering: SteeringEnd, worker: WorkerEnd) -> None:
    worker.set_credit(1)
    deadline = time.monotonic() + 2 * STALL_S
    while time.monotonic() < deadline:
        assert not [item for item in worker.receive() + steering.receive() if isinstance(item, Disconnected)]
        assert worker.status().trouble is steering.status().trouble is None
        time.sleep(0.1)


def test_a_broker_without_a_sign_of_life_is_left_although_we_publish(
    any_rabbitmq: RabbitNode, experiment: str, steering: SteeringEnd, settings: BrokerSettings
) -> None:
    patient = BrokerSettings(settings.url, settings.password, stall_s=600, heartbeat_s=HEARTBEAT_S)
    worker = worker_end(patient, experiment)
    worker.open()
    any_rabbitmq.pause()
    try:
        began, sent = time.monotonic(), 0
        lost: list[Disconnected] = []
        while not lost:
            assert time.monotonic() - began < 30
            worker.publish(result(experiment, sent).model_copy(update={"log": "x" * 30_000}), token=sent)
            sent += 1
            lost = [item for item in worker.receive() if isinstance(item, Disconnected)]
            time.sleep(0.01)
        assert lost[0].reason == "the broker gave no sign of life"
        assert "no sign of life" in trouble(worker)
        collect(steering, Disconnected, 1)
    finally:
        any_rabbitmq.resume()
    told, confirmed = set[int](), set[object]()
    while len(told) < sent or len(confirmed) < sent:
        assert time.monotonic() - began < 90, (len(told), len(confirmed), sent)
        events = [item for item in steering.receive() if isinstance(item, Delivery)]
        told.update(points(events))
        steering.settle(events)
        confirmed.update(
            token for item in worker.receive() if isinstance(item, Confirmed) for token in item.tokens
        )
        time.sleep(0.02)
    assert worker.status().trouble is None
    worker.close()


def test_an_alarm_lasts_and_the_connection_with_it(
    any_rabbitmq: RabbitNode, experiment: str, steering: SteeringEnd, worker: WorkerEnd
) -> None:
    steering.publish(work(experiment, 1))
    eventually(lambda: steering.status().unconfirmed == 0)
    before = any_rabbitmq.ctl("eval", "vm_memory_monitor:get_vm_memory_high_watermark().").strip()
    any_rabbitmq.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        worker.publish(result(experiment, 1), token=1)
        steering.publish(work(experiment, 2))
        eventually(lambda: worker.status().blocked and steering.status().blocked)
        deadline = time.monotonic() + max(3 * STALL_S, HEARTBEAT_S + 6)
        while time.monotonic() < deadline:
            assert not [
                item for item in worker.receive() + steering.receive() if isinstance(item, Disconnected)
            ]
            assert worker.status().trouble is steering.status().trouble is None
            steering.waiting()
            time.sleep(0.1)
        assert steering.waiting() is None, "a blocked connection answers no question"
        worker.set_credit(2)
        assert points(collect(worker, Delivery, 1)) == [1], "what is in a queue comes"
    finally:
        any_rabbitmq.ctl("set_vm_memory_high_watermark", before)
    assert points(collect(worker, Delivery, 1)) == [2]
    assert points(collect(steering, Delivery, 1)) == [1]


def test_work_held_longer_than_the_broker_allows_comes_again(
    any_rabbitmq: RabbitNode, experiment: str, settings: BrokerSettings
) -> None:
    def allow(hold_ms: int, look_ms: int) -> None:
        for name, value in (("consumer_timeout", hold_ms), ("channel_tick_interval", look_ms)):
            any_rabbitmq.ctl("eval", f"application:set_env(rabbit, {name}, {value}).")

    allow(1_000, 500)
    try:
        steering, worker = steering_end(settings, experiment, RUN), worker_end(settings, experiment)
        steering.open()
        worker.open()
        worker.set_credit(1)
        steering.publish(work(experiment, 1))
        worker.publish(result(experiment, 1), token=1)
        [held], [event] = collect(worker, Delivery, 1), collect(steering, Delivery, 1)
        for end in (worker, steering):
            assert "timed out" in collect(end, Disconnected, 1)[0].reason
        worker.settle([held])  # void, like the next
        steering.settle([event])
    finally:
        allow(1_800_000, 60_000)
    again = collect(worker, Delivery, 1)[-1:]
    assert again[0].message == held.message
    worker.settle(again)
    assert collect(steering, Delivery, 1)[-1].message == event.message
    worker.close()
    steering.close()


def test_a_permission_that_is_taken_away_is_said_and_waited_for(
    any_rabbitmq: RabbitNode, experiment: str, settings: BrokerSettings
) -> None:
    any_rabbitmq.ctl("add_user", experiment, "pw")
    try:
        any_rabbitmq.ctl("set_permissions", experiment, ".*", ".*", ".*")
        mine = BrokerSettings(f"amqp://{experiment}@127.0.0.1:{any_rabbitmq.port}", password="pw")
        steering, worker = steering_end(mine, experiment, RUN), worker_end(mine, experiment)
        steering.open()
        worker.open()
        any_rabbitmq.ctl("set_permissions", experiment, "", "", "")
        any_rabbitmq.ctl("close_all_connections", "for a test")
        worker.publish(result(experiment, 1), token=1)
        for end in (steering, worker):
            eventually(lambda end=end: "ACCESS_REFUSED" in trouble(end))  # type: ignore[misc]
            assert "permissions" in trouble(end), "it names the command that mends it"
            assert "pw" not in trouble(end)
        any_rabbitmq.ctl("set_permissions", experiment, ".*", ".*", ".*")
        collect(worker, Confirmed, 1, within_s=30)
        assert points(collect(steering, Delivery, 1, within_s=30)) == [1]
        eventually(lambda: worker.status().trouble is steering.status().trouble is None)
        worker.close()
        steering.close()
    finally:
        any_rabbitmq.ctl("delete_user", experiment)


def test_frames_cut_in_half_lose_nothing(
    any_rabbitmq: RabbitNode, experiment: str, settings: BrokerSettings
) -> None:
    with Proxy(any_rabbitmq.port) as proxy:
        behind = BrokerSettings(f"amqp://guest:guest@127.0.0.1:{proxy.port}/")
        steering, worker = steering_end(settings, experiment, RUN), worker_end(behind, experiment)
        steering.open()
        worker.open()
        proxy.cut_after((Way.TO_SERVER, 30_000), (Way.TO_CLIENT, 1_003), (Way.TO_SERVER, 50_001))
        for n in range(100):
            worker.publish(result(experiment, n).model_copy(update={"log": "x" * 2_000}), token=n)
        told, confirmed = set[int](), set[object]()
        deadline = time.monotonic() + 60
        while len(told) < 100 or len(confirmed) < 100:
            assert time.monotonic() < deadline, (len(told), len(confirmed), worker.status())
            events = [item for item in steering.receive() if isinstance(item, Delivery)]
            told.update(points(events))
            steering.settle(events)
            confirmed.update(
                token for item in worker.receive() if isinstance(item, Confirmed) for token in item.tokens
            )
            time.sleep(0.02)
        assert proxy.cuts >= 1
        worker.close()
        steering.close()


@pytest.mark.parametrize("after", [1, 100, 480, 560])
def test_a_broker_that_goes_in_the_middle_of_the_handshake_is_tried_again(
    any_rabbitmq: RabbitNode, experiment: str, after: int
) -> None:
    with Proxy(any_rabbitmq.port) as proxy:
        proxy.cut_after((Way.TO_CLIENT, after))
        said: list[str] = []
        end = worker_end(
            BrokerSettings(f"amqp://guest:guest@127.0.0.1:{proxy.port}/"), experiment, on_retry=said.append
        )
        end.open()
        assert said
        assert proxy.cuts == 1
        assert end.status().connected
        end.close()


def test_a_goodbye_without_an_answer_does_not_last(any_rabbitmq: RabbitNode, experiment: str) -> None:
    with Proxy(any_rabbitmq.port) as proxy:
        end = worker_end(BrokerSettings(f"amqp://guest:guest@127.0.0.1:{proxy.port}/"), experiment)
        end.open()
        proxy.stall(Way.TO_SERVER)
        began = time.monotonic()
        end.close()
        assert time.monotonic() - began < 10
        assert not end.status().connected
