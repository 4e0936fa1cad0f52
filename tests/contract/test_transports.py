"""Every transport against the one contract."""

from __future__ import annotations

import json
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pika
import pytest

from hpo_steer.errors import BrokerError, ConfigError, MalformedMessage
from hpo_steer.messages import Work
from hpo_steer.testing.transport import RUN, Ends, TransportContract, TransportSite, collect
from hpo_steer.transport import ADDRESS, BrokerSettings, redact, steering_end, worker_end
from hpo_steer.transport.base import Released, SteeringEnd, WorkerEnd
from hpo_steer.transport.local import LocalSteeringEnd, LocalWorkerEnd
from hpo_steer.transport.local_exchange import DEAD_LETTERS
from hpo_steer.transport.local_wire import Kind, Wire
from hpo_steer.transport.rabbitmq import RabbitWorkerEnd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.rabbitmq import RabbitNode


class LocalSite(TransportSite):
    """One machine, no broker."""

    durable = False

    def __init__(self, folder: Path) -> None:
        self.experiment = "digits"
        self._folder = folder
        self._steering: LocalSteeringEnd | None = None

    def steering(self, run: str = RUN) -> SteeringEnd:
        end = steering_end(BrokerSettings("local"), self.experiment, run, folder=self._folder)
        assert isinstance(end, LocalSteeringEnd)
        end.open()
        self._steering = end
        return end

    def worker(self, run: str | None = RUN) -> WorkerEnd:
        assert self._steering is not None
        end = worker_end(BrokerSettings("local"), self.experiment, run, address=self._steering.address)
        end.open()
        return end

    def kill(self, worker: WorkerEnd) -> None:
        assert isinstance(worker, LocalWorkerEnd)
        worker._line.end()

    def inject_work(self, body: bytes) -> None:
        assert self._steering is not None
        self._steering._exchange.call(self._steering._exchange.enqueue, [body])

    def inject_event(self, body: bytes) -> None:
        assert self._steering is not None
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self._steering.address)
            wire = Wire(sock)
            wire.put(Kind.EVENT, 0, body)
            sock.setblocking(True)
            wire.flush()

    def dead_letters(self) -> list[tuple[str, bytes]]:
        path = self._folder / DEAD_LETTERS
        lines = path.read_text().splitlines() if path.exists() else []
        return [(letter["reason"], letter["body"].encode()) for letter in map(json.loads, lines)]


class RabbitSite(TransportSite):
    """A real RabbitMQ node."""

    durable = True

    def __init__(self, node: RabbitNode) -> None:
        self.experiment = f"e-{uuid.uuid4().hex[:12]}"
        self.settings = BrokerSettings(node.url)
        self._letters: list[tuple[str, bytes]] = []
        self._connection = pika.BlockingConnection(pika.URLParameters(node.url))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()  # what is injected is in the queue before anything else is sent

    def steering(self, run: str = RUN) -> SteeringEnd:
        end = steering_end(self.settings, self.experiment, run)
        end.open()
        return end

    def worker(self, run: str | None = RUN) -> WorkerEnd:
        end = worker_end(self.settings, self.experiment, run)
        end.open()
        return end

    def kill(self, worker: WorkerEnd) -> None:
        assert isinstance(worker, RabbitWorkerEnd)
        worker._session.close()

    def inject_work(self, body: bytes) -> None:
        self._channel.basic_publish("", f"hpo.{self.experiment}.work", body)

    def inject_event(self, body: bytes) -> None:
        self._channel.basic_publish("", f"hpo.{self.experiment}.events", body)

    def dead_letters(self) -> list[tuple[str, bytes]]:
        while True:
            method, properties, body = self._channel.basic_get(f"hpo.{self.experiment}.dead", auto_ack=True)
            if method is None:
                return list(self._letters)
            self._letters.append((properties.headers["x-reason"], body))

    def close(self) -> None:
        for name in ("work", "events", "dead"):
            self._channel.queue_delete(f"hpo.{self.experiment}.{name}")
        for name in ("work.in", "events.in", "control", "bundles", "dead"):
            self._channel.exchange_delete(f"hpo.{self.experiment}.{name}")
        self._connection.close()


class TestLocal(TransportContract):
    @pytest.fixture
    def site(self, tmp_path: Path) -> LocalSite:
        return LocalSite(tmp_path)

    def test_workers_are_released_when_steering_ends(self, ends: Ends) -> None:
        steering, worker = ends.steering(), ends.worker(1)
        steering.close()
        collect(worker, Released, 1)
        assert not worker.status().connected
        worker.publish(self.result(ends, 1), token="kept in the spool")
        worker.close()

    def test_the_socket_is_ours_alone_and_goes_with_steering(self, ends: Ends) -> None:
        steering = ends.steering()
        assert isinstance(steering, LocalSteeringEnd)
        folder = Path(steering.worker_environment[ADDRESS]).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        steering.close()
        assert not folder.exists()

    def test_a_long_tmpdir_leaves_room_for_the_socket(
        self, ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        long = tmp_path / ("d" * 120)
        long.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(long))
        ends.steering()
        assert ends.worker().status().connected


@pytest.mark.rabbitmq
class TestRabbitMQ(TransportContract):
    @pytest.fixture
    def site(self, any_rabbitmq: RabbitNode) -> Iterator[RabbitSite]:
        site = RabbitSite(any_rabbitmq)
        yield site
        site.close()


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "password", "vhost"),
    [
        ("amqp://h", "h", 5672, "guest", None, "/"),
        ("amqps://h/", "h", 5671, "guest", None, "/"),
        ("amqps://ann:s%40cret@h:99/a%2Fb", "h", 99, "ann", "s@cret", "a/b"),
        ("amqp://ann@[::1]:99/v", "::1", 99, "ann", None, "v"),
    ],
)
def test_a_url_is_understood(
    url: str, host: str, port: int, user: str, password: str | None, vhost: str
) -> None:
    settings = BrokerSettings(url)
    assert (settings.host, settings.port, settings.user) == (host, port, user)
    assert (settings.password, settings.vhost) == (password, vhost)
    assert settings.tls == url.startswith("amqps")


def test_a_password_is_never_shown() -> None:
    settings = BrokerSettings("amqp://ann:opensesame@h/v")
    assert "opensesame" not in repr(settings) + settings.url + redact("amqp://ann:opensesame@h/v")
    assert settings.url == "amqp://ann@h/v"
    with pytest.raises(ConfigError) as caught:
        BrokerSettings("amqp://ann:opensesame@h:port/v")
    assert "opensesame" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "rabbit", "http://h", "amqp://", "amqp:///v", "amqp://h:0", "amqp://h?x=1"]
)
def test_a_wrong_url_is_an_error_of_the_config(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^broker: "):
        BrokerSettings(url)


def test_a_local_worker_on_its_own_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    with pytest.raises(BrokerError, match="--broker amqps://"):
        worker_end(BrokerSettings(), "digits")
    with pytest.raises(BrokerError, match="no steering process"):
        worker_end(BrokerSettings(), "digits", address=str(tmp_path / "none")).open()


def test_a_message_that_nobody_would_take_is_not_sent(tmp_path: Path) -> None:
    site = LocalSite(tmp_path)
    steering, worker = site.steering(), site.worker()
    huge = Work(
        experiment="digits",
        run=RUN,
        point=1,
        attempt=1,
        model="m",
        iteration=1,
        params={"x": "m" * 1_100_000},
    )
    with pytest.raises(MalformedMessage, match="belong in files"):
        steering.publish([huge])
    worker.close()
    steering.close()
