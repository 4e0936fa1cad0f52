"""Messages gone wrong, into every queue of a run and into the sockets of the local transport: nothing stops."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from benchmarks.fuzz import Broker, fuzz
from benchmarks.mutations import CLASSES, HOPELESS, JSON, Mutant, Mutator
from benchmarks.odd_headers import ODD, RawHeaders
from hpo_steer.messages import Result, Work
from hpo_steer.testing.transport import collect, eventually
from hpo_steer.transport import BrokerSettings, steering_end
from hpo_steer.transport.base import Delivery, Disconnected
from hpo_steer.transport.local import LocalSteeringEnd, LocalWorkerEnd
from hpo_steer.transport.local_exchange import DEAD_LETTERS, MOST_UNSENT, DeadLetters
from hpo_steer.transport.local_wire import Kind, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.rabbitmq import RabbitNode

RUN = "r"
HEADER = struct.Struct(">IBQ")


@pytest.mark.rabbitmq
@pytest.mark.slow
def test_two_thousand_bad_messages_stop_nothing(rabbitmq: RabbitNode) -> None:
    """Points and values of a run left alone, each bad message a dead letter, no connection lost, no growth."""
    found = fuzz(rabbitmq.url, 2_000, seed=3)
    assert found["wrong"] == []
    assert found["same_as_undisturbed"]
    assert set(found["sent"]) >= set(CLASSES) - {"huge text", "oversized", "huge bundle"}  # rare
    assert found["dead_letters"] >= 1_500
    for figures in found["memory"].values():
        assert figures["growth_mib"] < 30


@pytest.mark.rabbitmq
def test_headers_that_nobody_can_read_cost_no_connection(rabbitmq: RabbitNode) -> None:
    """Brokers pass them on, pika's decoder fails on some: the message would come again for ever."""
    name = f"odd-{uuid.uuid4().hex[:8]}"
    steering = steering_end(BrokerSettings(rabbitmq.url), name, RUN)
    steering.open()
    broker = Broker(rabbitmq.url, name)
    try:
        for table in ODD.values():
            broker.send(Mutant("odd headers", "events", b"{}", RawHeaders(table)))
        broker.send(
            Mutant("", "events", result(1, name).encoded(), RawHeaders(ODD["a time beyond the year 9999"]))
        )
        items = collect(steering, (Delivery, Disconnected), 1)
        assert [item.message for item in items] == [result(1, name)]
        eventually(lambda: broker.depth("dead") == len(ODD))
    finally:
        steering.close()
        broker.close()


def test_mutants_are_the_same_for_the_same_seed() -> None:
    first, second = Mutator("e", RUN, 5), Mutator("e", RUN, 5)
    assert [first.next().body for _ in range(300)] == [second.next().body for _ in range(300)]
    assert set(CLASSES) > HOPELESS


class Local:
    """Steering's end of the local transport, and a true worker's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steering = LocalSteeringEnd("digits", RUN, folder)
        self.steering.open()
        self.worker = LocalWorkerEnd("digits", RUN, self.steering.address)
        self.worker.open()
        self.strangers: list[socket.socket] = []

    def stranger(self) -> socket.socket:
        """A socket that may send anything."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(self.steering.address)
        sock.settimeout(20)
        self.strangers.append(sock)
        return sock

    def workers(self) -> str:
        return self.steering.status().detail

    def works(self) -> None:
        """A point goes out and its result comes back."""
        self.worker.set_credit(1)
        self.steering.publish([work(1)])
        self.worker.settle(collect(self.worker, Delivery, 1))
        self.worker.publish(result(1), token="t")
        deliveries = collect(self.steering, Delivery, 1)
        assert [d.message for d in deliveries] == [result(1)]
        self.steering.settle(deliveries)

    def letters(self) -> list[dict[str, str]]:
        path = self.folder / DEAD_LETTERS
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        for sock in self.strangers:
            sock.close()
        self.worker.close()
        self.steering.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    site = Local(tmp_path)
    yield site
    site.close()


def work(point: int) -> Work:
    return Work(experiment="digits", run=RUN, point=point, attempt=1, model="m", iteration=1, params={})


def result(point: int, experiment: str = "digits") -> Result:
    about = {"experiment": experiment, "run": RUN, "worker": "w", "at": 0.0, "point": point, "attempt": 1}
    return Result.model_validate({**about, "metrics": {"loss": 0.5}, "started_at": 0.0, "duration_s": 0.0})


