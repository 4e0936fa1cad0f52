"""What comes from one queue of the broker, within a credit."""

from __future__ import annotations

from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, TypeAlias

from pika.exceptions import AMQPError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Tag: TypeAlias = tuple[int, int]
"""The connection, counted, and the broker's number for the delivery; void once the connection has changed."""

_MOST = 10_000


class Intake:
    """Consumes a queue with at most `credit` deliveries in hand. All methods run in the I/O thread.

    The broker counts the credit of each consumer by itself, and it can't be changed. So a new credit means a
    new consumer, with room for what the deliveries in hand leave of it. A steady
    flow needs no changes at all.

    Args:
        queue: the name of the queue.
        on_message: given each delivery's tag, body, and whether it may have been handed out before.
    """

    def __init__(self, queue: str, on_message: Callable[[Tag, bytes, bool], None]) -> None:
        self._queue, self._on_message = queue, on_message
        self._channel: Any = None
        self._connection = 0
        self._credit = 0
        self._in_hand: dict[int, int] = {}  # delivery: number of its consumer
        self._numbers = count(1)
        self._consumer: int | None = None
        self._room = 0  # what the present consumer may still be sent
        self._changing = False

    def attach(self, channel: Any, connection: int) -> None:
        """Consumes through a new channel from now on."""
        self._channel, self._connection = channel, connection
        self._adjust(eager=True)

    def detach(self) -> None:
        """The channel is gone, and with it all deliveries."""
        self._channel = self._consumer = None
        self._room, self._changing = 0, False
        self._in_hand.clear()

    def set_credit(self, n: int) -> None:
        """Lets at most `n` deliveries be in hand."""
        self._credit = min(n, _MOST)
        self._adjust(eager=True)

    def settle(self, tags: Iterable[Tag]) -> None:
        """Acknowledges deliveries: one frame for all before the first that stays, else one for each."""
        wanted = self._valid(tags)
        if not wanted:
            return
        first = list(takewhile(wanted.__contains__, self._in_hand))
        try:
            if first:
                self._channel.basic_ack(first[-1], multiple=True)
            for tag in sorted(wanted.difference(first)):
                self._channel.basic_ack(tag)
        except AMQPError:
            return  # the channel is closing: the deliveries will come again
        self._forget(wanted)

    def release(self, tags: Iterable[Tag]) -> None:
        """Gives deliveries back."""
        wanted = self._valid(tags)
        try:
            for tag in sorted(wanted, reverse=True):
                self._channel.basic_nack(tag, requeue=True)
        except AMQPError:
            return
        self._forget(wanted)

    def _valid(self, tags: Iterable[Tag]) -> set[int]:
        return {tag for connection, tag in tags if connection == self._connection and tag in self._in_hand}

    def _forget(self, tags: Iterable[int]) -> None:
        for tag in tags:
            if self._in_hand.pop(tag) == self._consumer:
                self._room += 1
        self._adjust()

    def _adjust(self, *, eager: bool = False) -> None:
        """Makes the consumer fit the credit, if need be."""
        if self._channel is None or self._changing:
            return
        free = self._credit - len(self._in_hand)
        if self._consumer is None:
            if free > 0:
                self._consume(free)
        elif self._room > free or (self._room < free and (eager or self._room == 0)):
            self._cancel()

    def _consume(self, room: int) -> None:
        self._changing = True
        number = next(self._numbers)
        channel = self._channel

        def consuming(_frame: Any) -> None:
            if self._channel is channel:
                self._changing = False
                self._adjust()

        def deliver(_channel: Any, method: Any, _properties: Any, body: bytes) -> None:
            if self._channel is channel:
                self._take(number, method.delivery_tag, body, method.redelivered)

        try:
            channel.basic_qos(prefetch_count=room, callback=lambda _frame: None)
            channel.basic_consume(self._queue, deliver, consumer_tag=f"{number}", callback=consuming)
        except AMQPError:
            return  # the channel is closing
        self._consumer, self._room = number, room

    def _cancel(self) -> None:
        self._changing = True
        channel = self._channel

        def cancelled(_frame: Any) -> None:
            if self._channel is channel:
                self._changing, self._consumer, self._room = False, None, 0
                self._adjust(eager=True)

        try:
            channel.basic_cancel(f"{self._consumer}", callback=cancelled)
        except AMQPError:
            return  # the channel is closing

    def _take(self, number: int, tag: int, body: bytes, redelivered: bool) -> None:
        self._in_hand[tag] = number
        if number == self._consumer:
            self._room -= 1
        self._on_message((self._connection, tag), body, redelivered)
        if self._room <= 0:
            self._adjust()
