"""The RabbitMQ transport when things go wrong: dead brokers, wrong passwords, alarms, deleted queues."""

from __future__ import annotations

import logging
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import pika
import pytest

from hpo_steer.errors import BrokerError
from hpo_steer.messages import Result, Work
from hpo_steer.testing.transport import collect, eventually, points
from hpo_steer.transport import BrokerSettings, steering_end, worker_end
from hpo_steer.transport.base import Confirmed, Connected, Delivery, Disconnected, SteeringEnd, WorkerEnd
from tests.servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq
RUN = "r"
NEW_QUEUE_S = 2.0
"""RabbitMQ 3.10 says that a new quorum queue is there before it is on disk; killed then, it loses it."""


@pytest.fixture
def experiment() -> str:
    return f"i-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def steering(any_rabbitmq: RabbitNode, experiment: str) -> Iterator[SteeringEnd]:
    end = steering_end(BrokerSettings(any_rabbitmq.url), experiment, RUN)
    end.open()
    yield end
    end.close()


@pytest.fixture
def worker(any_rabbitmq: RabbitNode, experiment: str, steering: SteeringEnd) -> Iterator[WorkerEnd]:
    end = worker_end(BrokerSettings(any_rabbitmq.url), experiment)
    end.open()
    yield end
    end.close()


def work(experiment: str, *numbers: int) -> list[Work]:
    return [
        Work(experiment=experiment, run=RUN, point=n, attempt=1, model="m", iteration=1, params={"x": 1})
        for n in numbers
    ]


def result(experiment: str, point: int) -> Result:
    return Result(
        experiment=experiment,
        run=RUN,
        worker="w",
        at=0.0,
        point=point,
        attempt=1,
        metrics={"loss": 0.5},
        started_at=0.0,
        duration_s=0.0,
    )


def admin(node: RabbitNode) -> Any:
    return pika.BlockingConnection(pika.URLParameters(node.url))


