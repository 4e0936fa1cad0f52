"""Every transport against the one contract."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from hpo_steer.testing.transport import RUN, TransportContract, TransportSite
from hpo_steer.transport import BrokerSettings, steering_end, worker_end
from hpo_steer.transport.base import SteeringEnd, WorkerEnd
from hpo_steer.transport.local import DEAD_LETTERS, LocalSteeringEnd, LocalWorkerEnd
from hpo_steer.transport.local_wire import Kind, Wire
from hpo_steer.transport.rabbitmq import RabbitWorkerEnd
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
        for name in ("control", "dead"):
            self._channel.exchange_delete(f"hpo.{self.experiment}.{name}")
        self._connection.close()


class TestLocal(TransportContract):
    @pytest.fixture
    def site(self, tmp_path: Path) -> LocalSite:
        return LocalSite(tmp_path)


@pytest.mark.rabbitmq
class TestRabbitMQ(TransportContract):
    @pytest.fixture
    def site(self, rabbitmq: RabbitNode) -> Iterator[RabbitSite]:
        site = RabbitSite(rabbitmq)
        yield site
        site.close()
