"""The ceiling: points through RabbitMQ with pika alone, no steering, no store, no training.

One process publishes persistent messages to a quorum queue with confirms awaited in bulk; two echo workers answer
each with a persistent, confirmed message and then acknowledge it; the first process acknowledges the answers.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from typing import Any

import pika

_PREFETCH = 100
_PERSISTENT = pika.BasicProperties(delivery_mode=2)


class _Bulk:
    """Publishes on one connection and counts the confirms of it."""

    def __init__(self, url: str, on_ready: Any, on_confirmed: Any) -> None:
        self.unconfirmed = 0
        self._on_ready, self._on_confirmed = on_ready, on_confirmed
        self.connection = pika.SelectConnection(pika.URLParameters(url), on_open_callback=self._opened)

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._channel)

    def _channel(self, channel: Any) -> None:
        self.channel = channel
        self._tag = self._done = 0
        channel.confirm_delivery(self._confirm, callback=lambda _: self._on_ready(channel))

    def publish(self, queue: str, body: bytes) -> int:
        self._tag += 1
        self.channel.basic_publish("", queue, body, _PERSISTENT)
        return self._tag

    def _confirm(self, frame: Any) -> None:
        method = frame.method
        first = self._done + 1 if method.multiple else method.delivery_tag
        self._done = max(self._done, method.delivery_tag)
        self._on_confirmed(first, method.delivery_tag)


def _echo(url: str, ready: Any) -> None:
    waiting: dict[int, int] = {}

    def begin(channel: Any) -> None:
        channel.basic_qos(prefetch_count=_PREFETCH)
        channel.basic_consume("work", answer, callback=lambda _: ready.release())

    def answer(_channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        point = json.loads(body)
        reply = json.dumps({"point": point["point"], "attempt": 1, "metrics": {"loss": 0.5}}).encode()
        waiting[bulk.publish("events", reply)] = method.delivery_tag

    def confirmed(first: int, last: int) -> None:
        for tag in range(first, last + 1):
            if (delivery := waiting.pop(tag, None)) is not None:
                bulk.channel.basic_ack(delivery)

    bulk = _Bulk(url, begin, confirmed)
    bulk.connection.ioloop.start()


def round_trips(url: str, points: int) -> float:
    """Sends points to two echo workers and back.

    Returns:
        Points per second, from the first publication to the last answer acknowledged.
    """
    parameters = pika.URLParameters(url)
    setup = pika.BlockingConnection(parameters)
    channel = setup.channel()
    for queue in ("work", "events"):
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_purge(queue)
    context = multiprocessing.get_context("fork")
    ready = context.Semaphore(0)
    workers = [context.Process(target=_echo, args=(url, ready), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    begin = time.perf_counter()
    came = 0
    bodies = [
        json.dumps(
            {"point": i, "attempt": 1, "params": {f"x{k}": 0.123456789 + k for k in range(10)}}
        ).encode()
        for i in range(points)
    ]

    def start(channel: Any) -> None:
        channel.basic_qos(prefetch_count=1000)
        channel.basic_consume("events", came_back)
        for body in bodies:
            bulk.publish("work", body)

    def came_back(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        nonlocal came
        json.loads(body)
        came += 1
        if came % 50 == 0 or came == points:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if came == points:
            bulk.connection.ioloop.stop()

    bulk = _Bulk(url, start, lambda _first, _last: None)
    bulk.connection.ioloop.start()
    took = time.perf_counter() - begin
    for worker in workers:
        worker.kill()
        worker.join()
    channel.queue_delete("work")
    channel.queue_delete("events")
    setup.close()
    return points / took
