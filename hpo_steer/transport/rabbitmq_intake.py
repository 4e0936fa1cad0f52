"""What comes from one queue of the broker, within a credit.

A delivery of the broker may be a bundle of messages. Its members share its tag and are settled one by one; the
broker hears of it when all are.
"""

from __future__ import annotations

from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, TypeAlias

from pika.exceptions import AMQPError

from hpo_steer.transport.bundle import unpack

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
        on_messages: given each delivery's tag, its messages, and whether it may have been handed out before.
    """

    def __init__(self, queue: str, on_messages: Callable[[Tag, list[bytes], bool], None]) -> None:
        self._queue, self._on_messages = queue, on_messages
        self._channel: Any = None
        self._connection = 0
        self._credit = 0
        self._in_hand: dict[int, int] = {}  # delivery: number of its consumer
        self._members: dict[int, int] = {}  # delivery: members not settled yet
        self._returned: set[int] = set()  # deliveries of which a member was given back
        self._bundle = 1  # members of the latest delivery
        self._numbers = count(1)
        self._consumer: int | None = None
        self._room = 0  # what the present consumer may still be sent
        self._changing = False
        self.taken = 0
        """Deliveries so far."""

    @property
    def queue(self) -> str:
        """The queue's name."""
        return self._queue

    @property
    def hungry(self) -> bool:
        """Whether the broker owes us a delivery as soon as there is a message."""
        return self._channel is not None and (self._changing or self._room > 0)

    def attach(self, channel: Any, connection: int) -> None:
        """Consumes through a new channel from now on."""
        self._channel, self._connection = channel, connection
        self._adjust(eager=True)

    def detach(self) -> None:
        """The channel is gone, and with it all deliveries."""
        self._channel = self._consumer = None
        self._room, self._changing = 0, False
        self._in_hand.clear()
        self._members.clear()
        self._returned.clear()

    def set_credit(self, n: int) -> None:
        """Lets at most `n` messages be in hand (bundles are counted by the size of the latest)."""
        self._credit = min(n, _MOST)
        self._adjust(eager=True)

    def settle(self, tags: Iterable[Tag]) -> None:
        """Acknowledges messages: one frame for all before the first that stays, else one for each."""
        wanted = self._ended(tags)
        self._give_back(wanted & self._returned)
        wanted = {tag for tag in wanted if tag in self._in_hand}
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
        """Gives messages back; a bundle goes back once all its members were settled or given back."""
        tags = list(tags)
        self._returned.update(tag for connection, tag in tags if connection == self._connection)
        self._give_back(self._ended(tags))

    def _give_back(self, wanted: set[int]) -> None:
        try:
            for tag in sorted(wanted, reverse=True):
                self._channel.basic_nack(tag, requeue=True)
        except AMQPError:
            return
        self._forget(wanted)

    def _ended(self, tags: Iterable[Tag]) -> set[int]:
        """Counts members down; the deliveries of which none is left."""
        members = self._members
        ended = set()
        for connection, tag in tags:
            if connection == self._connection and tag in members:
                members[tag] -= 1
                if members[tag] <= 0:
                    ended.add(tag)
        return ended

    def _forget(self, tags: Iterable[int]) -> None:
        for tag in tags:
            del self._members[tag]
            self._returned.discard(tag)
            if self._in_hand.pop(tag) == self._consumer:
                self._room += 1
        self._adjust()

    def _adjust(self, *, eager: bool = False) -> None:
        """Makes the consumer fit the credit, if need be."""
        if self._channel is None or self._changing:
            return
        free = -(-self._credit // self._bundle) - len(self._in_hand)
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

        def deliver(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            if self._channel is channel:
                self._take(number, method, unpack(body, properties.content_type))

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

    def _take(self, number: int, method: Any, bodies: list[bytes]) -> None:
        tag = method.delivery_tag
        self.taken += 1
        self._in_hand[tag] = number
        self._bundle = self._members[tag] = len(bodies)
        if number == self._consumer:
            self._room -= 1
        self._on_messages((self._connection, tag), bodies, method.redelivered)
        if self._room <= 0:
            self._adjust()