def ended(sock: socket.socket) -> bool:
    """Whether the other side hangs up."""
    try:
        while sock.recv(65_536):
            pass
    except ConnectionError:
        return True
    return True


@pytest.mark.parametrize(
    "sent",
    [
        HEADER.pack(2**32 - 1, Kind.EVENT, 1),
        HEADER.pack(0, 99, 0),
        HEADER.pack(0, 0, 0),
        HEADER.pack(0, Kind.WORK, 1),
        HEADER.pack(2, Kind.CONTROL, 1) + b"{}",
        HEADER.pack(7, Kind.SETTLE, 0) + b"\0" * 7,
        HEADER.pack(9, Kind.RELEASE, 0) + b"\0" * 9,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 5_000,
    ],
)
def test_who_sends_no_frames_is_hung_up_on(local: Local, sent: bytes) -> None:
    stranger = local.stranger()
    stranger.sendall(sent)
    assert ended(stranger)
    local.works()


def test_half_a_frame_is_waited_for_and_forgotten(local: Local) -> None:
    body = result(7).encoded()
    stranger = local.stranger()
    frame = HEADER.pack(len(body), Kind.EVENT, 0) + body
    stranger.sendall(frame[:20])
    local.works()
    stranger.sendall(frame[20:])
    assert [d.message for d in collect(local.steering, Delivery, 1)] == [result(7)]
    stranger.sendall(frame[:-1])
    stranger.close()
    eventually(lambda: local.workers() == "local, 1 worker")
    local.works()


def test_mutants_over_the_socket_are_dead_letters(local: Local) -> None:
    stranger, mutator = local.stranger(), Mutator("digits", RUN, 11)
    bodies: list[bytes] = []
    while len(bodies) < 1_000:
        mutant = mutator.next()
        if mutant.queue == "events" and mutant.kind in HOPELESS and mutant.properties.content_type == JSON:
            bodies.append(mutant.body)
    for body in bodies:
        stranger.sendall(HEADER.pack(len(body), Kind.EVENT, 0) + body)
    eventually(lambda: len(local.letters()) == len(bodies), within_s=60)
    assert all(
        0 < len(letter["reason"]) <= 1_000 and letter["reason"].isprintable() for letter in local.letters()
    )
    assert max(len(letter["body"]) for letter in local.letters()) <= 1_048_576
    local.works()


def test_noise_on_the_socket_stops_nothing(local: Local) -> None:
    noise = random.Random(1)  # noqa: S311 - no secret
    for _ in range(200):
        stranger = local.stranger()
        kind = noise.choice([*range(12), 255])
        length = noise.choice((0, 1, 8, 100, 2**31))
        stranger.sendall(HEADER.pack(length, kind, noise.getrandbits(64)) + noise.randbytes(min(length, 100)))
        stranger.close()
    local.works()
    eventually(lambda: local.workers() == "local, 1 worker")


def test_a_client_that_never_reads_is_given_up_and_its_work_goes_on(local: Local) -> None:
    stranger = local.stranger()
    stranger.sendall(HEADER.pack(0, Kind.CREDIT, 10_000))
    memory = psutil.Process()
    before = memory.memory_info().rss
    big = work(5).model_copy(update={"params": {"a": "x" * 900_000}})
    eventually(lambda: local.workers() == "local, 2 workers")
    number = MOST_UNSENT // 900_000 + 10
    for point in range(number):
        local.steering.publish([big.model_copy(update={"point": point})])
    eventually(lambda: local.workers() == "local, 1 worker", within_s=60)
    assert memory.memory_info().rss - before < 6 * MOST_UNSENT
    local.worker.set_credit(3)
    taken = collect(local.worker, Delivery, 3)
    assert sorted(d.message.point for d in taken) == [0, 1, 2]
    assert all(d.redelivered for d in taken)


def test_the_dead_letters_of_a_folder_stay_small(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path, most_bytes=10_000)
    for n in range(1_000):
        letters.write("events", b"x" * 50, f"number {n}\x1b[31m")
    letters.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert sum(sizes) < 25_000
    newest = json.loads((tmp_path / DEAD_LETTERS).read_text().splitlines()[-1])
    assert newest["reason"] == "number 999?[31m"
    assert newest["at"] <= time.time()


def test_a_wire_takes_no_frame_beyond_its_bound() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire = Wire(ours)
        theirs.sendall(HEADER.pack(5 * 1_048_576, Kind.EVENT, 0) + b"x" * 1000)
        with pytest.raises(Exception, match="no frame of ours: kind 1, 5,242,880 bytes"):
            list(wire.frames())