@pytest.mark.slow
def test_nothing_is_lost_when_the_broker_is_killed_in_the_middle(
    any_rabbitmq: RabbitNode, experiment: str, steering: SteeringEnd, worker: WorkerEnd
) -> None:
    time.sleep(NEW_QUEUE_S)
    n = 600
    told, confirmed, disconnected = set[int](), set[object](), 0
    worker.set_credit(20)
    steering.publish(work(experiment, *range(n // 2)))
    killed_at: float | None = None
    restarted = False
    deadline = time.monotonic() + 120
    while len(told) < n or len(confirmed) < n:
        assert time.monotonic() < deadline, (
            f"{len(told)} results, {len(confirmed)} confirmed, {steering.status()}, {worker.status()}"
        )
        select.select([steering.fileno(), worker.fileno()], [], [], 0.5)
        for item in worker.receive():
            if isinstance(item, Delivery):
                worker.publish(result(experiment, item.message.point), token=item.message.point)
                worker.settle([item])
            elif isinstance(item, Confirmed):
                confirmed.update(item.tokens)
            elif isinstance(item, Disconnected):
                disconnected += 1
        events = [item for item in steering.receive() if isinstance(item, Delivery)]
        told.update(points(events))
        steering.settle(events)
        if killed_at is None and len(told) > 50:
            any_rabbitmq.kill()
            killed_at = time.monotonic()
            steering.publish(work(experiment, *range(n // 2, n)))
        elif killed_at is not None and not restarted and time.monotonic() > killed_at + 1:
            assert not steering.status().connected
            any_rabbitmq.start()
            restarted = True
    assert disconnected
    assert told == set(range(n))
    eventually(lambda: steering.status().unconfirmed == 0)


@pytest.mark.slow
def test_work_and_events_outlive_a_broker_that_is_killed(
    any_rabbitmq: RabbitNode, experiment: str, steering: SteeringEnd, worker: WorkerEnd
) -> None:
    time.sleep(NEW_QUEUE_S)
    steering.publish(work(experiment, 1, 2, 3))
    worker.publish(result(experiment, 7), token="t")
    collect(worker, Confirmed, 1)
    [held] = collect(steering, Delivery, 1)
    eventually(lambda: steering.status().unconfirmed == 0)
    any_rabbitmq.kill()
    collect(steering, Disconnected, 1)
    steering.settle([held])  # void: it comes again
    any_rabbitmq.start()
    connected, again = collect(steering, (Connected, Delivery), 2, within_s=40)
    assert isinstance(connected, Connected)
    assert again.message == held.message
    steering.settle([again])
    worker.set_credit(5)
    assert [item.message.point for item in collect(worker, Delivery, 3, within_s=40)] == [1, 2, 3]


def test_a_killed_worker_process_gives_its_work_back(
    any_rabbitmq: RabbitNode, experiment: str, steering: SteeringEnd, worker: WorkerEnd
) -> None:
    steering.publish(work(experiment, 1, 2))
    script = f"""
import select, time
from hpo_steer.transport import BrokerSettings, worker_end
end = worker_end(BrokerSettings({any_rabbitmq.url!r}), {experiment!r})
end.open()
end.set_credit(2)
held = []
while len(held) < 2:
    select.select([end], [], [])
    held += end.receive()
print("held", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGKILL)
    worker.set_credit(5)
    again = collect(worker, Delivery, 2)
    assert [item.message.point for item in again] == [1, 2]
    assert all(item.redelivered for item in again)


def test_no_broker_is_said_after_visible_tries(experiment: str) -> None:
    port, said = free_port(), list[str]()
    settings = BrokerSettings(f"amqp://ann:secret@127.0.0.1:{port}/hpo", connect_timeout_s=1.5)
    with pytest.raises(BrokerError) as caught:
        steering_end(settings, experiment, RUN, on_retry=said.append).open()
    message = str(caught.value)
    assert message.startswith(f"no RabbitMQ at 127.0.0.1:{port}: connection refused (tried ")
    assert message.endswith("times in 1.5 s). Is it running? For a run without a broker: --broker local")
    assert len(said) >= 2
    assert all("connection refused; trying again in" in line for line in said)
    assert "secret" not in message + "".join(said)


def test_a_broker_that_comes_up_late_is_waited_for(any_rabbitmq: RabbitNode, experiment: str) -> None:
    port, said = free_port(), list[str]()

    def come_up(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            processes.append(subprocess.Popen([sys.executable, "-c", relay]))

    relay = f"""
import socket, threading
def pump(a, b):
    while data := a.recv(65536): b.sendall(data)
server = socket.create_server(("127.0.0.1", {port}))
while True:
    a, _ = server.accept()
    b = socket.create_connection(("127.0.0.1", {any_rabbitmq.port}))
    for pair in ((a, b), (b, a)): threading.Thread(target=pump, args=pair, daemon=True).start()
"""
    processes: list[subprocess.Popen[bytes]] = []
    end = worker_end(BrokerSettings(f"amqp://127.0.0.1:{port}"), experiment, on_retry=come_up)
    try:
        end.open()
        assert end.status().connected
    finally:
        end.close()
        for process in processes:
            process.kill()
            process.wait()
    assert said


def test_silence_is_no_broker_either(experiment: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = BrokerSettings(f"amqp://127.0.0.1:{port}", connect_timeout_s=1.0)
        with pytest.raises(BrokerError, match="no answer in time"):
            worker_end(settings, experiment).open()


def test_a_wrong_password_is_said_at_once(
    any_rabbitmq: RabbitNode, experiment: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    began = time.monotonic()
    settings = BrokerSettings(f"amqp://guest:opensesame@127.0.0.1:{any_rabbitmq.port}/")
    with pytest.raises(BrokerError) as caught:
        worker_end(settings, experiment).open()
    assert time.monotonic() - began < 10
    assert f'RabbitMQ at 127.0.0.1:{any_rabbitmq.port} refuses user "guest" (virtual host "/")' in str(
        caught.value
    )
    assert "opensesame" not in str(caught.value) + caplog.text + repr(settings) + settings.url


def test_a_missing_password_is_said(any_rabbitmq: RabbitNode, experiment: str) -> None:
    with pytest.raises(BrokerError, match='no password for user "ann"'):
        worker_end(BrokerSettings(f"amqp://ann@127.0.0.1:{any_rabbitmq.port}"), experiment).open()


def test_a_virtual_host_that_is_not_there_is_said(any_rabbitmq: RabbitNode, experiment: str) -> None:
    with pytest.raises(BrokerError, match=r'the virtual host "nowhere".*add_vhost nowhere'):
        worker_end(BrokerSettings(any_rabbitmq.url + "nowhere"), experiment).open()


def test_a_queue_with_other_arguments_is_said(any_rabbitmq: RabbitNode, experiment: str) -> None:
    name = f"hpo.{experiment}.work"
    connection = admin(any_rabbitmq)
    connection.channel().queue_declare(name, durable=True)
    with pytest.raises(
        BrokerError, match=rf'a queue "{name}" that was made with other arguments.*delete_queue'
    ):
        steering_end(BrokerSettings(any_rabbitmq.url), experiment, RUN).open()
    connection.channel().queue_delete(name)
    connection.close()


def test_missing_permissions_are_said(any_rabbitmq: RabbitNode, experiment: str) -> None:
    any_rabbitmq.ctl("add_user", "bob", "builder")
    try:
        any_rabbitmq.ctl("set_permissions", "-p", "/", "bob", "^$", "^$", "^$")
        settings = BrokerSettings(f"amqp://bob:builder@127.0.0.1:{any_rabbitmq.port}")
        with pytest.raises(
            BrokerError, match=r'refuses user "bob" the exchange "hpo\..*hpo-steer permissions'
        ):
            steering_end(settings, experiment, RUN).open()
        steering = steering_end(BrokerSettings(any_rabbitmq.url), experiment, RUN)
        steering.open()
        with pytest.raises(BrokerError, match=r'refuses user "bob" the queue "hpo\..*hpo-steer permissions'):
            worker_end(settings, experiment).open()
        steering.close()
    finally:
        any_rabbitmq.ctl("delete_user", "bob")


def test_permissions_on_our_names_are_enough(any_rabbitmq: RabbitNode, experiment: str) -> None:
    any_rabbitmq.ctl("add_user", "eve", "pw")
    try:
        any_rabbitmq.ctl("set_permissions", "-p", "/", "eve", r"^hpo\.", r"^(hpo\.|amq\.default$)", r"^hpo\.")
        settings = BrokerSettings(f"amqp://eve@127.0.0.1:{any_rabbitmq.port}", password="pw")
        steering, worker = steering_end(settings, experiment, RUN), worker_end(settings, experiment)
        steering.open()
        worker.open()
        worker.set_credit(1)
        steering.publish(work(experiment, 1))
        worker.settle(collect(worker, Delivery, 1))
        worker.publish(result(experiment, 1), token=1)
        collect(worker, Confirmed, 1)
        steering.settle(collect(steering, Delivery, 1))
        worker.close()
        steering.close()
    finally:
        any_rabbitmq.ctl("delete_user", "eve")


def test_a_memory_alarm_shows_and_results_come_afterwards(
    any_rabbitmq: RabbitNode, experiment: str, steering: SteeringEnd, worker: WorkerEnd
) -> None:
    before = any_rabbitmq.ctl("eval", "vm_memory_monitor:get_vm_memory_high_watermark().").strip()
    any_rabbitmq.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        worker.publish(result(experiment, 0), token=0)  # a broker says it to those who publish
        eventually(lambda: worker.status().blocked is not None)
        assert worker.status().connected
        assert "memory" in str(worker.status().blocked)
        for n in range(1, 20):
            worker.publish(result(experiment, n), token=n)
        eventually(lambda: worker.status().unconfirmed == 20)
    finally:
        any_rabbitmq.ctl("set_vm_memory_high_watermark", before)
    assert {item.message.point for item in collect(steering, Delivery, 20)} == set(range(20))
    eventually(lambda: worker.status().blocked is None and worker.status().unconfirmed == 0)


@pytest.mark.parametrize("queue", ["work", "events"])
def test_a_deleted_queue_is_made_anew(
    any_rabbitmq: RabbitNode, experiment: str, steering: SteeringEnd, worker: WorkerEnd, queue: str
) -> None:
    worker.set_credit(1)
    connection = admin(any_rabbitmq)
    connection.channel().queue_delete(f"hpo.{experiment}.{queue}")
    connection.close()
    (disconnected,) = collect(worker if queue == "work" else steering, Disconnected, 1)
    assert disconnected.reason == "the broker ended our consumer"
    steering.publish(work(experiment, 1))
    worker.settle(collect(worker, Delivery, 1))
    worker.publish(result(experiment, 1), token=1)
    assert collect(steering, Delivery, 1)[0].message == result(experiment, 1)


def test_a_message_without_a_queue_is_sent_again(any_rabbitmq: RabbitNode, experiment: str) -> None:
    worker = worker_end(
        BrokerSettings(any_rabbitmq.url), experiment
    )  # no credit: it consumes no queue of these
    worker.open()
    connection = admin(any_rabbitmq)
    connection.channel().queue_delete(f"hpo.{experiment}.events")
    worker.publish(result(experiment, 1), token="t")
    assert [item.tokens for item in collect(worker, Confirmed, 1)] == [["t"]]
    assert (
        connection.channel().queue_declare(f"hpo.{experiment}.events", passive=True).method.message_count == 1
    )
    connection.close()
    worker.close()


def test_a_connection_that_an_operator_closes_comes_back(
    any_rabbitmq: RabbitNode, experiment: str, steering: SteeringEnd, worker: WorkerEnd
) -> None:
    worker.set_credit(3)
    steering.publish(work(experiment, 1))
    collect(worker, Delivery, 1)
    any_rabbitmq.ctl("close_all_connections", "for a test")
    collect(worker, Disconnected, 1)
    connected, again = collect(worker, (Connected, Delivery), 2)
    assert isinstance(connected, Connected)
    assert again.redelivered
    worker.settle([again])


def test_a_plain_port_is_no_tls_port(any_rabbitmq: RabbitNode, experiment: str) -> None:
    settings = BrokerSettings(f"amqps://guest:guest@127.0.0.1:{any_rabbitmq.port}", connect_timeout_s=1.5)
    with pytest.raises(BrokerError, match="speaks no TLS: use RabbitMQ"):
        worker_end(settings, experiment).open()


def test_missing_certificates_are_said(any_rabbitmq: RabbitNode, experiment: str, tmp_path: Any) -> None:
    settings = BrokerSettings("amqps://guest@127.0.0.1", ca_file=tmp_path / "none.pem")
    with pytest.raises(BrokerError, match=r"none\.pem"):
        worker_end(settings, experiment).open()
    assert ssl.HAS_SNI
